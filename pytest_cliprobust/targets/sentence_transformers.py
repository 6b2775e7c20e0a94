"""CLIP as sentence-transformers saves it: a folder with ``modules.json``, the model in a folder inside."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.files import lies_there, require_regular
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
    inner = folder / _path(folder / MODULES)
    if not lies_there(inner / "config.json"):
        raise ClipRobustError(
            f"{folder / MODULES} names {inner.name!r:.80}, which has no config.json"
        )
    arguments = arguments_for(name, load_transformers, {"name": name, **options})
    return load_transformers(source=str(inner), **arguments)


def _path(path: Path) -> str:
    """Return the folder of the one module, below the root."""
    require_regular(path, "list of modules")
    try:
        modules = json.loads(path.read_text(encoding="utf-8")[: 2**20])
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        inner = modules[0]["path"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError, IndexError) as error:
        raise ClipRobustError(f"{path} cannot be read ({brief(error)})") from None
    if kinds != ["CLIPModel"]:
        raise ClipRobustError(
            f"{path} lists {', '.join(kinds)[:120]}; of sentence-transformers a CLIPModel alone is "
            "supported, as other models have no image tower or more than one"
        )
    if not isinstance(inner, str) or os.path.basename(inner) != inner or inner in (".", ".."):
        raise ClipRobustError(f"{path} names a folder elsewhere, {inner!r:.80}")
    return inner
