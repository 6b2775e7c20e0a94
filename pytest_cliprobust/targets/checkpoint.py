"""Checkpoint files: read them safely, and say in one line why one does not fit.

Nothing in a file is ever run: safetensors holds tensors alone, files of torch are read by :mod:`.archive`.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pytest_cliprobust.errors import ClipRobustError, brief, first_of
from pytest_cliprobust.files import lies_there, read_json, require_regular
from pytest_cliprobust.targets.archive import LEGACY_START, Content, reading_legacy, reading_zip
from pytest_cliprobust.targets.unpickling import Forbidden, Opaque, StoredTensor

#: Keys under which training scripts store the state dict (open_clip's own: the first).
_WRAPPERS = ("state_dict", "model_state_dict", "model")

#: Keys under which they store a moving average of it, which is another model.
_AVERAGES = ("state_dict_ema", "ema_state_dict", "model_ema", "ema")

#: The same as a module beside the model: ``ema_model.``, ``model_ema.module.``, ``averaged_model.``.
_AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?)([._]|$)")

#: A shard among others, by its name.
_SHARD = re.compile(r"-\d+-of-0*([2-9]|[1-9]\d+)\.")

#: Prefixes of DistributedDataParallel, of torch.compile, and of the attribute that holds the model in
#: a LightningModule.
_PREFIXES = ("module.", "_orig_mod.", "model.", "clip_model.")

#: What is advised where a TorchScript program's tensors are no known model's.
PROGRAM = (
    "it is a TorchScript program, of which the tensors alone are read and no code ever runs: save "
    "model.state_dict() of the whole model that it was made of"
)

#: Entries of OpenAI's TorchScript archives that are settings, not weights.
_OPENAI_SETTINGS = ("input_resolution", "context_length", "vocab_size")

#: Endings of weights in a folder, and files with such endings that a trainer leaves there.
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")
_NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")

#: Ending of an index of sharded weights.
INDEX = ".index.json"

#: Files that are no checkpoints of torch, by what they begin with, and what to do with them.
_OTHERS = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the weights; fetch them with `git lfs pull`",
    ),
    (b"\x93NUMPY", "one NumPy array, not a state dict; save model.state_dict() as safetensors"),
    (b"\x89HDF", "an HDF5 file (Keras?), not a state dict of torch; convert it to safetensors"),
    (b"GGUF", "a GGUF file, not a state dict of torch; give the weights it was made from"),
    (b"\x1f\x8b", "packed with gzip; unpack it first"),
    (b"<", "a page of HTML or XML, not the weights; download it again"),
    (b"{", "a text, not the weights; give the file with the tensors"),
)

_ONNX = (
    "an ONNX graph, not a state dict; name it beside the model that it was exported from, as its twin: "
    "--clip-model MODEL@onnx:PATH"
)


_READ: ContextVar[list[Path] | None] = ContextVar("files that weights were read from", default=None)


@contextmanager
def noting_files() -> Iterator[list[Path]]:
    """Collect the files that weights are read from meanwhile, however deep in a loader that is.

    A model may be a base with an adapter, or lie in shards: only who reads a file knows of it.
    """
    outer = _READ.get()
    found: list[Path] = []
    token = _READ.set(found)
    try:
        yield found
    finally:
        _READ.reset(token)
        if outer is not None:
            outer += found


def note_file(path: Path) -> None:
    """Tell :func:`noting_files` of a file with weights, each once."""
    found = _READ.get()
    if found is not None and path not in found:
        found.append(path)


@dataclass
class Checkpoint:
    """A state dict and where it came from.

    Attributes:
        path: the file.
        state: tensors by name, prefixes of wrappers removed.
        openai_archive: one of OpenAI's own TorchScript archives (all trained with QuickGELU).
        scripted: the tensors are those of a TorchScript program.
        notes: what a reader must know of it.
    """

    path: Path
    state: dict[str, Tensor]
    openai_archive: bool = False
    scripted: bool = False
    notes: tuple[str, ...] = ()

    @property
    def remedy(self) -> str:
        """What to do where its tensors are not those of the architecture."""
        return PROGRAM if self.scripted else "name the architecture that it was trained as"


def read_checkpoint(path: Path, *, unwrap: bool = True) -> Checkpoint:
    """Read a safetensors file, a torch file, a TorchScript archive or an index of shards, and run nothing.

    Args:
        path: the file.
        unwrap: whether prefixes that all names have are those of wrappers, and go.

    Raises:
        ClipRobustError: no such file, or no regular one; empty, truncated or damaged; another format;
            no state dict inside, or objects in it that are no tensors.
    """
    if not lies_there(path):
        raise ClipRobustError(f"checkpoint {path} does not exist; check --clip-pretrained")
    if path.is_dir():
        raise ClipRobustError(
            f"checkpoint {path} is a folder; give a file with --clip-pretrained, or the folder itself "
            "as --clip-model"
        )
    require_regular(path, "checkpoint")
    if path.name.endswith(INDEX):
        read = _Read(_read_shards(path))
    else:
        read = _read_file(path)
        note_file(path)
    state, scripted = read.state, read.scripted
    openai_archive = scripted and all(name in state for name in _OPENAI_SETTINGS)
    if scripted:
        state = {k: v for k, v in state.items() if k not in _OPENAI_SETTINGS and not _is_mask(k)}
    while unwrap and (
        prefix := next((p for p in _PREFIXES if all(k.startswith(p) for k in state)), None)
    ):
        state = {k.removeprefix(prefix): v for k, v in state.items()}
    return Checkpoint(path, state, openai_archive, scripted, read.notes)


def _is_mask(name: str) -> bool:
    """Return whether a tensor is a text tower's causal mask, which a program carries and no state dict."""
    return name.rpartition(".")[2] == "attn_mask"


