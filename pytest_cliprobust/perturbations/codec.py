"""Codec-based 3D common corruptions (Kar, Yeo, Atanov & Zamir, CVPR 2022), with the real encoders.

What the reference does (``create_3dcc/motion_video``): a camera path through the picture gives a clip of
119 frames at 512 pixels and 25 frames a second, out and back again, which moviepy writes with libx264 at
its defaults (CRF 23, preset medium, one group of pictures). H.265 corruptions transcode that clip; bit
errors damage it as it is, in H.264. The result is the last frame, where the camera is back at its start.
The camera moves sideways or forward, as a coin decides.

What ours does: the same, on a clip of five frames. The camera moves sideways along the reference's path
(50 to 75 pixels horizontally, either way, −75 to 75 vertically, at 512 pixels) for a fifth of its length
in two steps, and back; the picture moves as a plane, by whole pixels, reflected at its edges. So the
last frame shows the picture itself, coded like a frame of a film: in part from its predecessors.
Libx264 with the same settings makes the source; its H.265 transcodings use libx265's defaults, as there.
Colours go through 8 bits and 4:2:0 at BT.601's limited range, as every such clip's do.

A picture below 512 pixels coded like that would be hurt 1.5 to 2.4 times as much as a model of its size
sees of the published one, scaled down. H.265 corruptions therefore code small pictures finer
(:class:`_Coding`): at 224 pixels the root mean square error is 0.79 to 1.16 of that, at 336 0.81 to 1.13,
at 384 0.97 to 1.30 (severities 1 to 5, three photographs and five embedded scenes). Coding at 512 pixels
would be exact, at five times the cost. Bit errors have their own scale, :func:`bit_error`.
 Odd sides
and those below 128 pixels are padded for the codec and cut off again (the reference crops odd ones).

Five frames, not 119, because each costs time: on pictures of 224 pixels the error of the last frame
after CRF 24 to 41 was within 0.5 dB of what nine or thirteen frames gave.

These are the only perturbations that make a host round trip: an encoder is a program of the CPU. They are
therefore neither differentiable nor traced by ``torch.compile``, and run under no ``FakeTensorMode``. Each
sample is encoded on its own, by encoders and decoders with one thread each, so that row ``i`` is
bit-identical in every batch; a small pool works on several samples at a time.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pytest_cliprobust.errors import NotRun, Unavailable
from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.registry import register

Pixels = npt.NDArray[np.uint8]

SOURCE = "Kar et al. 2022, ImageNet-3DCC"
PUBLISHED_SIDE = 512

FRAME_RATE = 25
PATH = (0.0, 0.1, 0.2, 0.1, 0.0)
"""Where the camera is at each frame of the clip, as a share of the reference's path."""

SMALLEST_SIDE = 128
"""Pictures with one column of coding tree units (64 pixels) make libx265 read memory that it has not
written, so that the stream differs from run to run; smaller ones make it write beyond its own."""

SOURCE_FACTOR = 23.0
"""Rate factor (CRF) of the source clip."""

SOURCE_OPTIONS = {"preset": "medium", "x264-params": "mbtree=0"}
"""Of libx264, for the source clip: its defaults, but for macroblock-tree rate control, which reads memory
that it has not written in pictures of this size: the stream differed from run to run."""

DETERMINISTIC = "pools=none:frame-threads=1:wpp=0:pmode=0:pme=0:log-level=none:info=0"
"""Of libx265: one thread, and no text about the encoder in the stream."""

FINER = 7.5
"""Steps of the rate factor that a picture of half the published side is coded finer …"""

MORE_BITS = 1.5
"""… and how many times the bits a second it gets beyond that, for :func:`h265_abr`.

A model sees the published picture scaled down to its own size, which hides most of what a codec did.
Both were fitted to that; 4:4:4 below :data:`FULL_COLOUR` is part of it."""

