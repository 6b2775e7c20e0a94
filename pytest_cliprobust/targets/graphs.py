"""ONNX graphs of a model's two towers, run by onnxruntime.

A graph is a program, but one that can only compute: it reads no file but its own weights beside it, opens no
connection, and operators of other libraries are not loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief, is_out_of_memory
from pytest_cliprobust.files import lies_there, require_regular
from pytest_cliprobust.targets.checkpoint import note_file

if TYPE_CHECKING:
    from pytest_cliprobust.targets.runtime import TwoTowerTarget

#: What the graphs of an export are called, where a folder holds more of them than two.
_PLAIN = (
    *("vision_model.onnx", "text_model.onnx", "visual.onnx", "textual.onnx"),
    *("image_encoder.onnx", "text_encoder.onnx"),
)

#: Names of the output with the features, as exporters give them.
_FEATURES = {
    "image": ("image_embeds", "image_features", "image_embedding", "image_embeddings"),
    "text": ("text_embeds", "text_features", "text_embedding", "text_embeddings"),
}

#: Names of the inputs of a text tower beside the tokens themselves.
_MASKS = ("attention_mask", "text_attention_mask")

#: Types of a graph's inputs.
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}

#: Files beside a graph that cannot hold its weights.
_NO_WEIGHTS = (".json", ".txt", ".md", ".py", ".yaml", ".yml", ".onnx", ".gz", ".model")

Arrays = dict[str, np.ndarray[Any, Any]]


class Graphs:
    """The graphs of a model: one for each tower, or one for both.

    Args:
        source: a graph of both towers, or a folder that holds one or two graphs.
        device: where they run, if onnxruntime can.

    Attributes:
        identity: a text that differs for other graphs.
        note: what a reader of the report must know.

    Raises:
        Unavailable: onnxruntime is not installed.
        ClipRobustError: no graphs, or none of an image and a text tower; damaged ones.
    """

    def __init__(self, source: str, device: torch.device) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise Unavailable(
                f"ONNX graphs in {source!r} are run by onnxruntime, which is not installed; "
                "`pip install pytest-cliprobust[onnx]`"
            ) from None
        self.source = source
        paths = _graphs_in(source)
        provider = _provider(onnxruntime.get_available_providers(), device)
        sessions = [_opened(onnxruntime, path, provider) for path in paths]
        for path in paths:
            note_file(path)
        self._image = self._one(sessions, paths, "image")
        self._text = self._one(sessions, paths, "text")
        names = ", ".join(path.name for path in paths)
        version = str(onnxruntime.__version__)
        self.identity = "\0".join((version, provider, *map(_digest, paths)))
        self.note = f"features by onnxruntime {version} ({provider}) from {names}"

    def _one(self, sessions: list[Any], paths: list[Path], tower: str) -> Any:
        found = [session for session in sessions if tower in _towers(session)]
        if len(found) == 1:
            return found[0]
        what = "pictures (B, 3, H, W)" if tower == "image" else "tokens (N, L)"
        raise ClipRobustError(
            f"{self.source}: {len(found)} of {', '.join(path.name for path in paths)} take {what}; give a "
            "folder with one graph for each tower, or one graph for both"
        )

    def check(self, parent: TwoTowerTarget, name: str) -> None:
        """Run a picture and a text through both towers.

        Raises:
            ClipRobustError: they fail, or give features of another size than the parent's.
        """
        picture = torch.zeros(1, 3, *parent.image_size)
        tokens = parent.tokens(["a photo of a cat."])
        for tower, features in (
            ("image", self.encode_image(picture, tokens)),
            ("text", self.encode_tokens(tokens, picture)),
        ):
            if features.shape != (1, parent.embed_dim):
                raise ClipRobustError(
                    f"--clip-model {name}: the {tower} graph gives features {tuple(features.shape)}, and "
                    f"{parent.info.name!r} has (1, {parent.embed_dim}); it is another model's, or lacks "
                    "the projection"
                )

    def encode_image(self, pixels: Tensor, tokens: Mapping[str, Tensor]) -> Tensor:
        """From pixels (B, 3, h, w) to features (B, D).

        Args:
            pixels: preprocessed.
            tokens: of some text, for a graph of both towers.
        """
        return self._run(self._image, "image", pixels, tokens)

    def encode_tokens(self, tokens: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
        """From tokens of N texts to features (N, D); ``pixels``: some picture, for a graph of both towers."""
        return self._run(self._text, "text", pixels, tokens)

    def _run(
        self, session: Any, tower: str, pixels: Tensor, tokens: Mapping[str, Tensor]
    ) -> Tensor:
        wanted = pixels if tower == "image" else tokens["input_ids"]
        fixed = _batch_of(session, tower)
        parts = [
            self._rows(session, tower, _feeds(session, tower, pixels, tokens, rows, fixed), fixed)[
                : rows.stop - rows.start
            ]
            for rows in _slices(len(wanted), fixed)
        ]
        return torch.cat(parts)

    def _rows(self, session: Any, tower: str, feeds: Arrays, fixed: int | None) -> Tensor:
        output = _output(session, tower, self.source)
        try:
            (features,) = session.run([output], feeds)
        except Exception as error:  # onnxruntime's errors have no common class
            if is_out_of_memory(error):
                raise torch.OutOfMemoryError(brief(error)) from None
            shapes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
            raise ClipRobustError(
                f"{self.source}: the {tower} graph fails on {shapes} ({brief(error)}); export it for this "
                "size, with a free batch dimension"
            ) from None
        return torch.from_numpy(np.asarray(features, dtype=np.float32))


# --- Files -----------------------------------------------------------------------------------------


def _graphs_in(source: str) -> list[Path]:
    """Return the files of one or two graphs.

    Raises:
        ClipRobustError: there are none, or more.
    """
    path = Path(source).expanduser()
    if not lies_there(source):
        raise ClipRobustError(f"there is no ONNX graph or folder {source!r:.200}; check the path")
    if not path.is_dir():
        require_regular(path, "ONNX graph")
        return [path]
    try:
        found = [p for folder in (path, *_folders_in(path)) for p in sorted(folder.glob("*.onnx"))]
    except OSError as error:
        raise ClipRobustError(f"folder {path} cannot be read ({error.strerror})") from None
    if len(found) > 2:
        found = [p for p in found if p.name in _PLAIN] or found
    if not 1 <= len(found) <= 2:
        names = ", ".join(p.name for p in found[:6])
        raise ClipRobustError(
            f"folder {path} holds {f'too many graphs ({names})' if found else 'no .onnx graph'}; give one "
            "with a graph for each tower, or one for both"
        )
    for graph in found:
        require_regular(graph, "ONNX graph")
    return found


def _folders_in(path: Path) -> list[Path]:
    return sorted(inner for inner in path.iterdir() if inner.is_dir() and not inner.is_symlink())


def _digest(path: Path) -> str:
    """Return a digest of a graph and of what may be its weights beside it."""
    digest = hashlib.sha256()
    beside = sorted(p for p in path.parent.iterdir() if p.suffix not in _NO_WEIGHTS)
    for file in (path, *(p for p in beside if p.is_file())):
        digest.update(f"{file.name}\0".encode(errors="surrogateescape"))
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _provider(available: list[str], device: torch.device) -> str:
    wanted = "CUDAExecutionProvider"
    return wanted if device.type == "cuda" and wanted in available else "CPUExecutionProvider"


def _opened(onnxruntime: Any, path: Path, provider: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong comes as an error, too
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(
            str(path),
            options,
            providers=[provider],
            enable_fallback=0,  # which prints, and tries the same again
        )
    except Exception as error:  # onnxruntime's errors have no common class
        raise ClipRobustError(
            f"ONNX graph {path} cannot be used ({brief(error)}); export it again"
        ) from None


# --- Inputs and outputs ----------------------------------------------------------------------------


def _towers(session: Any) -> set[str]:
    """Return which of ``image`` and ``text`` a graph takes."""
    return {tower for item in session.get_inputs() if (tower := _tower(item)) is not None}


def _tower(item: Any) -> str | None:
    whole = item.type in ("tensor(int64)", "tensor(int32)")
    if len(item.shape) == 4 and not whole:
        return "image"
    return "text" if len(item.shape) == 2 and whole else None


def _batch_of(session: Any, tower: str) -> int | None:
    """Return the number of rows that a graph was exported for; None: any."""
    first = next(item.shape[0] for item in session.get_inputs() if _tower(item) == tower)
    return first if isinstance(first, int) and first > 0 else None


def _slices(total: int, size: int | None) -> list[slice]:
    size = size or max(total, 1)
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def _feeds(
    session: Any,
    tower: str,
    pixels: Tensor,
    tokens: Mapping[str, Tensor],
    rows: slice,
    fixed: int | None,
) -> Arrays:
    """Return the inputs of a graph: the rows that are wanted, and one of the other tower's."""
    feeds: Arrays = {}
    for item in session.get_inputs():
        kind = _tower(item)
        if kind == "image":
            value = pixels
        elif kind == "text" and item.name in _MASKS:
            ids = tokens["input_ids"]
            value = tokens.get("attention_mask", torch.ones_like(ids))
        elif kind == "text":
            value = tokens["input_ids"]
        else:
            raise ClipRobustError(
                f"the {tower} graph has an input {item.name[:60]!r} {item.shape!r:.60} that is neither "
                "pictures nor tokens; export the towers alone"
            )
        value = value[rows] if kind == tower else value[: _fixed(item) or 1]
        feeds[item.name] = _as_array(value, item, fixed if kind == tower else _fixed(item))
    return feeds


