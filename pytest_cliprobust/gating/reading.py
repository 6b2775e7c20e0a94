"""Reading a threshold file: its policy, its perturbations by name, and its rules.

Every mistake is an error that names file and line: a misspelt key that silently un-gates a metric would
be worse than no file at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypedDict, Unpack

from pytest_cliprobust.errors import ClipRobustError, as_toml
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.gating import vocabulary
from pytest_cliprobust.gating import waivers as waiving
from pytest_cliprobust.gating.document import Document, has_controls, printable, read_text
from pytest_cliprobust.gating.policies import policy_of
from pytest_cliprobust.gating.rules import BOUNDS, CHANGES, FIELDS, TEST, Kind, Place, Rule
from pytest_cliprobust.gating.thresholds import NamedPerturbation, ThresholdFile
from pytest_cliprobust.gating.vocabulary import Known, Vocabulary
from pytest_cliprobust.gating.weak import weak_bounds

FILE_KEYS = ("schema", "extends", "policy", "defaults", "perturbation", "threshold", "waiver")
ROW_KEYS = (*FIELDS, "severity", *BOUNDS, "because")
RULE_KEYS = (*FIELDS, "severity", *BOUNDS, "bounds", "because")
DEFAULT_KEYS = tuple(name for name in FIELDS if name != "metric")
WAIVER_KEYS = (*FIELDS, TEST, "severity", "reason", "owner", "expires")
PERTURBATION_KEYS = ("name", "kornia", "parameters", "severities", "envelope")
Keys = tuple[str | int, ...]


class Vocabularies(TypedDict, total=False):
    """What is known when a threshold file is read; what is left out is not checked.

    Attributes:
        profile: the profile of this run; rules for other profiles never match.
        known_suites: the suites of this run. Entries may be globs where names are open-ended, e.g.
            ``"imagefolder:*"``. A rule for other suites is no error, and its metric, data set and
            perturbation are not checked, unless the suite's name looks like a slip.
        known_metrics: likewise, or a mapping from suite to its metrics, which also catches a metric
            that the selected suites do not measure; left out, the registered metrics.
        known_datasets: as ``known_suites``.
        known_perturbations: as ``known_suites``; ``"clean"`` and those that the file itself names
            are always known.
        models: as ``known_suites``.
        known_profiles: as ``known_suites``.
        other_suites: suites that are no part of this run, but are there: their names are no slips.
    """

    profile: str | None
    known_suites: Vocabulary
    known_metrics: Vocabulary | Mapping[str, Iterable[str]]
    known_datasets: Vocabulary
    known_perturbations: Vocabulary
    models: Vocabulary
    known_profiles: Vocabulary
    other_suites: Iterable[str]


def parse_thresholds(
    text: str,
    name: str = "thresholds.toml",
    folder: Path = Path(),
    **given: Unpack[Vocabularies],
) -> ThresholdFile:
    """Read the text of a threshold file.

    Args:
        text: the TOML document.
        name: what messages call the file.
        folder: what paths of packs are relative to.
        given: see :class:`Vocabularies`.

    Raises:
        ClipRobustError: any mistake, as ``file:line: what and what to do``.
        TypeError: an argument of another name.
    """
    unknown = given.keys() - Vocabularies.__annotations__.keys()
    if unknown:
        raise TypeError(f"parse_thresholds() has no argument {min(unknown)!r}")
    document = Document(text, name)
    document.check_keys(document.data, FILE_KEYS, "the file")
    document.check_schema()
    policy, packs = policy_of(document, folder)
    own = list(_rules(document))
    rules = [*own, *_rules_of_packs(packs, own)]
    named = _perturbations(document)
    waivers = _waivers(document)
    perturbations = given.get("known_perturbations")
    if perturbations is not None:
        perturbations = ("clean", *perturbations, *(item.name for item in named))
    known = Known.of(
        suites=given.get("known_suites"),
        metrics=given.get("known_metrics"),
        datasets=given.get("known_datasets"),
        perturbations=perturbations,
        models=given.get("models"),
        profiles=given.get("known_profiles"),
        elsewhere=given.get("other_suites", ()),
    )
    vocabulary.check(rules, known)
    vocabulary.check_names([waiver.selector for waiver in waivers], known)
    return ThresholdFile(
        rules,
        policy,
        name=name,
        profile=given.get("profile"),
        perturbations=named,
        waivers=waivers,
        warnings=weak_bounds(text, own),
    )


def load_thresholds(path: str | Path, **given: Unpack[Vocabularies]) -> ThresholdFile:
    """Read a threshold file; arguments as :func:`parse_thresholds`.

    A relative ``baseline`` in the policy is resolved against the file's folder.

    Raises:
        ClipRobustError: there is no such file, or any mistake in it.
    """
    path = Path(path)
    result = parse_thresholds(read_text(path), str(shown_path(path)), path.parent, **given)
    baseline = result.policy.baseline
    if baseline is not None:
        result.policy = replace(result.policy, baseline=path.parent / baseline)
    return result


# --- Perturbations by name -------------------------------------------------------------------------


def _perturbations(document: Document) -> list[NamedPerturbation]:
    found: dict[str, NamedPerturbation] = {}
    for index, table in enumerate(document.tables("perturbation", "perturbations")):
        item = _perturbation(document, index, table)
        if item.name in found:
            what, where = f"perturbation {item.name!r}", found[item.name].where
            raise _twice(document, what, where, "perturbation", index)
        found[item.name] = item
    return list(found.values())


def _twice(document: Document, what: str, where: str, *place: str | int) -> ClipRobustError:
    """Return the error of a table that stands in ``where``, too."""
    return document.error(f"{what} stands in {where} already; keep one of them", *place)


def _perturbation(document: Document, index: int, table: Mapping[str, Any]) -> NamedPerturbation:
    here = ("perturbation", index)
    document.check_keys(table, PERTURBATION_KEYS, "[[perturbation]]", *here)
    for key in ("name", "kornia"):
        if key not in table:
            raise document.error(f"[[perturbation]] lacks {as_toml(key)}", *here)
    name = document.text(table["name"], *here, "name")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise document.error(
            f"name may hold letters, digits, '_', '.' and '-', not {as_toml(name)}", *here, "name"
        )
    parameters = table.get("parameters", {})
    if not isinstance(parameters, dict):
        raise document.error(
            f"parameters must be a table, {{ bits = 3 }}, not {as_toml(parameters)}",
            *here,
            "parameters",
        )
    steps = table.get("severities", [])
    if not (
        isinstance(steps, list)
        and len(steps) <= 5
        and all(isinstance(step, dict) and step for step in steps)
    ):
        raise document.error(
            "severities must be a list of at most 5 tables of parameters, mildest first, "
            f"not {as_toml(steps)}",
            *here,
            "severities",
        )
    return NamedPerturbation(
        name=name,
        kornia=document.text(table["kornia"], *here, "kornia"),
        parameters=parameters,
        severities=tuple(steps),
        envelope=_envelope(document, table.get("envelope", {}), *here, "envelope"),
        where=f"{document.name}:{document.line(*here)}",
    )


def _envelope(document: Document, value: Any, *path: str | int) -> dict[str, tuple[float, float]]:
    if not isinstance(value, dict):
        raise document.error(
            f"envelope must be a table, {{ bits = [8, 1] }}, not {as_toml(value)}", *path
        )
    ranges: dict[str, tuple[float, float]] = {}
    for key, ends in value.items():
        if not isinstance(ends, list) or len(ends) != 2:
            raise document.error(
                f"envelope of {as_toml(key)} must be [mildest, strongest], not {as_toml(ends)}",
                *path,
                key,
            )
        mildest, strongest = (document.number(end, key, *path, key) for end in ends)
        ranges[key] = (mildest, strongest)
    return ranges


# --- Rules -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """What a table names: ``[defaults]``, ``[[threshold]]``, a row; later layers replace earlier ones.

    Attributes:
        patterns: by field; ``("*",)`` opens it.
        levels: severities in the order written; empty: all; None: not named.
        because: the reason.
        paths: where each key stands.
    """

    patterns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    levels: tuple[int, ...] | None = None
    because: str = ""
    paths: Mapping[str, Keys] = field(default_factory=dict)

    def under(self, other: _Layer) -> _Layer:
        """Return the two together; what ``other`` names counts."""
        return _Layer(
            {**self.patterns, **other.patterns},
            self.levels if other.levels is None else other.levels,
            other.because or self.because,
            {**self.paths, **other.paths},
        )


def _layer(document: Document, table: Mapping[str, Any], *here: str | int) -> _Layer:
    because = document.text(table["because"], *here, "because") if "because" in table else ""
    return _Layer(
        patterns={
            name: _patterns(document, table[name], *here, name) for name in FIELDS if name in table
        },
        levels=_levels(document, table["severity"], *here, "severity")
        if "severity" in table
        else None,
        because=printable(" ".join(because.split())),
        paths={key: (*here, key) for key in table},
    )


def _patterns(document: Document, value: Any, *path: str | int) -> tuple[str, ...]:
    patterns = value if isinstance(value, list) else [value]
    if not patterns or not all(isinstance(p, str) and p for p in patterns):
        raise document.error(
            f"{path[-1]} must be a name, a glob, or a list of them, not {as_toml(value)}", *path
        )
    if any(map(has_controls, patterns)):
        raise document.error(f"{path[-1]} holds control characters: {as_toml(value)}", *path)
    if "*" not in patterns:
        # Sorted, so that the same set is the same rule.
        return tuple(sorted(set(patterns)))
    if path[-1] == "metric":
        raise document.error("metric must be named: one bound cannot fit all metrics", *path)
    return ("*",)


def _levels(document: Document, value: Any, *path: str | int) -> tuple[int, ...]:
    if value == "*":
        return ()
    levels = value if isinstance(value, list) else [value]
    if not levels or not all(
        isinstance(level, int) and not isinstance(level, bool) and 0 <= level <= 5
        for level in levels
    ):
        raise document.error(
            f"severity must be an integer from 0 to 5, or a list of them, not {as_toml(value)}",
            *path,
        )
    for level in levels:
        if levels.count(level) > 1:
            raise document.error(f"severity {level} stands twice in the list", *path)
    return tuple(levels)


def _rules(document: Document) -> Iterator[Rule]:
    table = document.table("defaults")
    document.check_keys(table, DEFAULT_KEYS, "[defaults]", "defaults")
    defaults = _layer(document, table, "defaults")
    index = 0
    for place, layer, values in _written(document, defaults):
        for rule in _expanded(document, place, layer, values):
            yield replace(rule, index=index)
            index += 1


def _rules_of_packs(packs: Sequence[Document], own: Sequence[Rule]) -> Iterator[Rule]:
    """Yield the rules of packs, of which a nearer one, or the file, has none for the very same figures.

    Args:
        packs: in the order in which they count, the one that counts least first.
        own: the file's.
    """
    taken, index = {rule.id for rule in own}, len(own)
    for rank, pack in enumerate(reversed(packs), 1):
        rules = list(_rules(pack))
        for rule in rules:
            if rule.id not in taken:
                yield replace(rule, index=index, rank=-rank)
                index += 1
        taken |= {rule.id for rule in rules}


def _written(
    document: Document, defaults: _Layer
) -> Iterator[tuple[Place, _Layer, Mapping[str, Any]]]:
    """Yield what is written as a rule, a table or a row, with all that it inherits."""
    for number, table in enumerate(document.tables("threshold", "rules")):
        here = ("threshold", number)
        document.check_keys(table, RULE_KEYS, "[[threshold]]", *here)
        layer = defaults.under(_layer(document, table, *here))
        if "bounds" not in table:
            yield Place(number), layer, table
            continue
        for position, row in enumerate(_rows(document, table, *here)):
            path = (*here, "bounds", position)
            document.check_keys(row, ROW_KEYS, "a row of 'bounds'", *path)
            yield Place(number, position), layer.under(_layer(document, row, *path)), row


def _rows(document: Document, table: Mapping[str, Any], *here: str | int) -> list[dict[str, Any]]:
    for kind in BOUNDS:
        if kind in table:
            raise document.error(f"{kind} stands beside 'bounds'; move it into a row", *here, kind)
    rows = table["bounds"]
    written = document.positions.at(*here, "bounds")
    if (
        not isinstance(rows, list)
        or not all(isinstance(row, dict) for row in rows)
        or written is None
        or written.kind != "pair"
    ):
        raise document.error(
            "bounds must be a list of rows, [ { perturbation = 'fog_3d', min = 0.6 }, … ]",
            *here,
            "bounds",
        )
    if not rows:
        raise document.error("bounds has no row; add one or drop the table", *here, "bounds")
    return rows


def _expanded(
    document: Document, place: Place, layer: _Layer, values: Mapping[str, Any]
) -> Iterator[Rule]:
    """Yield the rules of one table or row: one, or one for each severity where bounds are lists."""
    what = "[[threshold]]" if place.row is None else "a row of 'bounds'"
    if "metric" not in layer.patterns:
        raise document.error(f"{what} lacks 'metric'", *place.path)
    written = {kind: values[kind] for kind in BOUNDS if kind in values}
    if not written:
        raise document.error(f"{what} has no bound: add {', '.join(BOUNDS)}", *place.path)
    levels = layer.levels or ()
    lists = [kind for kind, value in written.items() if isinstance(value, list)]
    if not lists:
        bounds = {kind: (value, (*place.path, kind)) for kind, value in written.items()}
        yield _rule(document, place, layer, tuple(sorted(set(levels))), bounds)
        return
    for kind in lists:
        _check_parallel(document, kind, written[kind], levels, *place.path)
    for element, level in enumerate(levels):
        bounds = {
            kind: (value[element], (*place.path, kind, element))
            if kind in lists
            else (value, (*place.path, kind))
            for kind, value in written.items()
        }
        yield _rule(document, replace(place, element=element), layer, (level,), bounds)


def _check_parallel(
    document: Document, kind: Kind, values: list[Any], levels: tuple[int, ...], *here: str | int
) -> None:
    if not levels:
        raise document.error(
            f"{kind} is a list, one value for each severity, but no severity is named", *here, kind
        )
    if len(values) != len(levels):
        raise document.error(
            f"{kind} has {len(values)} values for {len(levels)} severities; give one for each",
            *here,
            kind,
        )


def _rule(
    document: Document,
    place: Place,
    layer: _Layer,
    severities: tuple[int, ...],
    written: Mapping[Kind, tuple[Any, Keys]],
) -> Rule:
    bounds = {kind: document.number(value, kind, *path) for kind, (value, path) in written.items()}
    if "min" in bounds and "max" in bounds and bounds["min"] > bounds["max"]:
        raise document.error(
            f"min {bounds['min']:.12g} is above max {bounds['max']:.12g}", *written["min"][1]
        )
    for kind in CHANGES:
        if bounds.get(kind, 0.0) < 0.0:
            raise document.error(f"{kind} is a size and cannot be negative", *written[kind][1])
    paths = {**layer.paths, **{str(kind): path for kind, (_, path) in written.items()}}
    return Rule(
        index=0,
        line=document.line(*place.path),
        file=document.name,
        selectors={
            name: layer.patterns[name]
            for name in FIELDS
            if layer.patterns.get(name, ("*",)) != ("*",)
        },
        severities=severities,
        minimum=bounds.get("min"),
        maximum=bounds.get("max"),
        max_increase=bounds.get("max_increase"),
        max_decrease=bounds.get("max_decrease"),
        because=layer.because,
        lines={key: document.line(*path) for key, path in paths.items() if key != "bounds"},
        place=place,
    )


# --- Waivers ---------------------------------------------------------------------------------------


def _waivers(document: Document) -> list[waiving.Waiver]:
    found: dict[str, waiving.Waiver] = {}
    for index, table in enumerate(document.tables("waiver", "waivers")):
        waiver = _waiver(document, index, table)
        if waiver.id in found:
            where = found[waiver.id].where
            raise _twice(document, "a waiver for the same figures", where, "waiver", index)
        found[waiver.id] = waiver
    return list(found.values())


def _waiver(document: Document, index: int, table: Mapping[str, Any]) -> waiving.Waiver:
    here = ("waiver", index)
    document.check_keys(table, WAIVER_KEYS, "[[waiver]]", *here)
    for key in ("suite", "reason", "owner", "expires"):
        if key not in table:
            raise document.error(f"[[waiver]] lacks {as_toml(key)}", *here)
    if "metric" not in table and TEST not in table:
        raise document.error("[[waiver]] lacks 'metric', or 'test' for all bounds of a test", *here)
    layer = _layer(document, table, *here)
    # In the name of a test brackets are its parameters': no glob.
    tests = _patterns(document, table[TEST], *here, TEST) if TEST in table else ()
    named = {
        **layer.patterns,
        **({TEST: tuple(t.replace("[", "[[]") for t in tests)} if tests else {}),
    }
    for key in ("metric", "suite", TEST):
        _check_narrow(document, named.get(key, ()), *here, key)
    said = {
        key: printable(" ".join(document.text(table[key], *here, key).split()))
        for key in ("reason", "owner")
    }
    today = waiving.today()
    expires = _expiry(document, table["expires"], today, *here, "expires")
    selector = Rule(
        index=index,
        line=document.line(*here),
        file=document.name,
        selectors={"metric": ("*",)}
        | {name: patterns for name, patterns in named.items() if patterns != ("*",)},
        severities=tuple(sorted(set(layer.levels or ()))),
        lines={key: document.line(*path) for key, path in layer.paths.items()},
    )
    return waiving.Waiver(selector, **said, expires=expires, expired=expires < today)


def _check_narrow(document: Document, patterns: tuple[str, ...], *path: str | int) -> None:
    """Refuse a waiver as wide as everything: with it there would be no gate."""
    if any(not pattern.strip("*?") for pattern in patterns):
        raise document.error(
            f"{path[-1]} of a waiver must be named: one for every {path[-1]} leaves no gate", *path
        )


def _expiry(document: Document, value: Any, today: date, *path: str | int) -> date:
    """Return the last day of a waiver, written as a date or as a text."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        try:
            value = date.fromisoformat(value)
        except ValueError as error:
            raise document.error(f"expires is no date: {error}", *path) from None
    if type(value) is not date:  # a time of day is a date to Python
        raise document.error(f"expires must be a date, 2026-12-31, not {as_toml(value)}", *path)
    last = today + timedelta(days=waiving.MOST_DAYS)
    if value > last:
        raise document.error(
            f"expires {value} is too far away, a waiver may last until {last}: if the loss is to stay, "
            "change the bound, or record it with a reason (--clip-record --clip-because)",
            *path,
        )
    return value