FULL_COLOUR = 384
"""Smaller pictures keep all of their colour (4:4:4): 4:2:0 at 512 pixels has 256 of colour."""

KEPT_BYTES = 2**26
"""Memory for encoded source clips; the severities of a picture share theirs."""


class MissingEncoder(NotRun, Unavailable):
    """PyAV, or the encoder that a corruption needs, is not installed."""


def _require(perturbation: str, *encoders: str) -> None:
    """Check that PyAV has ``encoders``.

    Raises:
        MissingEncoder: it has not.
    """
    remedy = "install PyAV's own wheel: pip install --force-reinstall --only-binary av av"
    try:
        import av
    except ImportError as error:
        raise MissingEncoder(
            f"perturbation {perturbation!r} needs PyAV, which cannot be imported ({error}); {remedy}"
        ) from error
    for name in encoders:
        if name not in av.codecs_available:
            raise MissingEncoder(
                f"perturbation {perturbation!r} needs the encoder {name}, which PyAV "
                f"{av.__version__} comes without; {remedy}"
            )


@dataclass(frozen=True)
class _Stream:
    """An encoded clip.

    Attributes:
        header: parameter sets, kept apart from the packets as an mp4 file does.
        packets: in the order of decoding.
        size: (height, width), both even.
    """

    header: bytes
    packets: tuple[bytes, ...]
    size: tuple[int, int]

    @property
    def bit_rate(self) -> float:
        """Bits a second."""
        return sum(map(len, self.packets)) * 8 * FRAME_RATE / len(PATH)


class _Kept:
    """Encoded source clips by picture, the least recently used dropped first; safe for threads."""

    def __init__(self) -> None:
        self._streams: OrderedDict[bytes, _Stream] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: bytes, make: Callable[[], _Stream]) -> _Stream:
        with self._lock:
            if key in self._streams:
                self._streams.move_to_end(key)
                return self._streams[key]
        stream = make()
        with self._lock:
            if key not in self._streams:
                self._streams[key] = stream
                self._bytes += sum(map(len, stream.packets))
            while self._bytes > KEPT_BYTES:
                _, dropped = self._streams.popitem(last=False)
                self._bytes -= sum(map(len, dropped.packets))
        return stream


_SOURCES = _Kept()


@dataclass(frozen=True)
class _Coding:
    """How pictures of a size are coded, so that a model sees of it what it sees of the published size.

    Attributes:
        pixels: FFmpeg's name of the pixel format.
        octaves: how often the side must be doubled to be the published one; 0 for larger pictures.
    """

    pixels: str = "yuv420p"
    octaves: float = 0.0

    @classmethod
    def of(cls, height: int, width: int) -> _Coding:
        side = min(height, width)
        pixels = "yuv444p" if side < FULL_COLOUR else "yuv420p"
        return cls(pixels, max(math.log2(PUBLISHED_SIDE / side), 0.0))

    def factor(self, published: float) -> float:
        """Return the rate factor for a ``published`` one."""
        return max(published - FINER * self.octaves, 0.0)

    def rate(self, published: float) -> float:
        """Return the bits a second for a share of the source's that is ``published``."""
        return published * math.pow(MORE_BITS, self.octaves)


def _clip(picture: Pixels, right: int, down: int, pixels: str = "yuv420p") -> list[Any]:
    """Return the frames that a moving camera sees of a picture (H, W, 3), padded for the codecs."""
    import av

    height, width = picture.shape[:2]
    tall = max(height + height % 2, SMALLEST_SIDE)
    wide = max(width + width % 2, SMALLEST_SIDE)
    x, y = min(abs(right), width - 1), min(abs(down), height - 1)
    padded = np.pad(picture, ((y, y), (x, x), (0, 0)), mode="reflect")
    padded = np.pad(padded, ((0, tall - height), (0, wide - width), (0, 0)), mode="edge")
    furthest = max(PATH)
    frames = []
    for place in PATH:
        left = x + round(np.sign(right) * x * place / furthest)
        top = y + round(np.sign(down) * y * place / furthest)
        view = np.ascontiguousarray(padded[top : top + tall, left : left + wide])
        frames.append(av.VideoFrame.from_ndarray(view, format="rgb24").reformat(format=pixels))
    return frames


