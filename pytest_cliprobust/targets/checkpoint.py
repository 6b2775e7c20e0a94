"""Checkpoint files: read them safely, and say in one line why one does not fit."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pytest_cliprobust.errors import ClipRobustError, brief

#: Keys under which training scripts store the state dict (open_clip's own: the first).
_WRAPPERS = ("state_dict", "model_state_dict", "model")

#: Prefixes of DistributedDataParallel and of torch.compile.
_PREFIXES = ("module.", "_orig_mod.")

#: Entries of OpenAI's TorchScript archives that are settings, not weights.
_OPENAI_SETTINGS = ("input_resolution", "context_length", "vocab_size")

#: What torch's restricted unpickler says of a sound file that holds more than tensors.
_FORBIDDEN = ("Unsupported global", "Unsupported class", "unrecognized function", "Can only")


@dataclass
class Checkpoint:
    """A state dict and where it came from.

    Attributes:
        path: the file.
        state: tensors by name, prefixes of wrappers removed.
        openai_archive: one of OpenAI's own TorchScript archives (all trained with QuickGELU).
    """

    path: Path
    state: dict[str, Tensor]
    openai_archive: bool = False


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a safetensors file, a torch file (``weights_only=True``) or a TorchScript archive.

    Raises:
        ClipRobustError: no such file; empty, truncated or damaged; a Git LFS pointer; pickled objects
            other than tensors; no state dict inside.
    """
    if not path.exists():
        raise ClipRobustError(f"checkpoint {path} does not exist; check --clip-pretrained")
    if path.is_dir():
        raise ClipRobustError(
            f"checkpoint {path} is a folder; give a file with --clip-pretrained, or the folder itself "
            "as --clip-model"
        )
    with open(path, "rb") as file:
        head = file.read(64)
    if not head:
        raise ClipRobustError(f"checkpoint {path} is empty (0 bytes); copy or download it again")
    if head.startswith(b"version ") and b"git-lfs" in head:
        raise ClipRobustError(
            f"checkpoint {path} is a Git LFS pointer, not the weights; fetch them with `git lfs pull`"
        )
    openai_archive = False
    if path.suffix == ".safetensors":
        content: Any = _read_safetensors(path)
    elif _is_torchscript(path):
        content = _read_torchscript(path)
        openai_archive = all(name in content for name in _OPENAI_SETTINGS)
        content = {k: v for k, v in content.items() if k not in _OPENAI_SETTINGS}
    else:
        content = _read_torch(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())
    ):
        raise ClipRobustError(
            f"checkpoint {path} holds no state dict (tensors by name); save model.state_dict()"
        )
    state = dict(content)
    while prefix := next((p for p in _PREFIXES if all(k.startswith(p) for k in state)), None):
        state = {k.removeprefix(prefix): v for k, v in state.items()}
    return Checkpoint(path, state, openai_archive)


def _damaged(path: Path, error: Exception) -> ClipRobustError:
    return ClipRobustError(
        f"checkpoint {path} is truncated or damaged ({brief(error, 120)}); copy or download it again"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from None
    return state


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    try:
        with (
            warnings.catch_warnings()
        ):  # torch means to retire the format, OpenAI's files stay in it
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        raise _damaged(path, error) from None
    return dict(module.state_dict())


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if any(words in str(error) for words in _FORBIDDEN):
            raise ClipRobustError(
                f"checkpoint {path} holds pickled objects other than tensors, which are not loaded "
                "for safety; save its state dict instead, best as safetensors"
            ) from None
        raise _damaged(path, error) from None
    except Exception as error:  # a damaged pickle can raise anything
        raise _damaged(path, error) from None


def load_into(model: nn.Module, checkpoint: Checkpoint, architecture: str) -> list[str]:
    """Load ``checkpoint`` into an open_clip ``model``; return what a reader must know of it.

    Third-party layouts that open_clip knows are converted as ``open_clip.load_checkpoint`` does, but a
    missing logit bias is an error here: open_clip fills in zeros, which is for training.

    Raises:
        ClipRobustError: tensors missing, left over, or of another shape.
    """
    import open_clip.convert
    import open_clip.model

    state: dict[str, Tensor] = dict(checkpoint.state)
    notes: list[str] = []
    expected = model.state_dict()
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
            f"({brief(error, 120)}); name the architecture that it was trained as"
        ) from None
    check_fit(expected, state, str(checkpoint.path), architecture)
    model.load_state_dict(state, strict=True)
    return notes


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


def check_fit(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str, architecture: str
) -> None:
    """Compare names and shapes.

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
            f"{', '.join(problems)}; name the architecture that it was trained as"
        )


def _count(names: Iterable[str], what: str) -> list[str]:
    found = list(names)
    return [f"{len(found)} {what} (first {found[0]!r})"] if found else []
