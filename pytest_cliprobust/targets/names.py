"""What models under test are called: ``NAME=MODEL``, or a name that follows from the model.

A name is what bounds, baselines and reports know a model by, and so is the same on every machine: never a
path. Imports nothing heavy: names are needed before any model is loaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.files import is_path, lies_there, own_name, split_name

FLAG = "--clip-model"

#: Prefixes behind which a path may stand that is not written as one: ``transformers:v2``.
_FOLDERS = ("local-dir:", "transformers:")

#: Endings of checkpoints.
CHECKPOINTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")


#: Twins of a model, ``MODEL@int8``: the same weights, computed in another way.
TWINS = ("int8", "compile")

#: What an ONNX export is written behind, ``MODEL@onnx:PATH``.
GRAPHS = "onnx:"


def named_models(texts: Iterable[str]) -> dict[str, str]:
    """Return the models that ``--clip-model`` names: by name, what to load.

    Raises:
        ClipRobustError: a name that is none, or two models of one name.
    """
    models: dict[str, str] = {}
    for text in texts:
        name, source = named(text)
        other = models.setdefault(name, source)
        if not _same(other, source):
            raise ClipRobustError(
                f"two models are called {name!r}, {other} and {source}: write {FLAG} NAME=MODEL for "
                "one of them"
            )
    return models


def named(text: str) -> tuple[str, str]:
    """Return the name of the model that a text means, and what to load.

    Raises:
        ClipRobustError: a name that is none.
    """
    given, source = split_name(text, FLAG)
    name = given or _name_of(source)
    if not name:
        raise ClipRobustError(f"{FLAG} {text} has no name of its own; write {FLAG} NAME={source}")
    return name, source


def _name_of(source: str) -> str:
    path = path_in(source)
    if path is None:
        return source
    twin = split_twin(source)[1]
    return f"{own_name(path)}@{twin}" if twin in TWINS else own_name(path)


def split_twin(source: str) -> tuple[str, str | None]:
    """Return model and twin of ``MODEL@TWIN``; the whole and None if there is none.

    A twin is one of :data:`TWINS`, or :data:`GRAPHS` and a path.
    """
    if lies_there(source):
        return source, None
    model, sign, path = source.partition(f"@{GRAPHS}")
    if sign and model:
        return model, f"{GRAPHS}{path}"
    model, at, twin = source.rpartition("@")
    return (model, twin) if at and model and twin in TWINS else (source, None)


def path_in(source: str) -> str | None:
    """Return the path that a model is loaded from; None if it has a name of its own."""
    parent, twin = split_twin(source)
    if twin is not None:
        return twin.removeprefix(GRAPHS) if twin.startswith(GRAPHS) else path_in(parent)
    model, checkpoint = split_checkpoint(source)
    if checkpoint is not None:
        return checkpoint
    prefix, colon, rest = model.partition(":")
    if colon and (is_path(rest) or (prefix + colon in _FOLDERS and lies_there(rest))):
        return rest
    if is_path(model) or (lies_there(model) and not is_architecture(model)):
        return model
    return None


def split_checkpoint(source: str) -> tuple[str, str | None]:
    """Return model and checkpoint of ``MODEL@CHECKPOINT``; the whole and None if there is none."""
    model, at, checkpoint = source.rpartition("@")
    if not at or not model or lies_there(source):
        return source, None
    if is_path(checkpoint) or checkpoint.endswith(CHECKPOINTS) or lies_there(checkpoint):
        return model, checkpoint
    return source, None


def is_architecture(source: str) -> bool:
    """Return whether open_clip has an architecture of that name, with a tag behind it or without."""
    spec = importlib.util.find_spec("open_clip")
    places = (spec.submodule_search_locations if spec else None) or ()
    head = source.rpartition("/")[0]
    return any(
        lies_there(Path(place) / "model_configs" / f"{name.replace('/', '-')}.json")
        for place in places
        for name in (source, head)
        if name
    )


def check_pretrained(models: Mapping[str, str], pretrained: str | None) -> None:
    """Check that ``--clip-pretrained`` can be meant for all models under test.

    Raises:
        ClipRobustError: several models would get one checkpoint, or a tag that not all of them know.
    """
    if pretrained is None or len(models) < 2:
        return
    tag = not (is_path(pretrained) or pretrained.endswith(CHECKPOINTS) or lies_there(pretrained))
    if tag and all(is_architecture(split_twin(source)[0]) for source in models.values()):
        return
    raise ClipRobustError(
        f"--clip-pretrained {pretrained} would go to all {len(models)} models ({', '.join(models)}): "
        f"leave it out, and give the one that is meant its own: {FLAG} NAME=PATH for a model's folder, "
        f"{FLAG} NAME=ARCHITECTURE@CHECKPOINT for a checkpoint"
    )


def _same(one: str, two: str) -> bool:
    paths = (path_in(one), path_in(two))
    if one == two or None in paths or _around(one) != _around(two):
        return one == two
    first, second = (Path(str(path)).expanduser().resolve() for path in paths)
    return first == second


def _around(source: str) -> tuple[str | None, str | None]:
    """Return what stands beside the path in a model's name: its architecture or parent, and its twin."""
    parent, twin = split_twin(source)
    if twin is not None and twin.startswith(GRAPHS):
        return parent, GRAPHS
    model, checkpoint = split_checkpoint(parent)
    return None if checkpoint is None else model, twin