def _encode(frames: Sequence[Any], encoder: str, options: dict[str, str]) -> _Stream:
    import av
    from av.codec.context import Flags

    context: Any = av.CodecContext.create(encoder, "w")
    context.width, context.height = frames[0].width, frames[0].height
    context.pix_fmt = frames[0].format.name
    context.framerate = Fraction(FRAME_RATE)
    context.time_base = Fraction(1, FRAME_RATE)
    context.thread_count = 1
    context.flags |= Flags.global_header
    context.options = options
    packets: list[Any] = []
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, context.time_base
        frame.pict_type = 0  # a decoded frame brings its own type, which would bind the encoder
        packets += context.encode(frame)
    packets += context.encode(None)
    content = [bytes(packet) for packet in packets]
    content[0] = _without_text(content[0])
    return _Stream(bytes(context.extradata or b""), tuple(content), (context.height, context.width))


def _without_text(packet: bytes) -> bytes:
    """Return a first H.264 packet without the 700 bytes in which libx264 tells its settings.

    In the reference's clips they are 0.4 % of the bytes; here they would be a fifth, absorb bit errors
    without harm and raise the bit rate.
    """
    start = packet.find(b"\0\0\1\x06")
    if start < 0:
        return packet
    end = packet.find(b"\0\0\1", start + 4)
    return packet[:start].rstrip(b"\0") + b"\0" + packet[end:] if end > 0 else packet


def _decode(stream: _Stream, decoder: str) -> list[Any]:
    """Return the frames that can be decoded; errors are concealed as FFmpeg's decoder conceals them."""
    import av
    from av.codec.context import Flags

    context: Any = av.CodecContext.create(decoder, "r")
    context.thread_count = 1
    context.flags |= Flags.output_corrupt
    # A damaged stream may claim to be of any size.
    context.options = {"max_pixels": str(4 * stream.size[0] * stream.size[1] + 65536)}
    if stream.header:
        context.extradata = stream.header
    frames: list[Any] = []
    for number, content in enumerate([*stream.packets, None]):
        packet = None
        if content is not None:
            packet = av.Packet(content)
            packet.pts = packet.dts = number
        try:
            frames += context.decode(packet)
        except av.FFmpegError:
            continue
    return [f for f in frames if (f.height, f.width) == stream.size]


def _last_picture(stream: _Stream, decoder: str, height: int, width: int) -> Pixels:
    """Return the last frame (H, W, 3): if it is lost the last one that is not, else mid-grey."""
    frames = _decode(stream, decoder)
    if not frames:
        return np.full((height, width, 3), 128, dtype=np.uint8)
    picture: Pixels = frames[-1].to_ndarray(format="rgb24")
    return picture[:height, :width]


def _source(picture: Pixels, right: int, down: int, coding: _Coding) -> _Stream:
    """Return the H.264 source clip of a picture."""
    key = hashlib.blake2b(digest_size=16)
    key.update(f"{picture.shape} {right} {down} {coding}".encode())
    key.update(np.ascontiguousarray(picture).data)

    def make() -> _Stream:
        options = SOURCE_OPTIONS | {"crf": f"{coding.factor(SOURCE_FACTOR):g}"}
        return _encode(_clip(picture, right, down, coding.pixels), "libx264", options)

    return _SOURCES.get(key.digest(), make)


def _threads() -> int:
    available = getattr(os, "sched_getaffinity", None)
    return min(16, len(available(0)) if available else os.cpu_count() or 1)


