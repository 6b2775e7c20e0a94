"""Checkpoints that are told apart, read as tensors, and never run."""

from __future__ import annotations

import argparse
import collections
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from model_helpers import write_folder
from safetensors.torch import save_file
from torch import Tensor, nn

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.archive import LEGACY_START, _bounded, _record
from pytest_cliprobust.targets.checkpoint import (
    Checkpoint,
    _interpolate_positions,
    _own_part,
    read_checkpoint,
    weights_in,
)
from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.targets.unpickling import Forbidden, StoredBytes

TORCHSCRIPT = "ignore:.*torch.jit"


def weights() -> dict[str, Tensor]:
    """Tensors of every type, one of them a view, one transposed, one empty, one a scalar."""
    torch.manual_seed(0)
    base = torch.randn(6, 4)
    return {
        "visual.proj": base,
        "visual.view": base[1:3],
        "visual.turned": base.t(),
        "text.half": base.half(),
        "text.brain": base.bfloat16(),
        "text.whole": torch.arange(5),
        "text.mask": torch.tensor([True, False]),
        "text.bytes": torch.arange(4, dtype=torch.uint8),
        "empty": torch.zeros(0, 3),
        "logit_scale": torch.tensor(4.6),
    }


def told(path: Path) -> str:
    """The one line that reading a file ends with."""
    with pytest.raises(ClipRobustError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def parameter(tensor: Tensor) -> Tensor:
    return nn.Parameter(tensor) if tensor.is_floating_point() else tensor


def optimizer() -> dict[str, Any]:
    return torch.optim.SGD([torch.ones(2, requires_grad=True)], 0.1).state_dict()


# --- what torch itself writes -----------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: collections.OrderedDict((k, parameter(v)) for k, v in state.items()),
        lambda state: {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {"model": state, "args": argparse.Namespace(lr=0.1, model="deit")},
        lambda state: {"best": np.float64(0.71), "state_dict": state, "rng": np.arange(3)},
        lambda state: {
            "pytorch-lightning_version": "2.5.0",
            "state_dict": {f"model.{k}": v for k, v in state.items()},
            "callbacks": {("Early", 1): Path("x")},
            "hyper_parameters": {"lr": 1e-3, "optimizer": torch.optim.AdamW, "seen": {1, 2}},
        },
        lambda state: {"state_dict": state, "optimizer": optimizer()},
    ],
    ids=["plain", "parameters", "open_clip", "deit", "numpy", "lightning", "optimizer"],
)
def test_training_checkpoints_are_read_as_they_were_saved(
    zipped: bool, wrap: Callable[[dict[str, Tensor]], Any], tmp_path: Path
) -> None:
    path = tmp_path / "epoch_3.pt"
    torch.save(wrap(weights()), path, _use_new_zipfile_serialization=zipped)
    assert_equal(read_checkpoint(path).state, weights())


