"""CLIP as sentence-transformers saves it: a folder with ``modules.json``, the model in it or further inside.

The module is a ``CLIPModel``, or a ``Transformer`` (sentence-transformers 6) that holds a CLIP model; unit
length (``Normalize``) changes nothing, as features have it here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.files import lies_there, require_regular
from pytest_cliprobust.targets.configuration import read_configuration
from pytest_cliprobust.targets.registry import arguments_for, register_format
from pytest_cliprobust.targets.transformers_target import load_transformers

MODULES = "modules.json"


@register_format(MODULES)
def load_sentence_transformers(name: str, source: str, **options: Any) -> Any:
    """Load the CLIP model of transformers that a folder of sentence-transformers holds.

    Raises:
        ClipRobustError: its modules are no CLIP model alone, or lie elsewhere.
    """
    folder = Path(source).expanduser()
    kind, path = _module(folder / MODULES)
    inner = folder / path
    if not lies_there(inner / "config.json"):
        raise ClipRobustError(
            f"{folder / MODULES} names {inner.name!r:.80}, which has no config.json"
        )
    held = read_configuration(inner / "config.json").get("model_type")
    if kind == "Transformer" and held != "clip":
        raise ClipRobustError(
            f"{folder / MODULES} lists a Transformer of model_type {held!r:.40}, whose texts it may prepare "
            f"in another way than the model was trained with; transformers:{inner} tests the model itself"
        )
    arguments = arguments_for(name, load_transformers, {"name": name, **options})
    return load_transformers(source=str(inner), **arguments)


def _module(path: Path) -> tuple[str, str]:
    """Return the kind of the one module that computes something, and its folder below the root."""
    require_regular(path, "list of modules")
    try:
        modules = json.loads(path.read_text(encoding="utf-8")[: 2**20])
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        inner = modules[0]["path"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError, IndexError) as error:
        raise ClipRobustError(f"{path} cannot be read ({brief(error)})") from None
    if [kind for kind in kinds if kind != "Normalize"] not in (["CLIPModel"], ["Transformer"]):
        raise ClipRobustError(
            f"{path} lists {', '.join(kinds)[:120]}; of sentence-transformers a CLIPModel alone, or a "
            "Transformer with a CLIP model, is supported, as others have no image tower or more than one"
        )
    if not isinstance(inner, str) or os.path.basename(inner) != inner or inner in (".", ".."):
        raise ClipRobustError(f"{path} names a folder elsewhere, {inner!r:.80}")
    return kinds[0], inner
