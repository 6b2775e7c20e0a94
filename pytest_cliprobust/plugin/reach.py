"""Whether the model hub is in reach where a run begins there, asked before anything heavy is imported.

Importing torch and a suite takes seconds, which nobody needs who is going to be told that there is no hub.
What is not sure here is left to those who fetch: they say the same, later.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from pytest_cliprobust.datasets.field import FIELD
from pytest_cliprobust.datasets.roles import HUB
from pytest_cliprobust.datasets.sources import read_sources
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.targets import hub
from pytest_cliprobust.targets.names import is_architecture, path_in

#: A model by its repository.
_REPOSITORY = re.compile(r"(?:hf-hub|transformers):([\w.-]+/[\w.-]+)")

#: Data by its repository, at a revision or not.
_DATA = re.compile(r"([\w.-]+/[\w.-]+)(?:@.*)?")

#: Where open_clip's weights lie, in its own table of them.
_WEIGHTS = re.compile(r"""hf_hub=['"]([\w.-]+/[\w.-]+)""")


def require_reach(config: RunConfig) -> None:
    """Raise if a model, or the data of ``clean``, can only come from a hub that cannot be reached.

    Raises:
        Unavailable: it is not in the local cache, and no hub answers.
    """
    for name in config.models:
        source = config.source(name)
        repository = _REPOSITORY.fullmatch(source)
        if path_in(source) is not None:
            continue
        if repository is not None and not hub.has_folder(repository[1]):
            hub.require_hub(f"model {source!r}", hub.FOLDER_REMEDY)
        elif repository is None and _lacks_weights(source, config.pretrained):
            hub.require_hub(f"model {source!r}")
    for given in config.sets or read_sources([config.data]):
        if given.layout != HUB or given.role not in ("", "clean"):
            continue
        for path in (given.path,) if given.path else FIELD["clean"]:
            repository = _DATA.fullmatch(path)
            if repository is not None and not hub.has_folder(repository[1], "dataset"):
                hub.require_hub(f"data set '{HUB}:{path}'", hub.DATA_REMEDY)


def _lacks_weights(source: str, pretrained: str | None) -> bool:
    """Return whether a model is an architecture of open_clip's, none of whose weights are in the cache."""
    if not is_architecture(source):
        return False
    tag = "" if is_architecture(source.replace("/", "-")) else source.rpartition("/")[2]
    table, wanted = _table_of_weights(), re.escape(tag or pretrained or "")
    known = not wanted or re.search(rf"""\b{wanted}=|['"]{wanted}['"]:""", table)
    repositories = set(_WEIGHTS.findall(table))
    return bool(known and repositories) and not any(map(hub.has_folder, repositories))


def _table_of_weights() -> str:
    """Return the source of open_clip's table of weights, which cannot be imported without torch."""
    spec = importlib.util.find_spec("open_clip")
    places = (spec.submodule_search_locations if spec else None) or ()
    for place in places:
        path = Path(place) / "pretrained.py"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return ""