def test_a_checkpoint_without_checksums_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(weights(), path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_equal(read_checkpoint(path).state, weights())


class Part(nn.Module):
    """A tower with a parameter, a buffer, and a tensor that belongs to no state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("positions", torch.arange(4))
        self.mask = torch.ones(5)
        self.sizes = [1, 2]

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.norm(self.linear(x)) + self.mask[0] + self.sizes[0]
        return result


class OpenAI(nn.Module):
    """The outside of one of OpenAI's archives."""

    def __init__(self) -> None:
        super().__init__()
        for setting in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(setting, torch.tensor(7))
        self.visual, self.transformer = Part(), Part()
        self.logit_scale = nn.Parameter(torch.tensor(4.6))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.visual(x) * self.logit_scale
        return result


@pytest.mark.filterwarnings(TORCHSCRIPT)
@pytest.mark.parametrize("how", ["script", "trace"])
def test_a_torchscript_archive_has_the_state_dict_that_torch_gives_it(
    how: str, tmp_path: Path
) -> None:
    model = OpenAI().half().eval()
    example = torch.ones(2, 3).half()
    compiled: Any = torch.jit.script(model) if how == "script" else torch.jit.trace(model, example)
    path = tmp_path / "ViT-B-32.pt"
    compiled.save(str(path))
    found = read_checkpoint(path)
    assert found.openai_archive
    settings = ("input_resolution", "context_length", "vocab_size")
    expected = {k: v for k, v in model.state_dict().items() if k not in settings}
    assert_equal(found.state, expected)
    assert "visual.mask" not in found.state


class Towers(nn.Module):
    """What somebody traces so that both towers are in one program."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.encode_image(pixels), self.model.encode_text(tokens)


@pytest.mark.filterwarnings(TORCHSCRIPT)
def test_a_traced_model_is_read_and_a_part_of_one_says_why_not(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    pixels, tokens = torch.rand(1, 3, 32, 32), torch.zeros(1, 12, dtype=torch.long)
    for name, module, inputs in (
        ("whole.pt", model, (pixels, tokens)),
        ("towers.pt", Towers(model), (pixels, tokens)),
        ("visual.pt", model.visual, (pixels,)),
    ):
        program: Any = torch.jit.trace(module, inputs, strict=False, check_trace=False)
        program.save(str(tmp_path / name))
    expected = load_target(str(folder), device="cpu").encode_image(pixels)
    for name in ("whole.pt", "towers.pt"):
        target = load_target(str(folder), pretrained=str(tmp_path / name), device="cpu")
        assert torch.equal(target.encode_image(pixels), expected)
    path = str(tmp_path / "visual.pt")
    for source, pretrained in ((str(folder), path), (path, None)):
        with pytest.raises(ClipRobustError) as caught:
            load_target(source, pretrained=pretrained, device="cpu")
        assert "it is a TorchScript program, of which the tensors alone" in str(caught.value)
        assert "save model.state_dict()" in str(caught.value)


# --- what must not run ------------------------------------------------------------------------------


class Writer(nn.Module):
    """A module that writes a file when TorchScript runs it, and when it is unpacked."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.weight: Tensor = torch.ones(2)

    @torch.jit.export
    def __getstate__(self) -> tuple[str, Tensor, bool]:
        return (self.where, self.weight, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, Tensor, bool]) -> None:
        self.where = state[0]
        self.weight = state[1]
        self.training = state[2]
        torch.save(self.weight, self.where)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


@pytest.mark.filterwarnings(TORCHSCRIPT)
def test_an_archive_that_writes_a_file_writes_none(tmp_path: Path) -> None:
    target, path = tmp_path / "written", tmp_path / "w.pt"
    scripted = torch.jit.script(Writer(str(target)))
    scripted.save(str(path))
    target.unlink(missing_ok=True)
    torch.jit.load(str(path))
    assert target.exists(), "the archive is not the one that this is about"
    target.unlink()
    told(path)  # its state is a tuple, which is no state dict
    # Hidden in a file that is else sound: it is read as a zip all the same.
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert any(name.endswith("constants.pkl") for name in names)
    assert not target.exists()


class Attack:
    """Runs a command when a pickle is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("place", ["beside", "inside", "instead"])
def test_a_pickle_that_runs_a_command_runs_none(zipped: bool, place: str, tmp_path: Path) -> None:
    target, path = tmp_path / "written", tmp_path / "w.pt"
    attack = Attack(os.system, f"touch {target}")
    content: Any = {
        "beside": {"state_dict": weights(), "extra": attack},
        "inside": {**weights(), "extra": attack},
        "instead": attack,
    }[place]
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    if place == "beside":
        assert_equal(read_checkpoint(path).state, weights())
    else:
        assert "no state dict" in told(path) or "not a state dict" in told(path)
    path.write_bytes(pickle.dumps(attack))
    assert "a pickle of Python's, which is never loaded" in told(path)
    assert not target.exists()


def assemble(path: Path, content: bytes, **records: bytes) -> Path:
    """Write a zip as ``torch.save`` does, with a pickle of one's own."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", content)
        for name, value in records.items():
            archive.writestr(f"w/data/{name}", value)
    return path


def tensor_pickle(
    *, numel: int = 4, size: str = "(I2\nI2\nt", stride: str = "(I2\nI1\nt", offset: int = 0
) -> bytes:
    """A state dict of one tensor, opcode by opcode."""
    storage = f"((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuI{numel}\ntQ"
    arguments = f"{storage}I{offset}\n{size}{stride}\x89}}t"
    text = f"\x80\x02}}U\x01actorch._utils\n_rebuild_tensor_v2\n{arguments}Rs."
    return text.encode("latin1")


