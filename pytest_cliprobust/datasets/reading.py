"""Pictures from files, as users have them: read as they are meant, or refused in one line."""

from __future__ import annotations

import errno
import importlib
import io
import threading
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from pytest_cliprobust.datasets import jpeg
from pytest_cliprobust.errors import UnreadableSample
from pytest_cliprobust.files import irregular

#: Endings of pictures that need a package beside Pillow, which need not be there.
PLUGINS = {
    ".heic": "pillow-heif",
    ".heif": "pillow-heif",
    ".hif": "pillow-heif",
    ".jxl": "pillow-jxl-plugin",
    ".avif": "pillow 11.3 or later",
}

#: File name endings that count as pictures, in lower case.
EXTENSIONS = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff"),
        *(".gif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm", *PLUGINS),
    }
)

#: Pillow's names of what such files hold. Its others are not read: some start a program (EPS Ghostscript),
#: some hold a file of any format in turn (IPTC) or unpack without end (FITS).
FORMATS = frozenset(
    {
        *("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "JXL", "MPO", "PNG", "PPM"),
        *("TIFF", "WEBP"),
    }
)

#: Pixels along a side. A line of memory for each of a hundred million rows takes far more than they do.
MAX_SIDE = 2**16

#: Floating-point levels this far outside their range are rounding.
_ROUNDING = 1e-3

#: The least of the brightest levels of a picture from 0 to 255: below it, it may be one from 0 to 1.
_DARKEST = 16.0

#: The same of one from 0 to 65535: below it, it may have been taken in 12 bits or fewer.
_DARKEST_DEEP = 4096

_QUIET = threading.Lock()


def read_image(path: Path) -> Tensor:
    """Read an image file as (3, H, W) uint8 RGB, turned the way its EXIF orientation says.

    In memory its channels are the innermost, as decoded: most pictures are framed next, and a copy of all of
    one costs a third of decoding it.

    Of several frames the first. 16-bit greys are scaled; levels in floating point count as 0 to 1, 0 to 255
    or 0 to 65535 by their range. No file starts a program: formats are those of :data:`FORMATS`.

    Raises:
        UnreadableSample: the file is no image that Pillow can decode, or no file; the message names it.
    """
    try:
        require_file(path)
        return _pixels(path)
    except MemoryError:
        raise
    except Exception as error:  # what decoders raise on damaged files is not to be foreseen
        reason = _reason(error)
        raise UnreadableSample(
            f"cannot read image {str(path)!r:.500} ({reason}); {_remedy(path, error)}", reason
        ) from error


def decode_image(content: bytes, what: str) -> Tensor:
    """Decode the content of an image file as (3, H, W) uint8 RGB, as :func:`read_image` does.

    Args:
        content: of the file.
        what: the picture, as a message calls it.

    Raises:
        UnreadableSample: it is no image that Pillow can decode.
    """
    try:
        return _pixels(io.BytesIO(content))
    except MemoryError:
        raise
    except Exception as error:  # what decoders raise on damaged files is not to be foreseen
        reason = _reason(error)
        raise UnreadableSample(f"cannot read image {what} ({reason})", reason) from error


def require_picture(file: Image.Image) -> None:
    """Raise unless an opened file, of which nothing is decoded yet, is one of :data:`FORMATS`.

    Raises:
        ValueError: it is not, or has a side of more than :data:`MAX_SIDE` pixels.
    """
    if file.format not in FORMATS:
        raise ValueError(f"its content is {file.format}, which is not read")
    if max(file.size) > MAX_SIDE:
        raise ValueError(f"{max(file.size)} pixels along a side, more than {MAX_SIDE}")


def require_file(path: Path) -> None:
    """Raise unless a path is a file: a pipe or a device never ends.

    Raises:
        OSError: it is none.
    """
    kind = irregular(path)
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, not a file")


def lacks_a_plugin(path: str) -> str | None:
    """Return what has to be installed to read pictures with the ending of ``path``; None: nothing."""
    ending = Path(path).suffix.lower()
    if ending not in PLUGINS:
        return None
    _load_plugins()
    return None if ending in Image.registered_extensions() else PLUGINS[ending]


@cache
def _load_plugins() -> None:
    """Let Pillow read what installed plugins can."""
    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    with suppress(ImportError):
        importlib.import_module("pillow_jxl")
    Image.init()


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no image in a format that Pillow reads"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _remedy(path: Path, error: Exception) -> str:
    needed = lacks_a_plugin(str(path)) if isinstance(error, UnidentifiedImageError) else None
    return f"install {needed}, or convert the file" if needed else "repair or remove the file"


def _pixels(source: Path | io.BytesIO) -> Tensor:
    if isinstance(source, Path) and source.suffix.lower() in PLUGINS:
        _load_plugins()
    try:
        pixels = _decoded(source)
    except Warning:  # an error under -W error: large pictures, odd palettes, damaged EXIF
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = _decoded(source)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _decoded(path: Path | io.BytesIO) -> npt.NDArray[np.uint8]:
    """Return (H, W, 3)."""
    with Image.open(path) as file:
        require_picture(file)
        pixels = jpeg.decoded(file)
        if pixels is not None:
            return pixels
        ImageOps.exif_transpose(file, in_place=True)  # else it copies what is upright already
        upright: Image.Image = file
        if upright.mode.startswith("I"):
            upright = Image.fromarray(_grey_of_integers(upright, file.format))
        elif upright.mode == "F":
            upright = Image.fromarray(_grey_of_floats(np.asarray(upright)))
        elif "transparency" in upright.info:  # Pillow warns of palettes with it, unless by this way
            upright = upright.convert("RGBA")
        return np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))


def _grey_of_integers(image: Image.Image, form: str | None) -> npt.NDArray[np.uint8]:
    """Return 16-bit greys as 8-bit ones; Pillow would clip them at 255.

    Raises:
        ValueError: which level is white cannot be told.
    """
    levels = np.asarray(image, dtype=np.int64)
    low, high = int(levels.min()), int(levels.max())
    # Some programs keep 8-bit greys in the 32 bits of a TIFF.
    deep = form != "TIFF" or image.mode != "I" or high > 255
    if low < 0 or high > 65535 or (deep and 0 < high < _DARKEST_DEEP):
        raise ValueError(
            f"greys from {low} to {high}, which are neither 0 to 255 nor 0 to 65535; scale them"
        )
    return (levels >> 8 if deep else levels).clip(0, 255).astype(np.uint8)


def _grey_of_floats(levels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return levels in floating point as 8-bit ones.

    Raises:
        ValueError: which level is white cannot be told.
    """
    low, high = float(levels.min()), float(levels.max())
    white = next((w for w in (1.0, 255.0, 65535.0) if high <= w * (1 + _ROUNDING)), None)
    if white is None or low < -_ROUNDING * white or (white == 255.0 and high < _DARKEST):
        raise ValueError(
            f"levels in floating point from {low:.4g} to {high:.4g}, which are none of 0 to 1, 0 to 255 "
            "and 0 to 65535"
        )
    scaled = (levels.astype(np.float64) * (255.0 / white)).round().clip(0, 255)
    return scaled.astype(np.uint8)