def _round_trip(
    images: Tensor,
    seeds: Tensor,
    coding: _Coding,
    corrupt: Callable[[_Stream, int, int, int], Pixels],
) -> Tensor:
    """Apply ``corrupt(source clip, height, width, seed)`` to each sample.

    Args:
        images: (B, 3, H, W) in [0, 1].
        seeds: (B,) int64: of the camera's path, and handed on.
        coding: of the source clip.
        corrupt: from the source clip to a picture (H, W, 3) uint8.
    """
    count, _, height, width = images.shape
    if count == 0:
        return images
    pictures = (images.detach().to(torch.float32) * 255).round().clamp(0, 255).to(torch.uint8).cpu()
    draws = random.uniform(seeds, (3,)).cpu().tolist()
    numbers = seeds.cpu().tolist()

    def one(row: int) -> Pixels:
        sign, across, along = draws[row]
        furthest = max(PATH) / PUBLISHED_SIDE
        right = round((-1 if sign < 0.5 else 1) * (50 + 25 * across) * furthest * width)
        down = round((150 * along - 75) * furthest * height)
        picture: Pixels = np.ascontiguousarray(pictures[row].permute(1, 2, 0).numpy())
        return corrupt(_source(picture, right, down, coding), height, width, numbers[row])

    if count > 1 and _threads() > 1:
        with ThreadPoolExecutor(min(_threads(), count)) as pool:
            results = list(pool.map(one, range(count)))
    else:
        results = [one(row) for row in range(count)]
    stacked = torch.from_numpy(np.stack(results)).permute(0, 3, 1, 2).to(images.device)
    return (stacked.to(torch.float32) / 255).to(images.dtype)


@register(
    severities=tuple({"crf": c} for c in (24.0, 26.0, 32.0, 39.0, 41.0)),
    envelope={"crf": (10.0, 51.0)},
    inputs=("seeds",),
    source=SOURCE,
    version=2,
    differentiable=False,
    compilable=False,
)
def h265_crf(images: Tensor, *, crf: float, seeds: Tensor) -> Tensor:
    """H.265 at a constant rate factor ``crf`` (0 to 51), after the source clip's own H.264.

    Not differentiable and not traced: libx265 runs on the host, see the module's docstring. One core
    takes 17 ms for a picture of 224 pixels, and 15 ms for the source clip, which severities share.

    Raises:
        MissingEncoder: PyAV comes without libx264 or libx265.
    """
    _require("h265_crf", "libx264", "libx265")
    coding = _Coding.of(*images.shape[-2:])

    def corrupt(source: _Stream, height: int, width: int, seed: int) -> Pixels:
        options = {"crf": f"{coding.factor(crf):g}", "x265-params": DETERMINISTIC}
        coded = _encode(_decode(source, "h264"), "libx265", options)
        return _last_picture(coded, "hevc", height, width)

    return _round_trip(images, seeds, coding, corrupt)


@register(
    severities=tuple({"divisor": d} for d in (2.0, 4.0, 8.0, 16.0, 32.0)),
    envelope={"divisor": (1.0, 64.0)},
    inputs=("seeds",),
    source=SOURCE,
    version=2,
    differentiable=False,
    compilable=False,
)
def h265_abr(images: Tensor, *, divisor: float, seeds: Tensor) -> Tensor:
    """H.265 at the source clip's bit rate over ``divisor``, which is also largest rate and buffer size.

    In a short clip the key frame takes most of the bits, and quality falls sooner than in a long one.

    Plain pictures reach the encoder's coarsest quantiser (51) before severity 5 and change no more
    after that; the encoder takes whole kilobits a second. Not differentiable and not traced: libx265
    runs on the host, see the module's docstring. A picture of 224 pixels takes some 17 ms
    of one core, and 10 ms for its source clip, which the severities share.

    Raises:
        MissingEncoder: PyAV comes without libx264 or libx265.
    """
    _require("h265_abr", "libx264", "libx265")
    coding = _Coding.of(*images.shape[-2:])

    def corrupt(source: _Stream, height: int, width: int, seed: int) -> Pixels:
        rate = max(round(coding.rate(source.bit_rate / divisor) / 1000), 1)
        limits = f"bitrate={rate}:vbv-maxrate={rate}:vbv-bufsize={rate}"
        options = {"x265-params": f"{DETERMINISTIC}:{limits}"}
        coded = _encode(_decode(source, "h264"), "libx265", options)
        return _last_picture(coded, "hevc", height, width)

    return _round_trip(images, seeds, coding, corrupt)