@dataclass(frozen=True)
class _Read:
    """What one file holds: its state dict, whether it is a TorchScript archive's, and notes."""

    state: dict[str, Tensor]
    scripted: bool = False
    notes: tuple[str, ...] = ()


def _read_shards(index: Path) -> dict[str, Tensor]:
    """Return the tensors of the files that an index names, which lie beside it.

    Raises:
        ClipRobustError: it is no index, names files elsewhere, or one of them is missing or damaged.
    """
    places = read_json(index, "index").get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(v, str) for v in places.values()):
        raise ClipRobustError(f"{index} is no index of sharded weights: it has no weight_map")
    state: dict[str, Tensor] = {}
    for name in dict.fromkeys(places.values()):
        if os.path.basename(name) != name or not name.endswith((".safetensors", ".bin", ".pt")):
            raise ClipRobustError(
                f"{index} names a file elsewhere, {name!r:.80}: shards lie beside their index"
            )
        if not lies_there(index.parent / name):
            raise ClipRobustError(
                f"{index} names {name!r:.80}, which is not there; copy or download all shards"
            )
        state |= read_checkpoint(index.parent / name, unwrap=False).state
    if not state:
        raise ClipRobustError(f"{index} names no weights")
    return state


def _damaged(path: Path, error: Exception) -> ClipRobustError:
    return ClipRobustError(
        f"checkpoint {path} is truncated or damaged ({brief(error, 120)}); copy or download it again"
    )