def _fixed(item: Any) -> int | None:
    return item.shape[0] if isinstance(item.shape[0], int) and item.shape[0] > 0 else None


def _as_array(value: Tensor, item: Any, rows: int | None) -> np.ndarray[Any, Any]:
    """Return an input in a graph's type, its last row repeated where a fixed number is wanted."""
    if rows is not None and len(value) < rows:
        value = torch.cat([value, value[-1:].expand(rows - len(value), *value.shape[1:])])
    if item.type not in _TYPES:
        raise ClipRobustError(
            f"the graph's input {item.name[:60]!r} is a {item.type}; known are {', '.join(_TYPES)}"
        )
    array = value.detach().cpu().numpy()
    return np.ascontiguousarray(array, dtype=_TYPES[item.type])


def _output(session: Any, tower: str, source: str) -> str:
    """Return the name of the output that holds the features.

    Raises:
        ClipRobustError: none that is known, and not a single one of two dimensions.
    """
    outputs = {str(item.name): item.shape for item in session.get_outputs()}
    for name in _FEATURES[tower]:
        if name in outputs:
            return name
    flat = [name for name, shape in outputs.items() if len(shape) == 2]
    if len(flat) == 1 and len(_towers(session)) == 1:
        return flat[0]
    raise ClipRobustError(
        f"{source}: of the {tower} graph's outputs ({', '.join(outputs)[:200]}) none is called "
        f"{_FEATURES[tower][0]}; export it with that name"
    )