@register(
    severities=tuple({"amount": a} for a in (1e5, 5e4, 3e4, 2e4, 1e4)),
    envelope={"amount": (1e7, 5e3)},
    inputs=("seeds",),
    source=SOURCE,
    differentiable=False,
    compilable=False,
)
def bit_error(images: Tensor, *, amount: float, seeds: Tensor) -> Tensor:
    """Damaged bytes in the H.264 clip: FFmpeg's ``noise`` bitstream filter, one byte in ``amount``.

    The filter adds up the bytes that it sees and replaces one whenever the sum is a multiple of the
    amount, starting from nothing; it takes no seed, and would hurt equal clips in equal places. Each
    sample therefore has a filter of its own that has seen a packet before, whose bytes add up to a
    number drawn from the sample's seed.

    ``amount`` is published for clips of 512 pixels and falls with the picture's area: five frames at 224
    pixels have 6.7 kB (photographs) where 119 at 512 have 185 kB. So scaled, the mean squared error of
    the last frame (0 to 255) over four photographs, ten seeds each, was 1375, 2049, 3046, 3276, 4288 at
    severities 1 to 5. A rebuilt clip of the reference's length and size, with its amounts, gave 798,
    2374, 3591, 3149, 5187 over three photographs, six seeds each. Like there, a picture is often
    untouched at severity 1, and often destroyed at 5: severity rules how many are.

    Whatever a damaged stream holds, a picture comes out: FFmpeg's decoder conceals what it can; if the
    last frame is lost the last one decoded stands for it; if none is decoded the picture is mid-grey. Not
    differentiable and not traced: see the module's docstring. A picture of 224 pixels takes 1 ms of one
    core, and 7 ms for its source clip, which the severities share.

    Raises:
        MissingEncoder: PyAV comes without libx264 or the filter.
    """
    _require("bit_error", "libx264")
    area = images.shape[-2] * images.shape[-1] / PUBLISHED_SIDE**2
    scaled = max(round(amount * area), 1)

    def corrupt(source: _Stream, height: int, width: int, seed: int) -> Pixels:
        damaged = _Stream(source.header, _damage(source.packets, scaled, seed), source.size)
        return _last_picture(damaged, "h264", height, width)

    return _round_trip(images, seeds, _Coding(), corrupt)


def _damage(packets: Sequence[bytes], amount: int, seed: int) -> tuple[bytes, ...]:
    """Return packets after FFmpeg's noise filter with ``amount``, whose state ``seed`` has set."""
    import av
    from av.bitstream import BitStreamFilterContext, bitstream_filters_available

    if "noise" not in bitstream_filters_available:
        raise MissingEncoder(
            f"perturbation 'bit_error' needs the bitstream filter noise, which PyAV {av.__version__} "
            "comes without; install PyAV's own wheel: pip install --force-reinstall --only-binary av av"
        )
    context = BitStreamFilterContext(f"noise=amount={amount}")
    # The state grows by each byte's value plus one.
    full, rest = divmod(seed % amount, 256)
    state = b"\xff" * full + (bytes([rest - 1]) if rest else b"")
    # The filter writes into the memory that a packet was made of: each gets a copy.
    if state:
        context.filter(av.Packet(bytearray(state)))
    damaged = [out for content in packets for out in context.filter(av.Packet(bytearray(content)))]
    return tuple(map(bytes, damaged))