def _read_file(path: Path) -> _Read:
    """Return what one file holds."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ClipRobustError(
            f"checkpoint {path} cannot be read ({error.strerror}); check its permissions"
        ) from None
    if not head:
        raise ClipRobustError(f"checkpoint {path} is empty (0 bytes); copy or download it again")
    if path.suffix == ".onnx":
        raise ClipRobustError(f"checkpoint {path} is {_ONNX}")
    if head.startswith(b"version ") and b"git-lfs" in head:
        raise ClipRobustError(f"checkpoint {path} is {_OTHERS[0][1]}")
    if path.suffix == ".safetensors" or (
        head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**27
    ):
        return _Read(_read_safetensors(path))
    if head.startswith(b"PK"):
        return _read_zip(path)
    for start, what in _OTHERS:
        if head.startswith(start):
            raise ClipRobustError(f"checkpoint {path} is {what}")
    if head.startswith(LEGACY_START):
        try:
            with reading_legacy(path) as content:
                return _state_of(path, content)
        except ClipRobustError:
            raise
        except Exception as error:  # a damaged pickle can raise anything
            raise _unreadable(path, error) from None
    if head.startswith(b"\x80"):
        raise ClipRobustError(
            f"checkpoint {path} is a pickle of Python's, which is never loaded, as it may run code; save "
            "model.state_dict() as safetensors"
        )
    raise _damaged(path, ValueError("of no format that is known"))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise _damaged(path, error) from None
    if not state:
        raise ClipRobustError(f"checkpoint {path} holds no tensors")
    return state


def _read_zip(path: Path) -> _Read:
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = all(name.endswith(".npy") for name in archive.namelist())
        if arrays:
            raise ClipRobustError(
                f"checkpoint {path} holds NumPy arrays (.npz), not a state dict of torch; convert it to "
                "safetensors, with the names that the model has"
            )
        with reading_zip(path) as content:
            return _state_of(path, content)
    except ClipRobustError:
        raise
    except Exception as error:  # a damaged zip or pickle can raise anything
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ClipRobustError:
    if isinstance(error, Forbidden):
        return ClipRobustError(
            f"checkpoint {path} holds {error}, and is not loaded; save model.state_dict() as safetensors"
        )
    return _damaged(path, error)


def _state_of(path: Path, file: Content) -> _Read:
    """Return the tensors of the state dict that a file holds.

    Raises:
        ClipRobustError: it holds none, or something else among the tensors.
    """
    content = file.value
    notes: tuple[str, ...] = ()
    for wrapper in (*_WRAPPERS, *_AVERAGES):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping | Opaque):
            notes = _of_averages(wrapper, content)
            content = content[wrapper]
            break
    if isinstance(content, Opaque):
        raise ClipRobustError(
            f"checkpoint {path} holds a pickled object ({_called(content)}), not a state dict: objects "
            "other than tensors are not loaded for safety; save model.state_dict(), best as safetensors"
        )
    if not isinstance(content, Mapping) or not content:
        raise ClipRobustError(
            f"checkpoint {path} holds no state dict (tensors by name); save model.state_dict()"
        )
    other = next((k for k, v in content.items() if not isinstance(v, StoredTensor)), None)
    if isinstance(other, str) and "_packed_params" in other:
        raise ClipRobustError(
            f"checkpoint {path} holds quantised weights ({other!r:.60}), which are not loaded; give those "
            "before that: MODEL@int8 quantises them, and other kinds are an encoder of your own"
        )
    if other is not None or not all(isinstance(name, str) for name in content):
        raise ClipRobustError(
            f"checkpoint {path} holds no state dict (tensors by name; {other!r:.60} is no tensor); save "
            "model.state_dict()"
        )
    state = {name: file.tensor(stored) for name, stored in content.items()}
    return _Read(state, file.torchscript, notes)


def _of_averages(taken: str, content: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return what is to be said where a file holds weights and a moving average of them."""
    if taken in _AVERAGES:
        return (f"weights: their moving average ({taken!r}), as the checkpoint holds no others",)
    other = next((key for key in _AVERAGES if isinstance(content.get(key), Mapping | Opaque)), None)
    if other is None:
        return ()
    return (
        f"weights: {taken!r}; the checkpoint holds a moving average as well ({other!r}), which is another "
        "model: save it alone to test it",
    )


def _called(content: Opaque) -> str:
    return "".join(c for c in type(content).called if c.isprintable())[:80]