def test_a_pickle_of_ones_own_is_what_it_should_be(tmp_path: Path) -> None:
    path = assemble(
        tmp_path / "w.pt", tensor_pickle(), **{"0": np.arange(4, dtype="<f4").tobytes()}
    )
    assert_equal(read_checkpoint(path).state, {"a": torch.arange(4.0).reshape(2, 2)})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"numel": 2**40}, "truncated or damaged"),
        ({"numel": -1}, "a storage that is a part of another"),
        ({"size": "(I2\nI3\nt"}, "larger than its storage"),
        (
            {"size": "(I1000000000\nI1000000000\nt", "stride": "(I0\nI0\nt"},
            "larger than its storage",
        ),
        ({"offset": 2}, "larger than its storage"),
        ({"offset": -2}, "a tensor of size"),
        ({"size": "(I-2\nI2\nt"}, "a tensor of size"),
        ({"stride": "(I-2\nI1\nt"}, "a tensor of size"),
        ({"stride": "(I1\nt"}, "a tensor without a storage"),
        ({"size": "(U\x01aI2\nt"}, "a tensor of size"),
    ],
)
def test_tensors_outside_of_their_storage_are_refused(
    arguments: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = assemble(tmp_path / "w.pt", tensor_pickle(**arguments), **{"0": bytes(16)})
    assert words in told(path)


def stream(path: Path, content: bytes, keys: bytes, *storages: tuple[int, bytes]) -> Path:
    """Write what ``torch.save`` wrote before 1.6, with a pickle of one's own."""
    whole = [LEGACY_START, b"\x80\x02M\xe9\x03.", b"\x80\x02}.", content, b"\x80\x02" + keys]
    whole += [struct.pack("<q", count) + numbers for count, numbers in storages]
    path.write_bytes(b"".join(whole))
    return path


FOUR = np.arange(4, dtype="<f4").tobytes()


def test_a_stream_of_ones_own_is_what_it_should_be(tmp_path: Path) -> None:
    path = stream(tmp_path / "w.pt", tensor_pickle(), b"]U\x010a.", (4, FOUR))
    assert_equal(read_checkpoint(path).state, {"a": torch.arange(4.0).reshape(2, 2)})


@pytest.mark.parametrize(
    ("numel", "keys", "storages", "words"),
    [
        # No memory is taken for what the file cannot hold, however much it promises.
        (2**40, b"]U\x010a.", [(2**40, FOUR)], "truncated or damaged"),
        (5, b"]U\x010a.", [(5, FOUR)], "truncated or damaged"),
        (4, b"]U\x010a.", [], "truncated or damaged"),
        (4, b"]U\x010a.", [(3, FOUR)], "a storage that no tensor uses"),
        (4, b"]U\x011a.", [(4, FOUR)], "a storage that no tensor uses"),
        (4, b"]K\x00a.", [(4, FOUR)], "a storage that no tensor uses"),
        (4, b"].", [(4, FOUR)], "truncated or damaged"),
        (4, b"N.", [(4, FOUR)], "truncated or damaged"),
    ],
)
def test_streams_that_do_not_hold_what_they_say_are_refused(
    numel: int, keys: bytes, storages: list[tuple[int, bytes]], words: str, tmp_path: Path
) -> None:
    path = stream(tmp_path / "w.pt", tensor_pickle(numel=numel), keys, *storages)
    assert words in told(path)


def test_no_memory_is_taken_for_numbers_that_are_not_there(tmp_path: Path) -> None:
    count = 2**24  # of four bytes
    path = stream(tmp_path / "w.pt", tensor_pickle(numel=count), b"]U\x010a.", (count, FOUR))
    told(path)  # what is imported first is imported
    tracemalloc.start()
    try:
        told(path)
        assert tracemalloc.get_traced_memory()[1] < count
    finally:
        tracemalloc.stop()


def test_the_last_tensor_may_end_with_the_storage(tmp_path: Path) -> None:
    """Its last number is the storage's: one place further there is none."""
    one: dict[str, Any] = {"size": "(I1\nI2\nt", "stride": "(I4\nI1\nt"}
    path = tmp_path / "w.pt"
    found = read_checkpoint(assemble(path, tensor_pickle(offset=2, **one), **{"0": FOUR}))
    assert_equal(found.state, {"a": torch.tensor([[2.0, 3.0]])})
    told(assemble(path, tensor_pickle(offset=3, **one), **{"0": FOUR}))
    # Repeated by a stride of 0, but no more numbers than there are.
    again: dict[str, Any] = {"size": "(I2\nI2\nt", "stride": "(I0\nI1\nt"}
    found = read_checkpoint(assemble(path, tensor_pickle(**again), **{"0": FOUR}))
    assert_equal(found.state, {"a": torch.tensor([[0.0, 1.0]] * 2)})
    more: dict[str, Any] = {"size": "(I3\nI2\nt", "stride": "(I0\nI1\nt"}
    assert "larger than its storage" in told(assemble(path, tensor_pickle(**more), **{"0": FOUR}))
    none: dict[str, Any] = {"size": "(I0\nI2\nt", "stride": "(I9\nI9\nt"}
    found = read_checkpoint(assemble(path, tensor_pickle(**none), **{"0": FOUR}))
    assert_equal(found.state, {"a": torch.empty(0, 2)})


def bomb(levels: int) -> bytes:
    """A tuple of twice the same tuple of twice the same … as the key of a dictionary."""
    places = [number.to_bytes(4, "little") for number in range(levels)]
    doubled = b"".join(b"\x86r" + place + b"j" + place for place in places)
    return b"\x80\x02}NN" + doubled + b"0K\x01s."


@pytest.mark.parametrize(
    "content",
    [
        bomb(60),
        b"\x80\x05\x96"
        + (2**40).to_bytes(8, "little")
        + b".",  # an array of bytes, reserved at once
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b".",
        b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b".",
        b"\x80\x02r\xff\xff\xff\x7f.",  # a memo of two thousand million entries
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x80\x02(" * 100_000 + b".",
        b"]" + b"]a" * 100_000 + b".",
        b"\x80\x04(" + b"\x8f" * 7_000_000 + b"t.",  # sets, 216 bytes each
        b"(" + b"".join(b"ca\n%d\n" % number for number in range(200_000)) + b"t.",
        b"cos\nsystem\n(U\x04truetR.",
        b"cbuiltins\nexec\n(U\x04truetR.",
        b"(U\x04trueios\nsystem\n.",
        b"ctorch\nSize\n}U\x08__code__Nsb.",
        b"ctorch._utils\n_rebuild_tensor_v2\nN}U\x0c__defaults__Ns\x86b.",
        b"\x82\x01.",
        b"",
        b".",
    ],
    ids=lambda content: repr(content[:12]),
)
def test_pickles_that_do_harm_end_at_once(content: bytes, tmp_path: Path) -> None:
    from pytest_cliprobust.targets import unpickling

    before = unpickling._tensor.__defaults__
    told(assemble(tmp_path / "w.pt", content))
    assert unpickling._tensor.__defaults__ == before


def test_a_zip_that_grows_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes(2**26))
    assert path.stat().st_size < 2**17
    assert "w/data.pkl of 67108864 bytes" in told(path)
    with zipfile.ZipFile(path, "w") as archive:
        square: dict[str, Any] = {"size": "(I4096\nI4096\nt", "stride": "(I4096\nI1\nt"}
        archive.writestr("w/data.pkl", tensor_pickle(numel=2**24, **square))
        archive.writestr("w/data/0", bytes(2**26), zipfile.ZIP_DEFLATED)
    assert "packed with compression" in told(path)


def test_a_record_that_holds_more_than_it_says_is_cut_there(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a", b"0" * 10**6)
    with zipfile.ZipFile(path) as found:
        info = found.getinfo("a")
        assert len(_bounded(found, info, 10**6)) == 10**6
        with pytest.raises(Forbidden, match="a of 1000000 bytes"):
            _bounded(found, info, 10**6 - 1)
        info.file_size = 10
        info.CRC = zlib.crc32(b"0" * 10)
        assert _bounded(found, info, 100) == b"0" * 10


@pytest.mark.parametrize(
    ("size", "file_size", "packing", "error"),
    [
        (8, 8, zipfile.ZIP_STORED, None),
        (4, 8, zipfile.ZIP_STORED, EOFError),
        (12, 16, zipfile.ZIP_STORED, EOFError),
        (8, 7, zipfile.ZIP_STORED, EOFError),  # more than the whole file: no memory is taken for it
        (8, 8, zipfile.ZIP_DEFLATED, Forbidden),
    ],
)
def test_a_storage_has_the_size_that_its_tensors_need(
    tmp_path: Path, size: int, file_size: int, packing: int, error: type[Exception] | None
) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", packing) as made:
        made.writestr("a", bytes(range(size)))
    storage = StoredBytes("a", torch.float32, 2)
    with zipfile.ZipFile(path) as found:
        if error is None:
            assert _record(found, found.getinfo("a"), storage, file_size) == bytes(range(8))
            return
        with pytest.raises(error):
            _record(found, found.getinfo("a"), storage, file_size)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a": torch.arange(64.0)}, path)
    content = bytearray(path.read_bytes())
    where = content.index(np.arange(64, dtype="<f4").tobytes()) + 40
    content[where] ^= 1
    path.write_bytes(content)
    assert "truncated or damaged" in told(path)


# --- files that are none ----------------------------------------------------------------------------


def test_what_is_no_file_is_told_and_never_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.pt"
    os.mkfifo(pipe)
    assert "is a pipe, not a file" in told(pipe)
    device = tmp_path / "zero.safetensors"
    device.symlink_to("/dev/zero")
    assert "is a device, not a file" in told(device)
    loop = tmp_path / "loop.pt"
    loop.symlink_to(tmp_path / "loop.pt")
    assert "does not exist" in told(loop)


def npz(path: Path) -> None:
    np.savez(path, a=np.ones(2))


def onnx(path: Path) -> None:
    path.write_bytes(b"\x08\x08\x12\x07pytorch")


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("w.npz", npz, "holds NumPy arrays (.npz), not a state dict of torch"),
        ("w.onnx", onnx, "an ONNX graph, not a state dict"),
        ("w.npy", lambda path: np.save(path, np.ones(2)), "one NumPy array"),
        ("w.h5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)), "an HDF5 file"),
        ("w.gguf", lambda path: path.write_bytes(b"GGUF" + bytes(64)), "a GGUF file"),
        ("w.tar.gz", lambda path: path.write_bytes(b"\x1f\x8b" + bytes(64)), "unpack it first"),
        ("w.pt", lambda path: path.write_text("<html>not found</html>"), "a page of HTML"),
        ("w.pth", lambda path: path.write_bytes(b"\x05\x17\x2a" * 24), "truncated or damaged"),
        ("w.pt", lambda path: path.write_text('{"a": 1}' * 9), "a text, not the weights"),
        ("w.pt", lambda path: path.write_bytes(b"\x80\x04N." * 20), "a pickle of Python's"),
        ("w.pt", lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
        (
            "w.pt",
            lambda path: path.write_text("version https://x/git-lfs/v1\n" * 4),
            "a Git LFS pointer",
        ),
        ("w.pt", lambda path: path.write_text("version 2 of it\n" * 9), "of no format that is"),
        ("w.pt", lambda path: path.write_text("see git-lfs here\n" * 9), "of no format that is"),
        (
            "w.bin",
            lambda path: zipfile.ZipFile(path, "w").writestr("a", "b"),
            "without the data.pkl",
        ),
    ],
)
def test_the_true_reason_is_told(
    name: str, write: Callable[[Path], Any], words: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    assert words in told(tmp_path / name)


def test_a_file_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    state = {"a": torch.ones(2)}
    save_file(state, tmp_path / "w.ckpt")
    assert_equal(read_checkpoint(tmp_path / "w.ckpt").state, state)


# --- shards -----------------------------------------------------------------------------------------


def shard(folder: Path, **places: str) -> Path:
    """Write an index of weights, and each of its files that lies beside it."""
    folder.mkdir(exist_ok=True)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for file in {*places.values()}:
        if "/" not in file:
            names = [name for name, place in places.items() if place == file]
            save_file({name: torch.full((2,), float(len(name))) for name in names}, folder / file)
    return index


def test_shards_are_put_together(tmp_path: Path) -> None:
    index = shard(tmp_path, a="one.safetensors", bb="two.safetensors", ccc="one.safetensors")
    assert_equal(
        read_checkpoint(index).state,
        {name: torch.full((2,), float(len(name))) for name in ("a", "bb", "ccc")},
    )
    (tmp_path / "two.safetensors").unlink()
    assert "names 'two.safetensors', which is not there" in told(index)
    assert "names no weights" in told(shard(tmp_path))


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ("a.pt config.json", "a.pt"),
        ("model.safetensors a.pt", "model.safetensors"),  # the first of the names
        ("b.ckpt a.pt", None),
        ("a.pt training_args.bin optimizer.pt scaler.pt scheduler.pt optimizer.bin", "a.pt"),
        ("adapter_model.safetensors a.pt", "a.pt"),
        ("adapter_model.safetensors", None),
        ("w-00001-of-00002.bin w-00002-of-00002.bin w.bin.index.json", "w.bin.index.json"),
        ("w-00001-of-00002.bin w-00002-of-00002.bin w.bin.index.json v.index.json", None),
        ("w-00001-of-00001.bin", "w-00001-of-00001.bin"),
        ("config.json", None),
    ],
)
def test_which_file_of_a_folder_holds_the_weights(
    files: str, found: str | None, tmp_path: Path
) -> None:
    for name in files.split():
        (tmp_path / name).touch()
    wanted = None if found is None else tmp_path / found
    assert weights_in(tmp_path, ["none.pt", "model.safetensors"]) == wanted


def test_a_shard_alone_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "w-00001-of-00002.bin").touch()
    with pytest.raises(ClipRobustError, match=r"one of several shards, and no index of them"):
        weights_in(tmp_path, [])
    with pytest.raises(ClipRobustError, match=r"cannot be read \(No such file or directory\)"):
        weights_in(tmp_path / "none", [])


