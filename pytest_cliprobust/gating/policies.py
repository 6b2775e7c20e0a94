"""Reading policies: the table ``[policy]`` of a threshold file, and the packs that the file extends.

A pack is a policy in a file of its own, which may hold bounds, too. Those of this package go by name
(``packs/``, a file each), those of the user's by a path that is relative to the file that names them;
nothing is ever fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pytest_cliprobust.errors import as_toml, did_you_mean
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.gating.document import Document, read_text
from pytest_cliprobust.gating.policy import Inconclusive, Policy, Skipped, Unused

POLICY_KEYS = (
    "inconclusive",
    "inconclusive_share",
    "confidence",
    "family_wise_error_rate",
    "churn",
    "require_bound",
    "skipped",
    "unused",
    "baseline",
    "baseline_model",
)

#: Below this a level of confidence is 1 to a computer, whatever the number of bounds.
LEAST_ERROR_RATE = 1e-9

PACK_KEYS = ("schema", "extends", "policy", "defaults", "threshold")

#: What belongs to one threshold file: a baseline is of the models that it was recorded from.
_OWN_KEYS = ("baseline", "baseline_model")

_PACKS = Path(__file__).with_name("packs")


@dataclass(frozen=True)
class _Set:
    """What a file of packs sets.

    Attributes:
        values: by key of the policy, what it is set to.
        sources: by key, which pack says so: ``pack release``, or file and line.
        documents: the packs, the one that counts least first.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    documents: tuple[Document, ...] = ()


def policy_of(document: Document, folder: Path) -> tuple[Policy, tuple[Document, ...]]:
    """Return the policy of a threshold file, its own table over the packs that it extends; and these.

    The packs stand in the order in which they count, each once, the one that counts least first.

    Args:
        document: the file.
        folder: what paths of packs are relative to.

    Raises:
        ClipRobustError: any mistake in it, or in a pack, with file and line.
    """
    table = document.table("policy")
    document.check_keys(table, POLICY_KEYS, "[policy]", "policy")
    own = {key: _value(document, key, value) for key, value in table.items()}
    packs = _extended(document, folder, ())
    # Of a pack that is named in two ways the later one counts.
    counted = {each.name: each for each in reversed(packs.documents)}
    documents = tuple(reversed(counted.values()))
    policy = Policy(
        **{**packs.values, **own},
        where=f"{document.name}:{document.line('policy')}",
        packs=tuple(dict.fromkeys(each.name for each in packs.documents)),
        sources={key: where for key, where in packs.sources.items() if key not in own},
    )
    return policy, documents


def bundled() -> tuple[str, ...]:
    """Return the names of the packs that ship with this package."""
    return tuple(sorted(path.stem for path in _PACKS.glob("*.toml")))


def _extended(document: Document, folder: Path, chain: Sequence[tuple[Path, str]]) -> _Set:
    """Return what the packs of a file set; of two that set one key the later one counts."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    documents: list[Document] = []
    for name, path in _named(document, folder):
        found = _pack(document, name, path, chain)
        values |= found.values
        sources |= found.sources
        documents += found.documents
    return _Set(values, sources, tuple(documents))


def _named(document: Document, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the packs of a file as they are written, with where each lies."""
    given = document.data.get("extends", [])
    listed = given if isinstance(given, list) else [given]
    if not all(isinstance(name, str) and name.strip() for name in listed):
        raise document.error(
            f"extends must be the name of a pack, or a list of them, not {as_toml(given)}",
            "extends",
        )
    for name in listed:
        yield name, _path_of(document, name, folder)


def _path_of(document: Document, name: str, folder: Path) -> Path:
    if "://" in name:
        raise document.error(
            f"extends {as_toml(name)}: packs are read from files, never from a network", "extends"
        )
    if name in bundled():
        return _PACKS / f"{name}.toml"
    if "/" not in name and not name.endswith(".toml"):
        raise document.error(
            f"unknown pack {as_toml(name)}.{did_you_mean(name, bundled())} Known: {', '.join(bundled())}; "
            "one of your own is a path, './company.toml'",
            "extends",
        )
    if Path(name).is_absolute() or "\\" in name or name.startswith("~"):
        raise document.error(
            f"extends {as_toml(name)}: write the path relative to this file, './company.toml', so that it "
            "is the same on every machine",
            "extends",
        )
    path = folder / name
    if not _is_file(path):
        raise document.error(f"extends {as_toml(name)}: there is no such file", "extends")
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or none
        return False


def _pack(document: Document, name: str, path: Path, chain: Sequence[tuple[Path, str]]) -> _Set:
    """Return what one pack sets, and those that it extends itself."""
    ours = path.parent == _PACKS
    shown_name = f"pack {name}" if ours else str(shown_path(path))
    here = path.resolve()
    if here in (known for known, _ in chain):
        way = " extends ".join([*(said for _, said in chain), shown_name])
        raise document.error(f"extends {as_toml(name)} leads back to itself: {way}", "extends")
    own = Document(read_text(path), shown_name)
    _check_pack(own)
    table = own.table("policy")
    under = _extended(own, path.parent, [*chain, (here, shown_name)])
    values = {key: _value(own, key, value) for key, value in table.items()}
    places = {
        key: shown_name if ours else f"{shown_name}:{own.line('policy', key)}" for key in values
    }
    return _Set({**under.values, **values}, {**under.sources, **places}, (*under.documents, own))


def _check_pack(document: Document) -> None:
    for key in ("waiver", "perturbation"):
        if key in document.data:
            raise document.error(
                f"a pack holds a policy and bounds, and no {key}: it belongs into the threshold file",
                key,
            )
    document.check_keys(document.data, PACK_KEYS, "a pack")
    document.check_schema()
    table = document.table("policy")
    for key in _OWN_KEYS:
        if key in table:
            raise document.error(
                f"a pack cannot set {key}: a baseline belongs to one threshold file", "policy", key
            )
    document.check_keys(
        table, [key for key in POLICY_KEYS if key not in _OWN_KEYS], "[policy]", "policy"
    )


def _value(document: Document, key: str, value: Any) -> Any:
    path = ("policy", key)
    if key == "inconclusive":
        return document.choice(value, get_args(Inconclusive), *path)
    if key == "skipped":
        return document.choice(value, get_args(Skipped), *path)
    if key == "unused":
        return document.choice(value, get_args(Unused), *path)
    if key == "inconclusive_share":
        number = document.number(value, key, *path)
        if not 0.0 <= number <= 1.0:
            raise document.error(f"{key} must be in [0, 1], not {as_toml(value)}", *path)
        return number
    if key == "confidence":
        number = document.number(value, key, *path)
        if not 0.5 < number < 1.0:
            raise document.error(f"confidence must be in (0.5, 1), not {as_toml(value)}", *path)
        return number
    if key == "family_wise_error_rate":
        number = document.number(value, key, *path)
        if not LEAST_ERROR_RATE <= number <= 0.5:
            raise document.error(
                f"{key} must be in [{LEAST_ERROR_RATE:g}, 0.5], not {as_toml(value)}", *path
            )
        return number
    if key == "churn":
        number = document.number(value, key, *path)
        if not 0.0 < number <= 0.5:
            raise document.error(f"churn is a share in (0, 0.5], not {as_toml(value)}", *path)
        return number
    if key == "require_bound":
        if not isinstance(value, bool):
            raise document.error(
                f"require_bound must be true or false, not {as_toml(value)}", *path
            )
        return value
    text = document.text(value, *path)
    return Path(text) if key == "baseline" else text