def load_into(model: nn.Module, checkpoint: Checkpoint, architecture: str) -> list[str]:
    """Load ``checkpoint`` into an open_clip ``model``; return what a reader must know of it.

    Third-party layouts that open_clip knows are converted as ``open_clip.load_checkpoint`` does, but a
    missing logit bias is an error here: open_clip fills in zeros, which is for training.

    Raises:
        ClipRobustError: tensors missing, left over, or of another shape.
    """
    import open_clip.convert
    import open_clip.model

    expected = model.state_dict()
    state, further = _own_part(checkpoint, expected)
    notes = [*checkpoint.notes, *further]
    try:
        state = dict(open_clip.convert.convert_state_dict(model, state))
        if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
            state = dict(open_clip.model.convert_to_custom_text_state_dict(state))
        position_ids = "text.transformer.embeddings.position_ids"
        if position_ids not in expected:
            state.pop(position_ids, None)
        for name in ("logit_scale", "logit_bias"):
            if name in state and name in expected and state[name].numel() == 1:
                state[name] = state[name].reshape(expected[name].shape)
        notes += _interpolate_positions(model, state)
    except (AssertionError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise ClipRobustError(
            f"checkpoint {checkpoint.path} does not fit architecture {architecture!r} "
            f"({brief(error, 120)}); {checkpoint.remedy}"
        ) from None
    check_fit(expected, state, str(checkpoint.path), architecture, checkpoint.remedy)
    check_types(expected, state, str(checkpoint.path))
    model.load_state_dict(state, strict=True)
    return notes


def _own_part(
    checkpoint: Checkpoint, expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of one model in a checkpoint that holds more, and what is to be said of it.

    A trainer's module has the model as one of its attributes (``student.``, ``net.``), and perhaps weights
    of a loss beside it. Tensors that are called as they should be are taken as they are.

    Raises:
        ClipRobustError: several models lie in it, of which none is the one.
    """
    state = dict(checkpoint.state)
    if any(name in state for name in expected):
        return state, ()
    anchor = next(iter(expected))
    prefixes = [name.removesuffix(anchor) for name in state if name.endswith(f".{anchor}")]
    whole = [p for p in prefixes if all(f"{p}{name}" in state for name in expected)]
    if not whole:
        return state, ()
    plain = [p for p in whole if not _AVERAGED.search(p)]
    if len(whole) > 1 and len(plain) != 1:
        raise ClipRobustError(
            f"checkpoint {checkpoint.path} holds several models, under {' and '.join(map(repr, whole[:3]))}; "
            "save the state_dict() of the one to be tested alone"
        )
    prefix = (plain or whole)[0]
    averages = next((p for p in whole if p != prefix), None)
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if averages is not None:
        return own, (
            f"weights: takes what the checkpoint calls {prefix[:40]!r}; it holds a moving average as well "
            f"({averages[:40]!r}), which is another model: save it alone to test it",
        )
    left = len(state) - len(own)
    beside = f", and leaves {left} other tensors out" if left else ""
    return own, (f"weights: takes what the checkpoint calls {prefix[:40]!r}{beside}",)


def _interpolate_positions(model: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Interpolate position embeddings where the grid differs, as open_clip does, and say so."""
    import open_clip.model

    notes = []
    for function, what, unit in (
        (open_clip.model.resize_pos_embed, "visual.positional_embedding", "image"),
        (open_clip.model.resize_text_pos_embed, "positional_embedding", "text"),
    ):
        names = (what, f"text.{what}")
        before = next((tuple(state[n].shape) for n in names if n in state), None)
        function(state, model)
        after = next((tuple(state[n].shape) for n in names if n in state), None)
        if before and after and before != after:
            notes.append(
                f"{unit} position embeddings interpolated from {before[0]} to {after[0]} positions: "
                "the checkpoint was trained at another size"
            )
    return notes


def weights_in(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the weights in a folder: the first of ``names``, an index of shards, or the one checkpoint.

    None if there is none, or several of which none is an index. An adapter's are not a model's.

    Raises:
        ClipRobustError: the folder cannot be read, or holds a shard alone.
    """
    for name in names:
        if (folder / name).exists():
            return folder / name
    try:
        found = sorted(p for p in folder.iterdir() if not p.name.startswith("adapter_"))
    except OSError as error:
        raise ClipRobustError(
            f"folder {folder} cannot be read ({error.strerror}); check its permissions"
        ) from None
    indices = [p for p in found if p.name.endswith(INDEX)]
    if len(indices) == 1:
        return indices[0]
    files = checkpoints_in(folder)
    if len(files) == 1 and _SHARD.search(files[0].name):
        raise ClipRobustError(
            f"folder {folder} holds {files[0].name!r:.80}, one of several shards, and no index of them; copy "
            f"or download all shards, and the file that ends in {INDEX}"
        )
    return files[0] if len(files) == 1 else None


def lacks_weights(folder: Path, expected: str) -> str:
    """Return what a folder is told of in which :func:`weights_in` found none: there is none, or several."""
    found = checkpoints_in(folder)
    if len(found) < 2:
        return f"folder {folder} holds no weights; expected {expected}"
    names = first_of([path.name for path in found], 4)
    return f"folder {folder} holds {len(found)} checkpoints ({names}); call the one that counts {expected}"


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the files of weights in a folder, by name; an adapter's are not a model's."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in _SUFFIXES
        and path.name not in _NO_WEIGHTS
        and not path.name.startswith("adapter_")
    )


def check_size(
    build: Callable[[], nn.Module], state: Mapping[str, Tensor], source: str, architecture: str
) -> None:
    """Check that a model has not far more parameters than its checkpoint, before memory is taken for them.

    Args:
        build: makes the model on the default device.
        state: the checkpoint's tensors.
        source, architecture: for the message.

    Raises:
        ClipRobustError: it has.
    """
    try:
        with torch.device("meta"):
            wanted = sum(tensor.numel() for tensor in build().state_dict().values())
    except (
        Exception
    ):  # a tower that computes while it is built; what else is wrong is told by building
        return
    there = sum(tensor.numel() for tensor in state.values())
    if wanted > 2 * there + 2**24:
        raise ClipRobustError(
            f"checkpoint {source} does not fit architecture {architecture!r}: the model has {wanted:,} "
            f"parameters, the file {there:,}; the two belong to different models"
        )


def check_fit(
    expected: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    source: str,
    architecture: str,
    remedy: str = "name the architecture that it was trained as",
) -> None:
    """Compare names and shapes.

    Args:
        expected: the model's tensors.
        state: the checkpoint's.
        source, architecture: for the message.
        remedy: what the message advises.

    Raises:
        ClipRobustError: they differ; the message counts and names the first of each kind.
    """
    missing = [k for k in expected if k not in state]
    unexpected = [k for k in state if k not in expected]
    misshapen = [k for k in expected if k in state and state[k].shape != expected[k].shape]
    problems = [*_count(missing, "missing"), *_count(unexpected, "unexpected")]
    if misshapen:
        first = misshapen[0]
        problems.append(
            f"{len(misshapen)} of another shape (first {first!r}: {list(state[first].shape)} in the "
            f"file, {list(expected[first].shape)} in the model)"
        )
    if problems:
        raise ClipRobustError(
            f"checkpoint {source} does not fit architecture {architecture!r}: tensors "
            f"{', '.join(problems)}; {remedy}"
        )


def check_types(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Check that no weight is stored as whole numbers, which torch would take for the values themselves.

    Args:
        expected: the model's tensors.
        state: the checkpoint's.
        source: for the message.

    Raises:
        ClipRobustError: one is; the message names it.
    """
    for name, tensor in state.items():
        wanted = expected.get(name)
        # Some libraries rename what they load; that a weight is a fraction stays.
        fraction = name.endswith(".weight") if wanted is None else wanted.is_floating_point()
        if tensor.is_floating_point() or not fraction:
            continue
        raise ClipRobustError(
            f"checkpoint {source} holds quantised weights: {name!r:.80} is stored as "
            f"{str(tensor.dtype).removeprefix('torch.')}, and the model computes with fractions; give the "
            "weights before that, or wrap the model in an encoder of your own"
        )


def _count(names: Iterable[str], what: str) -> list[str]:
    found = list(names)
    return [f"{len(found)} {what} (first {found[0]!r})"] if found else []