@pytest.mark.parametrize("prefix", ["", "text."])
def test_interpolated_positions_are_told_by_whatever_name(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{prefix}positional_embedding"

    def resize(state: dict[str, Tensor], model: nn.Module) -> None:
        state[name] = torch.zeros(5, 2)

    monkeypatch.setattr("open_clip.model.resize_pos_embed", lambda state, model: None)
    monkeypatch.setattr("open_clip.model.resize_text_pos_embed", resize)
    (told_,) = _interpolate_positions(nn.Identity(), {name: torch.zeros(7, 2)})
    assert told_.startswith("text position embeddings interpolated from 7 to 5 positions")
    assert _interpolate_positions(nn.Identity(), {name: torch.zeros(5, 2)}) == []
    assert _interpolate_positions(nn.Identity(), {}) == []


def part(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return what is taken of a checkpoint by a model with two tensors."""
    return _own_part(Checkpoint(Path("x.pt"), state), {"a": torch.ones(1), "b": torch.ones(1)})


def test_the_model_inside_of_a_checkpoint_is_found() -> None:
    one, two, three = (torch.full((1,), float(n)) for n in range(3))
    plain = {"a": one, "b": two}
    assert part({**plain, "net.a": three}) == ({**plain, "net.a": three}, ())
    assert part({"net.a": one}) == ({"net.a": one}, ())  # of another form: told elsewhere
    own, notes = part({"net.a": one, "net.b": two, "loss.w": three, "loss.v": three})
    assert own == plain
    assert notes == (
        "weights: takes what the checkpoint calls 'net.', and leaves 2 other tensors out",
    )
    assert part({"net.a": one, "net.b": two}) == (
        plain,
        ("weights: takes what the checkpoint calls 'net.'",),
    )
    for average in ("ema.", "net_ema.", "averaged."):
        both = {f"{average}a": three, f"{average}b": three, "net.a": one, "net.b": two}
        own, (note,) = part(both)
        assert own == plain
        assert note.startswith("weights: takes what the checkpoint calls 'net.'; it holds a moving")
        assert repr(average) in note
    own, (note,) = part({"ema.a": one, "ema.b": two})
    assert own == plain
    with pytest.raises(ClipRobustError, match=r"several models, under 'x\.' and 'y\.'; save the"):
        part({f"{p}.{k}": one for p in "xy" for k in "ab"})
    with pytest.raises(ClipRobustError, match=r"several models, under 'ema\.' and 'swa\.'"):
        part({f"{p}.{k}": one for p in ("ema", "swa") for k in "ab"})


@pytest.mark.parametrize(
    "name",
    ["../secret.safetensors", "/etc/secret.safetensors", "..", "sub/x.safetensors", "x.json"],
)
def test_shards_lie_beside_their_index(name: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    assert "names a file elsewhere" in told(index)


def test_an_index_that_is_none(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    for text in ("{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}', "[]", "[" * 10_000, "{"):
        index.write_text(text)
        told(index)


@pytest.mark.parametrize(("length", "taken"), [(2**27 - 1, True), (2**27, False), (70, True)])
def test_safetensors_are_known_by_the_length_of_their_header(
    length: int, taken: bool, tmp_path: Path
) -> None:
    for name in ("w.pt", "w.bin"):
        (tmp_path / name).write_bytes(length.to_bytes(8, "little") + b"{" + bytes(99))
        said = told(tmp_path / name)
        assert "truncated or damaged" in said
        assert ("of no format that is known" in said) == (not taken)
    (tmp_path / "w.pt").write_bytes(length.to_bytes(8, "little") + b"[" + bytes(99))
    assert "of no format that is known" in told(tmp_path / "w.pt")
