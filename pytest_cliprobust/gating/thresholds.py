"""The threshold file: schema, look-up, use tracking, recording and explaining.

The layout and its rules are told to users in ``docs/thresholds.md``. In short: a ``[policy]`` table
and any number of ``[[threshold]]`` tables, each a selector (suite, metric, dataset, perturbation,
severity, model, profile) and bounds (``min``, ``max``, ``max_increase``, ``max_decrease``). The most
specific rule that matches a measurement wins. Every mistake is an error that names file and line: a
misspelt key that silently un-gates a metric would be worse than no file at all.

Values are read by :mod:`tomllib`; where they stand is found by a small scanner over the statements of
the document. Recording edits the text at those positions, so that all the rest of the file stays
byte by byte as it was (a round trip through a TOML object model moves tables about).
"""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import glob
import json
import math
import os
import re
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import METRICS, Metric
from pytest_cliprobust.gating.measurement import Measurement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Version of the file's layout.
SCHEMA = 1

FIELDS = ("suite", "metric", "dataset", "perturbation", "model", "profile")
BOUNDS = ("min", "max", "max_increase", "max_decrease")
_RULE_KEYS = (*FIELDS, "severity", *BOUNDS, "because")
_PERTURBATION_KEYS = ("name", "kornia", "parameters", "severities", "envelope")
_POLICY_KEYS = (
    "inconclusive",
    "confidence",
    "family_wise_error_rate",
    "require_bound",
    "skipped",
    "baseline",
    "baseline_model",
)
Inconclusive = Literal["fail", "warn", "pass"]


# --- Metrics ---------------------------------------------------------------------------------------


def known_metrics() -> tuple[str, ...]:
    """Return the names (and globs of families) of the metrics known so far."""
    return tuple(METRICS)


def direction(metric: str) -> Literal["higher", "lower", "neither"]:
    """Return which way is better, and so which bound recording writes (min, max, or both).

    Raises:
        ClipRobustError: the metric is unknown.
    """
    better = METRICS.named(metric).higher_is_better
    if better is None:
        return "neither"
    return "higher" if better else "lower"


# --- Where things stand in a TOML document ---------------------------------------------------------


@dataclass(frozen=True)
class _Statement:
    """A header or a key-value pair: full path, and offsets into the text."""

    path: tuple[str | int, ...]
    kind: Literal["table", "array", "pair"]
    start: int
    value_start: int
    value_end: int
    end: int  # Behind the newline.


_BARE = re.compile(r"[A-Za-z0-9_-]+")


class _Positions:
    """Scans a document that is known to be valid TOML and says where each statement stands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.statements = tuple(self._scan())
        self._by_path: dict[tuple[str | int, ...], _Statement] = {}
        for statement in self.statements:
            # A dotted key or a sub-table defines its parents too; the first mention counts.
            for size in range(1, len(statement.path) + 1):
                self._by_path.setdefault(statement.path[:size], statement)

    def line(self, *path: str | int) -> int:
        """Return the line of ``path``, or of its nearest parent that stands in the text."""
        for size in range(len(path), 0, -1):
            statement = self._by_path.get(path[:size])
            if statement is not None:
                return self.line_at(statement.start)
        return 1

    def line_at(self, offset: int) -> int:
        return bisect_right(self._line_starts, offset)

    def _scan(self) -> Iterable[_Statement]:
        text, at = self.text, 0
        prefix: tuple[str | int, ...] = ()
        counts: dict[tuple[str | int, ...], int] = {}
        while at < len(text):
            if text[at] in " \t\r\n":
                at += 1
            elif text[at] == "#":
                at = self._line_end(at)
            elif text[at] == "[":
                array = text.startswith("[[", at)
                key, stop = self._key(at + 1 + array)
                path: tuple[str | int, ...] = ()
                for position, part in enumerate(key):
                    path += (part,)
                    if array and position == len(key) - 1:
                        counts[path] = counts.get(path, -1) + 1
                    if path in counts:
                        path += (counts[path],)
                end = self._line_end(stop)
                yield _Statement(path, "array" if array else "table", at, stop, stop, end)
                prefix, at = path, end
            else:
                key, stop = self._key(at)
                value = stop + 1
                while text[value] in " \t":
                    value += 1
                value_end = self._value(value)
                end = self._line_end(value_end)
                yield _Statement((*prefix, *key), "pair", at, value, value_end, end)
                at = end

    def _line_end(self, at: int) -> int:
        stop = self.text.find("\n", at)
        return len(self.text) if stop < 0 else stop + 1

    def _key(self, at: int) -> tuple[tuple[str, ...], int]:
        """Read a dotted key; the offset is that of what follows it (``=`` or ``]``)."""
        text, parts = self.text, []
        while True:
            if text[at] in " \t.":
                at += 1
            elif text[at] in "\"'":
                stop = self._string(at)
                parts.append(str(tomllib.loads(f"key = {text[at:stop]}")["key"]))
                at = stop
            else:
                match = _BARE.match(text, at)
                if match is None:
                    return tuple(parts), at
                parts.append(match.group())
                at = match.end()

    def _string(self, at: int) -> int:
        """Return the offset behind the string that starts at ``at``."""
        text, quote = self.text, self.text[at]
        closing = quote * 3 if text.startswith(quote * 3, at) else quote
        at += len(closing)
        while not text.startswith(closing, at):
            at += 2 if quote == '"' and text[at] == "\\" else 1
        at += len(closing)
        if len(closing) == 3:
            # Up to two quotes may stand right before the closing three.
            for _ in range(2):
                at += text.startswith(quote, at)
        return at

    def _value(self, at: int) -> int:
        """Return the offset behind the value that starts at ``at``."""
        text = self.text
        if text[at] in "\"'":
            return self._string(at)
        if text[at] not in "[{":
            stop = at
            while stop < len(text) and text[stop] not in "#\n":
                stop += 1
            return at + len(text[at:stop].rstrip())
        depth = 0
        while True:
            character = text[at]
            if character in "\"'":
                at = self._string(at)
                continue
            if character == "#":
                at = self._line_end(at)
                continue
            depth += (character in "[{") - (character in "]}")
            at += 1
            if depth == 0:
                return at


# --- Rules -----------------------------------------------------------------------------------------


_ESCAPED = re.compile(r"\[([*?\[])\]")
_WILDCARD = re.compile(r"[*?\[]")


def _literal(pattern: str) -> str | None:
    """Return the one name that ``pattern`` matches, or None if it is a glob."""
    if _WILDCARD.search(_ESCAPED.sub("", pattern)):
        return None
    return _ESCAPED.sub(r"\1", pattern)


def _literal_characters(pattern: str) -> int:
    """Count the characters of a glob that are not wildcards; a class counts as a wildcard."""
    return len(re.sub(r"\[!?\]?[^\]]*\]|[*?]", "", _ESCAPED.sub("x", pattern)))


def _matches(patterns: tuple[str, ...], name: str) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True, order=True)
class Specificity:
    """How specific a selector is; compared from left to right, the larger wins.

    Attributes:
        exact: fields with one exact name (or one severity).
        lists: fields with a list of exact names (or severities).
        globs: fields with a glob other than ``*``.
        characters: characters in those globs that are no wildcards (of a list: its shortest).
        brevity: minus the number of names listed.
    """

    exact: int
    lists: int
    globs: int
    characters: int
    brevity: int

    def __str__(self) -> str:
        """``2 exact, 1 list, 1 glob (4 characters)``."""
        parts = [f"{self.exact} exact"]
        if self.lists:
            parts.append(f"{self.lists} list{'s' * (self.lists > 1)} of {-self.brevity} names")
        if self.globs:
            parts.append(
                f"{self.globs} glob{'s' * (self.globs > 1)} ({self.characters} characters)"
            )
        return ", ".join(parts)


@dataclass(frozen=True)
class Rule:
    """One ``[[threshold]]`` table.

    Attributes:
        index: position among the rules of the file, from 0.
        line: line of its header; ``lines`` has those of its keys.
        file: the file's name, as messages show it.
        selectors: patterns by field; a field left out (or ``"*"``) is missing here and matches all.
        severities: severities matched; empty matches all, also measurements without a severity.
        minimum, maximum: absolute bounds, None where there is none.
        max_increase, max_decrease: bounds on the change against the baseline.
        because: the author's reason, shown with a failure.
    """

    index: int
    line: int
    file: str
    selectors: Mapping[str, tuple[str, ...]]
    severities: tuple[int, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    max_increase: float | None = None
    max_decrease: float | None = None
    because: str = ""
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that are set, by their key in the file."""
        values = (self.minimum, self.maximum, self.max_increase, self.max_decrease)
        return {key: value for key, value in zip(BOUNDS, values, strict=True) if value is not None}

    @property
    def where(self) -> str:
        """``thresholds.toml:17``, the line of the table's header."""
        return f"{self.file}:{self.line}"

    def where_of(self, key: str) -> str:
        """Return file and line of one of the rule's keys."""
        return f"{self.file}:{self.lines.get(key, self.line)}"

    @cached_property
    def id(self) -> str:
        """The selector in one line; unique in a file and independent of where it stands there."""
        parts = [
            f"{name}={'|'.join(self.selectors[name])}" for name in FIELDS if name in self.selectors
        ]
        if self.severities:
            parts.append(f"severity={'|'.join(map(str, self.severities))}")
        return " ".join(parts)

    @cached_property
    def specificity(self) -> Specificity:
        """See :class:`Specificity`."""
        exact = lists = globs = characters = listed = 0
        for patterns in self.selectors.values():
            loose = [pattern for pattern in patterns if _literal(pattern) is None]
            if loose:
                globs += 1
                characters += min(_literal_characters(pattern) for pattern in loose)
            elif len(patterns) > 1:
                lists += 1
                listed += len(patterns)
            else:
                exact += 1
        if len(self.severities) > 1:
            lists += 1
            listed += len(self.severities)
        elif self.severities:
            exact += 1
        return Specificity(exact, lists, globs, characters, -listed)

    def mismatch(self, measurement: Measurement, profile: str | None = None) -> str:
        """Return why the rule does not match ``measurement``; empty if it does."""
        for name, value in _coordinates(measurement, profile).items():
            patterns = self.selectors.get(name, ())
            if patterns and not _matches(patterns, value):
                wanted = " or ".join(repr(pattern) for pattern in patterns)
                return f"{name} is {value!r}, not {wanted}" if value else f"no {name} is set"
        if self.severities and measurement.severity not in self.severities:
            wanted = " or ".join(map(str, self.severities))
            return f"severity is {measurement.severity}, not {wanted}"
        return ""

    def bound_text(self) -> str:
        """``min 0.6, max_decrease 0.02``."""
        return ", ".join(f"{key} {value:.12g}" for key, value in self.bounds.items())


def _coordinates(measurement: Measurement, profile: str | None) -> dict[str, str]:
    return {
        "metric": measurement.metric,
        "suite": measurement.suite,
        "dataset": measurement.dataset,
        "perturbation": measurement.perturbation,
        "model": measurement.model,
        "profile": profile or "",
    }


@dataclass(frozen=True)
class Policy:
    """The ``[policy]`` table.

    Attributes:
        inconclusive: what an undecided verdict counts as.
        confidence: level of the two-sided intervals that verdicts look at.
        family_wise_error_rate: if set, replaces ``confidence``: the chance of any wrong decision
            among all the bounds of a run.
        require_bound: whether a measurement without a bound fails.
        skipped: what a bound counts as whose tests were skipped: ``"fail"`` or ``"warn"``.
        baseline: path of an earlier run's JSON report, resolved against the file's folder.
        baseline_model: the model whose figures are the baseline, if not the measured model's own.
        where: file and line of the table, for messages.
    """

    inconclusive: Inconclusive = "warn"
    confidence: float = 0.95
    family_wise_error_rate: float | None = None
    require_bound: bool = False
    skipped: Literal["fail", "warn"] = "fail"
    baseline: Path | None = None
    baseline_model: str | None = None
    where: str = ""

    def level(self, comparisons: int = 1) -> float:
        """Return the confidence of each interval when ``comparisons`` bounds are checked in a run."""
        if self.family_wise_error_rate is None:
            return self.confidence
        from pytest_cliprobust.figures.statistics import comparison_confidence

        return comparison_confidence(self.family_wise_error_rate, max(1, comparisons))


# --- Perturbations by name -------------------------------------------------------------------------


@dataclass(frozen=True)
class NamedPerturbation:
    """One ``[[perturbation]]`` table: an augmentation of kornia under a name of the user's own.

    Attributes:
        name: what suites, rules and reports call it.
        kornia: a class of ``kornia.augmentation``.
        parameters: its arguments at every severity.
        severities: arguments of severity 1 and up, mildest first; may be empty.
        envelope: range (mildest, strongest) of arguments that are single numbers.
        where: file and line.
    """

    name: str
    kornia: str
    parameters: Mapping[str, Any]
    severities: tuple[Mapping[str, Any], ...]
    envelope: Mapping[str, tuple[float, float]]
    where: str


# --- The file --------------------------------------------------------------------------------------


class ThresholdFile:
    """The rules and the policy of a threshold file; keeps count of the rules that were used.

    Attributes:
        name: the file's name as messages show it; empty if there is no file.
        policy: the policy.
        rules: the rules in the order of the file.
        profile: the profile of this run, or None.
        perturbations: the ``[[perturbation]]`` tables; see :meth:`register_perturbations`.
    """

    def __init__(
        self,
        rules: Sequence[Rule] = (),
        policy: Policy | None = None,
        *,
        name: str = "",
        profile: str | None = None,
        perturbations: Sequence[NamedPerturbation] = (),
    ) -> None:
        self.perturbations = tuple(perturbations)
        self.name = name
        self.policy = policy or Policy()
        self.rules = tuple(rules)
        self.profile = profile
        self._used: set[str] = set()
        self._by_metric: dict[str, list[Rule]] = {}

    def register_perturbations(self) -> None:
        """Make the ``[[perturbation]]`` tables known to the registry of perturbations.

        Raises:
            ClipRobustError: an unknown augmentation or argument, or a name that is taken, with the
                line of its table.
        """
        if not self.perturbations:
            return
        from pytest_cliprobust.perturbations import kornia_adapter

        for item in self.perturbations:
            try:
                kornia_adapter.define(
                    item.name,
                    item.kornia,
                    parameters=item.parameters,
                    severities=item.severities,
                    envelope=item.envelope,
                    file=Path(self.name) if self.name else None,
                )
            except ClipRobustError as error:
                raise ClipRobustError(f"{item.where}: {error}") from None

    def _matching(self, measurement: Measurement) -> list[Rule]:
        """All rules that match, the most specific first."""
        candidates = self._by_metric.get(measurement.metric)
        if candidates is None:
            candidates = [
                rule
                for rule in self.rules
                if _matches(rule.selectors["metric"], measurement.metric)
            ]
            self._by_metric[measurement.metric] = candidates
        found = [rule for rule in candidates if not rule.mismatch(measurement, self.profile)]
        return sorted(found, key=lambda rule: rule.specificity, reverse=True)

    def lookup(self, measurement: Measurement) -> Rule | None:
        """Return the most specific rule that matches, and note that it was used.

        Raises:
            ClipRobustError: two rules are equally specific.
        """
        found = self._matching(measurement)
        if not found:
            return None
        if len(found) > 1 and found[0].specificity == found[1].specificity:
            raise _tie(found[0], found[1], measurement.key)
        self._used.add(found[0].id)
        return found[0]

    def uses(self) -> list[str]:
        """Return the ids of the rules used so far, to hand over from an xdist worker."""
        return sorted(self._used)

    def merge_uses(self, ids: Iterable[str]) -> None:
        """Add the uses of another worker.

        Raises:
            ClipRobustError: an id belongs to no rule, so the file changed during the run.
        """
        known = {rule.id for rule in self.rules}
        for name in ids:
            if name not in known:
                raise ClipRobustError(
                    f"{self.name}: a worker used the rule [{name}], which is not in the file; "
                    "it changed during the run, so run again"
                )
            self._used.add(name)

    def unused(self) -> list[Rule]:
        """Return the rules of this run's profile that no look-up gave back."""
        return [
            rule
            for rule in self.rules
            if rule.id not in self._used
            and _matches(rule.selectors.get("profile", ()), self.profile or "")
        ]

    def describe_unused(self) -> list[str]:
        """Return one line for each unused rule."""
        return [
            f"{rule.where}: bound {rule.bound_text()} [{rule.id}] was not used by any test"
            for rule in self.unused()
        ]

    def explain(self, measurement: Measurement) -> str:
        """Return which rules match ``measurement``, which one wins, and why."""
        shown = self.name or "(no threshold file)"
        found = self._matching(measurement)
        lines = [measurement.key]
        if self.profile:
            lines[0] += f" (profile {self.profile})"
        if not found:
            lines.append(f"  no rule of {shown} matches: the figure is unbounded")
            near = [
                rule
                for rule in self.rules
                if _matches(rule.selectors["metric"], measurement.metric)
            ]
            lines += [
                f"  no match  {rule.where}  {rule.bound_text()}  [{rule.id}]: "
                f"{rule.mismatch(measurement, self.profile)}"
                for rule in near
            ]
            if not near:
                lines.append(f"  and none has metric {measurement.metric!r}")
            return "\n".join(lines)
        best = found[0]
        for rule in found:
            if rule is best and (len(found) == 1 or rule.specificity > found[1].specificity):
                verb, why = "wins", f"most specific: {rule.specificity}"
            elif rule.specificity == best.specificity:
                verb, why = (
                    "ties",
                    f"equally specific: {rule.specificity}; an error, make one narrower",
                )
            else:
                verb, why = "loses", f"less specific: {rule.specificity}"
            if len(found) == 1:
                why = f"the only rule that matches: {rule.specificity}"
            lines.append(f"  {verb:<5} {rule.where}  {rule.bound_text()}  [{rule.id}]  ({why})")
        return "\n".join(lines)


def _tie(first: Rule, second: Rule, example: str) -> ClipRobustError:
    first, second = sorted((first, second), key=lambda rule: rule.index)
    return ClipRobustError(
        f"{second.where}: [{second.id}] and [{first.id}] of line {first.line} are equally specific "
        f"and both match {example}; make one of them narrower"
    )


class _Reader:
    """Turns the parsed document into rules; every complaint has its line."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        try:
            self.data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise self._syntax(text, str(error)) from None
        self.at = _Positions(text)

    def _syntax(self, text: str, message: str) -> ClipRobustError:
        match = re.search(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$", message)
        line = text.count("\n") + 1
        if match:
            message = message[: match.start()]
            if match.group(1):
                line = int(match.group(1))
                message += f" at column {match.group(2)}"
        return ClipRobustError(f"{self.name}:{line}: not valid TOML: {message}")

    def error(self, message: str, *path: str | int) -> ClipRobustError:
        return ClipRobustError(f"{self.name}:{self.at.line(*path)}: {message}")

    def check_keys(
        self, table: Mapping[str, Any], known: Iterable[str], what: str, *path: str | int
    ) -> None:
        known = tuple(known)
        for key in table:
            if key not in known:
                hint = did_you_mean(key, known) or f" Known: {', '.join(known)}"
                raise self.error(f"unknown key {key!r} in {what}.{hint}", *path, key)

    def number(self, value: Any, *path: str | int) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(f"{path[-1]} must be a number, not {value!r}", *path)
        if not math.isfinite(value):
            raise self.error(f"{path[-1]} must be finite, not {value!r}", *path)
        return float(value)

    def text(self, value: Any, *path: str | int) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{path[-1]} must be a text, not {value!r}", *path)
        return value

    def policy(self) -> Policy:
        table = self.data.get("policy", {})
        if not isinstance(table, dict):
            raise self.error("policy must be a table, [policy]", "policy")
        self.check_keys(table, _POLICY_KEYS, "[policy]", "policy")
        values: dict[str, Any] = {}
        for key, value in table.items():
            path = ("policy", key)
            if key == "inconclusive":
                if value not in ("fail", "warn", "pass"):
                    raise self.error(
                        f"inconclusive must be 'fail', 'warn' or 'pass', not {value!r}", *path
                    )
                values[key] = value
            elif key == "skipped":
                if value not in ("fail", "warn"):
                    raise self.error(f"skipped must be 'fail' or 'warn', not {value!r}", *path)
                values[key] = value
            elif key == "confidence":
                values[key] = self.number(value, *path)
                if not 0.5 <= values[key] < 1.0:
                    raise self.error(f"confidence must be in [0.5, 1), not {value!r}", *path)
            elif key == "family_wise_error_rate":
                values[key] = self.number(value, *path)
                if not 0.0 < values[key] <= 0.5:
                    raise self.error(f"{key} must be in (0, 0.5], not {value!r}", *path)
            elif key == "require_bound":
                if not isinstance(value, bool):
                    raise self.error(f"require_bound must be true or false, not {value!r}", *path)
                values[key] = value
            elif key == "baseline":
                values[key] = Path(self.text(value, *path))
            else:
                values[key] = self.text(value, *path)
        if "confidence" in values and "family_wise_error_rate" in values:
            raise self.error(
                "confidence and family_wise_error_rate exclude each other; keep one",
                "policy",
                "family_wise_error_rate",
            )
        return Policy(**values, where=f"{self.name}:{self.at.line('policy')}")

    def tables(self, name: str, what: str) -> list[dict[str, Any]]:
        """Return the tables under ``[[name]]``; they must be written that way."""
        tables = self.data.get(name, [])
        headers = [
            statement
            for statement in self.at.statements
            if statement.kind == "array" and statement.path[:-1] == (name,)
        ]
        if not isinstance(tables, list) or len(headers) != len(tables):
            raise self.error(f"{what} are written as tables under [[{name}]]", name)
        return tables

    def perturbations(self) -> list[NamedPerturbation]:
        found: dict[str, NamedPerturbation] = {}
        for index, table in enumerate(self.tables("perturbation", "perturbations")):
            item = self.perturbation(index, table)
            if item.name in found:
                raise self.error(
                    f"perturbation {item.name!r} stands in {found[item.name].where} already; "
                    "keep one of them",
                    "perturbation",
                    index,
                )
            found[item.name] = item
        return list(found.values())

    def perturbation(self, index: int, table: Mapping[str, Any]) -> NamedPerturbation:
        here = ("perturbation", index)
        self.check_keys(table, _PERTURBATION_KEYS, "[[perturbation]]", *here)
        for key in ("name", "kornia"):
            if key not in table:
                raise self.error(f"[[perturbation]] lacks {key!r}", *here)
        name = self.text(table["name"], *here, "name")
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            raise self.error(
                f"name may hold letters, digits, '_', '.' and '-', not {name!r}", *here, "name"
            )
        parameters = table.get("parameters", {})
        if not isinstance(parameters, dict):
            raise self.error(
                f"parameters must be a table, {{ bits = 3 }}, not {parameters!r}",
                *here,
                "parameters",
            )
        steps = table.get("severities", [])
        if not (
            isinstance(steps, list)
            and len(steps) <= 5
            and all(isinstance(step, dict) and step for step in steps)
        ):
            raise self.error(
                "severities must be a list of at most 5 tables of parameters, mildest first, "
                f"not {steps!r}",
                *here,
                "severities",
            )
        envelope = table.get("envelope", {})
        if not isinstance(envelope, dict):
            raise self.error(
                f"envelope must be a table, {{ bits = [8, 1] }}, not {envelope!r}",
                *here,
                "envelope",
            )
        ranges: dict[str, tuple[float, float]] = {}
        for key, ends in envelope.items():
            if not isinstance(ends, list) or len(ends) != 2:
                raise self.error(
                    f"envelope of {key!r} must be [mildest, strongest], not {ends!r}",
                    *here,
                    "envelope",
                    key,
                )
            mildest, strongest = (self.number(end, *here, "envelope", key) for end in ends)
            ranges[key] = (mildest, strongest)
        return NamedPerturbation(
            name=name,
            kornia=self.text(table["kornia"], *here, "kornia"),
            parameters=parameters,
            severities=tuple(steps),
            envelope=ranges,
            where=f"{self.name}:{self.at.line(*here)}",
        )

    def rules(self) -> list[Rule]:
        tables = self.tables("threshold", "rules")
        return [self.rule(index, table) for index, table in enumerate(tables)]

    def rule(self, index: int, table: Mapping[str, Any]) -> Rule:
        here = ("threshold", index)
        self.check_keys(table, _RULE_KEYS, "[[threshold]]", *here)
        selectors: dict[str, tuple[str, ...]] = {}
        for name in FIELDS:
            if name not in table:
                continue
            value = table[name]
            patterns = value if isinstance(value, list) else [value]
            if not patterns or not all(isinstance(p, str) and p for p in patterns):
                raise self.error(
                    f"{name} must be a name, a glob, or a list of them, not {value!r}", *here, name
                )
            if "*" not in patterns:
                # Sorted, so that the same set is the same rule.
                selectors[name] = tuple(sorted(set(patterns)))
            elif name == "metric":
                raise self.error(
                    "metric must be named: one bound cannot fit all metrics", *here, name
                )
        if "metric" not in table:
            raise self.error("[[threshold]] lacks 'metric'", *here)
        bounds = {key: self.number(table[key], *here, key) for key in BOUNDS if key in table}
        if not bounds:
            raise self.error(f"[[threshold]] has no bound: add {', '.join(BOUNDS)}", *here)
        low, high = bounds.get("min", -math.inf), bounds.get("max", math.inf)
        if low > high:
            raise self.error(f"min {low:.12g} is above max {high:.12g}", *here, "min")
        for key in ("max_increase", "max_decrease"):
            if bounds.get(key, 0.0) < 0.0:
                raise self.error(f"{key} is a size and cannot be negative", *here, key)
        because = self.text(table["because"], *here, "because") if "because" in table else ""
        return Rule(
            index=index,
            line=self.at.line(*here),
            file=self.name,
            selectors=selectors,
            severities=self.severities(table.get("severity"), *here, "severity"),
            minimum=bounds.get("min"),
            maximum=bounds.get("max"),
            max_increase=bounds.get("max_increase"),
            max_decrease=bounds.get("max_decrease"),
            because=" ".join(because.split()),
            lines={key: self.at.line(*here, key) for key in table},
        )

    def severities(self, value: Any, *path: str | int) -> tuple[int, ...]:
        if value is None:
            return ()
        levels = value if isinstance(value, list) else [value]
        if not levels or not all(
            isinstance(level, int) and not isinstance(level, bool) and 0 <= level <= 5
            for level in levels
        ):
            raise self.error(
                f"severity must be an integer from 0 to 5, or a list of them, not {value!r}", *path
            )
        return tuple(sorted(set(levels)))


#: Vocabulary of one field: names, which may be globs where names are open-ended ("imagefolder:*").
Vocabulary = Iterable[str] | None


def _knows(vocabulary: tuple[str, ...], pattern: str) -> bool:
    """Whether ``pattern`` can match a name of ``vocabulary``, whose entries may be globs too."""
    exact = _literal(pattern)
    if exact is not None:
        return any(exact == name or fnmatch.fnmatchcase(exact, name) for name in vocabulary)
    return any(
        fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(pattern, name)
        for name in vocabulary
    )


def _check_vocabularies(
    rules: Sequence[Rule],
    vocabularies: Mapping[str, tuple[str, ...]],
    metrics_of: Mapping[str, tuple[str, ...]],
) -> None:
    for rule in rules:
        for name, patterns in rule.selectors.items():
            known = vocabularies.get(name)
            if known is None:
                continue
            for pattern in patterns:
                if _knows(known, pattern):
                    continue
                exact = _literal(pattern)
                if exact is None:
                    hint = f" Known: {', '.join(known)}" if len(known) <= 12 else ""
                    text = f"{name} {pattern!r} matches no known {name}.{hint}"
                else:
                    hint = did_you_mean(exact, known)
                    if not hint and len(known) <= 12:
                        hint = f" Known: {', '.join(known)}"
                    text = f"unknown {name} {exact!r}.{hint}"
                raise ClipRobustError(f"{rule.where_of(name)}: {text}")
        suites = [name for name in metrics_of if _matches(rule.selectors.get("suite", ()), name)]
        if metrics_of and not any(
            _knows(metrics_of[suite], pattern)
            for suite in suites
            for pattern in rule.selectors["metric"]
        ):
            wanted = " or ".join(map(repr, rule.selectors["metric"]))
            measured = sorted({name for suite in suites for name in metrics_of[suite]})
            raise ClipRobustError(
                f"{rule.where_of('metric')}: suite {' or '.join(suites)} does not measure {wanted}, "
                f"only {', '.join(measured)}"
            )


def _check_directions(rules: Sequence[Rule]) -> None:
    """A lone bound on the good side gates nothing, and is what a slip of min and max looks like."""
    for rule in rules:
        for pattern in rule.selectors["metric"]:
            ways = {
                info.higher_is_better
                for name, info in METRICS.items()
                if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(pattern, name)
            }
            # Only if all that the pattern can match agree; None is a metric without a direction.
            if len(ways) != 1 or None in ways:
                continue
            better = ways.pop()
            good, bad = ("max", "min") if better else ("min", "max")
            grow, shrink = ("max_increase", "max_decrease") if better else BOUNDS[:1:-1]
            for wrong, right in ((good, bad), (grow, shrink)):
                if wrong in rule.bounds and right not in rule.bounds:
                    raise ClipRobustError(
                        f"{rule.where_of(wrong)}: {pattern} is better when "
                        f"{'higher' if better else 'lower'}: {wrong} alone would fail good models "
                        f"and pass bad ones; write {right}"
                    )


def _overlap(
    first: Rule,
    second: Rule,
    vocabularies: Mapping[str, tuple[str, ...]],
    metrics_of: Mapping[str, tuple[str, ...]],
) -> bool:
    """Whether both selectors can match one measurement, as far as the vocabularies tell."""
    pair = (first, second)
    if metrics_of and not any(
        all(_matches(rule.selectors.get("suite", ()), suite) for rule in pair)
        and any(all(_matches(rule.selectors["metric"], name) for rule in pair) for name in names)
        for suite, names in metrics_of.items()
    ):
        return False
    if (
        first.severities
        and second.severities
        and not set(first.severities) & set(second.severities)
    ):
        return False
    for name in FIELDS:
        one, two = first.selectors.get(name), second.selectors.get(name)
        if not one or not two:
            continue
        names = {_literal(pattern) for pattern in (*one, *two)} - {None}
        names.update(n for n in vocabularies.get(name, ()) if _literal(n) is not None)
        if one != two and not any(
            _matches(one, n) and _matches(two, n) for n in cast("set[str]", names)
        ):
            return False
    return True


def _check_ties(
    rules: Sequence[Rule],
    vocabularies: Mapping[str, tuple[str, ...]],
    metrics_of: Mapping[str, tuple[str, ...]],
) -> None:
    """Find equally specific rules that overlap before hours of measuring, not after them."""
    seen: dict[str, Rule] = {}
    groups: dict[Specificity, dict[tuple[str, ...], list[Rule]]] = {}
    for rule in rules:
        if rule.id in seen:
            raise ClipRobustError(
                f"{rule.where}: [{rule.id}] has a rule already, in line {seen[rule.id].line}; "
                "keep one of them"
            )
        seen[rule.id] = rule
        fields = (*rule.selectors, *(("severity",) if rule.severities else ()))
        groups.setdefault(rule.specificity, {}).setdefault(tuple(sorted(fields)), []).append(rule)
    for specificity, shapes in groups.items():
        lists = list(shapes.values())
        for position, one in enumerate(lists):
            # Exact rules over the same fields overlap only if they are the same, ruled out above:
            # recorded files have thousands of them.
            plain = specificity.lists == 0 and specificity.globs == 0
            for others in lists[position + plain :]:
                for first in one:
                    for second in others:
                        if first.index >= second.index and others is one:
                            continue
                        if _overlap(first, second, vocabularies, metrics_of):
                            raise _tie(first, second, "the same measurements")


def parse_thresholds(
    text: str,
    name: str = "thresholds.toml",
    *,
    profile: str | None = None,
    known_suites: Vocabulary = None,
    known_metrics: Vocabulary | Mapping[str, Iterable[str]] = None,
    known_datasets: Vocabulary = None,
    known_perturbations: Vocabulary = None,
    models: Vocabulary = None,
    known_profiles: Vocabulary = None,
) -> ThresholdFile:
    """Read the text of a threshold file.

    Args:
        text: the TOML document.
        name: what messages call the file.
        profile: the profile of this run; rules for other profiles never match.
        known_suites: the names that a rule may select; None leaves the field unchecked. Entries may
            be globs where names are open-ended, e.g. ``"imagefolder:*"``.
        known_metrics: likewise, or a mapping from suite to its metrics, which also catches a metric
            that the selected suites do not measure; None means the registered metrics.
        known_datasets: as ``known_suites``.
        known_perturbations: as ``known_suites``; ``"clean"`` and those that the file itself names
            are always known.
        models: as ``known_suites``.
        known_profiles: as ``known_suites``.

    Raises:
        ClipRobustError: any mistake, as ``file:line: what and what to do``.
    """
    reader = _Reader(text, name)
    reader.check_keys(reader.data, ("schema", "policy", "perturbation", "threshold"), "the file")
    schema = reader.data.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        found = "is missing" if schema is None else f"is {schema!r}"
        raise reader.error(f"schema {found}; this version reads 'schema = {SCHEMA}'", "schema")
    policy = reader.policy()
    rules = reader.rules()
    named = reader.perturbations()
    metrics_of: dict[str, tuple[str, ...]] = {}
    if isinstance(known_metrics, Mapping):
        metrics_of = {suite: tuple(names) for suite, names in known_metrics.items()}
        metrics: Iterable[str] = dict.fromkeys(n for names in metrics_of.values() for n in names)
        if known_suites is None:
            known_suites = tuple(metrics_of)
    else:
        metrics = METRICS if known_metrics is None else known_metrics
    offered: dict[str, Vocabulary] = {
        "suite": known_suites,
        "metric": metrics,
        "dataset": known_datasets,
        "perturbation": None
        if known_perturbations is None
        else ("clean", *known_perturbations, *(item.name for item in named)),
        "model": models,
        "profile": known_profiles,
    }
    vocabularies = {key: tuple(names) for key, names in offered.items() if names is not None}
    _check_vocabularies(rules, vocabularies, metrics_of)
    _check_directions(rules)
    _check_ties(rules, vocabularies, metrics_of)
    return ThresholdFile(rules, policy, name=name, profile=profile, perturbations=named)


def _shown(path: Path) -> str:
    """The path as messages show it: relative to the working directory if it lies below."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


def _read_text(path: Path) -> str:
    try:
        # Bytes, so that no line ending is translated.
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ClipRobustError(
            f"{_shown(path)}: no such threshold file; record one with --clip-record, or see "
            "docs/thresholds.md"
        ) from None
    except OSError as error:
        raise ClipRobustError(f"{_shown(path)}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ClipRobustError(f"{_shown(path)}:{line}: not valid TOML: not UTF-8 text") from None


def load_thresholds(
    path: str | Path,
    *,
    profile: str | None = None,
    known_suites: Vocabulary = None,
    known_metrics: Vocabulary | Mapping[str, Iterable[str]] = None,
    known_datasets: Vocabulary = None,
    known_perturbations: Vocabulary = None,
    models: Vocabulary = None,
    known_profiles: Vocabulary = None,
) -> ThresholdFile:
    """Read a threshold file; arguments as :func:`parse_thresholds`.

    A relative ``baseline`` in the policy is resolved against the file's folder.

    Raises:
        ClipRobustError: there is no such file, or any mistake in it.
    """
    path = Path(path)
    result = parse_thresholds(
        _read_text(path),
        _shown(path),
        profile=profile,
        known_suites=known_suites,
        known_metrics=known_metrics,
        known_datasets=known_datasets,
        known_perturbations=known_perturbations,
        models=models,
        known_profiles=known_profiles,
    )
    baseline = result.policy.baseline
    if baseline is not None:
        result.policy = replace(result.policy, baseline=path.parent / baseline)
    return result


# --- Baselines -------------------------------------------------------------------------------------


def load_baseline(path: str | Path) -> dict[str, Figure]:
    """Read the figures of an earlier JSON report, by :attr:`Measurement.key`.

    The report is an object whose ``measurements`` is a list of :meth:`Measurement.as_dict` objects
    (or of objects that have one under ``measurement``). With ``replicates`` in the figures the
    comparison is paired.

    Raises:
        ClipRobustError: the file is missing or something else.
    """
    path = Path(path)
    shown = _shown(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ClipRobustError(
            f"{shown}: no such baseline; it is the JSON report of an earlier run"
        ) from None
    except OSError as error:
        raise ClipRobustError(f"{shown}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ClipRobustError(f"{shown}: not a JSON report: {error}") from None
    entries = data.get("measurements") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise ClipRobustError(f"{shown}: not a JSON report of a run: it has no 'measurements' list")
    figures: dict[str, Figure] = {}
    for position, entry in enumerate(entries):
        try:
            measurement = Measurement.from_dict(entry.get("measurement", entry))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ClipRobustError(
                f"{shown}: measurement {position} is not as this version writes it "
                f"({type(error).__name__}: {error}); record the baseline anew"
            ) from None
        figures[measurement.key] = measurement.figure
    return figures


def baseline_key(measurement: Measurement, policy: Policy) -> str:
    """Return the key under which the baseline of ``measurement`` is looked up."""
    if policy.baseline_model is None:
        return measurement.key
    return replace(measurement, model=policy.baseline_model).key


# --- Recording -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecordChange:
    """One bound that recording wrote, or why it wrote none.

    Attributes:
        key: the measurement (of several on one rule: the one that set the bound).
        bound: ``"min"`` or ``"max"`` (of a new rule also a baseline bound taken over, "unchanged");
            empty if skipped.
        old, new: the bound before and after, None if there was none.
        action: ``"updated"``, ``"added"``, ``"unchanged"`` or ``"skipped"``.
        where: file and line after the change.
        reason: why it was skipped.
    """

    key: str
    bound: str
    old: float | None
    new: float | None
    action: Literal["updated", "added", "unchanged", "skipped"]
    where: str
    reason: str = ""

    def __str__(self) -> str:
        """``thresholds.toml:17: max 0.1 → 0.12 (calibration/ece/…)``."""
        if self.action == "skipped":
            return f"{self.where}: not recorded: {self.reason} ({self.key})"
        new = f"{self.new:.12g}"
        if self.action == "unchanged":
            return f"{self.where}: {self.bound} {new} stays ({self.key})"
        old = "none" if self.old is None else f"{self.old:.12g}"
        return f"{self.where}: {self.bound} {old} → {new} ({self.key})"


def suggest_bound(
    end: float,
    width: float,
    margin: float,
    side: Literal["min", "max"],
    info: Metric,
    noise: float = 0.0,
) -> float:
    """Return a bound ``margin`` interval widths beyond ``end``, at least ``noise``, rounded outwards.

    The step of the rounding is the power of ten at or below a tenth of the interval's ``width`` (of
    a thousandth of the value if the width is 0), so that rounding adds less than a tenth of the
    width. The result stays inside the metric's range, and a measurement never fails its own bound.
    """
    away = max(margin * width, noise)
    edge = end + away if side == "max" else end - away
    scale = width / 10.0 if width > 0.0 else abs(end) / 1000.0
    exponent = math.floor(math.log10(scale)) if scale > 0.0 else -3
    step = Decimal(1).scaleb(max(exponent, -12))
    # A millionth of a step is float noise of the sum above, not a reason for another step.
    slack = Decimal("1e-6")
    exact = Decimal(repr(edge)) / step
    if side == "max":
        steps = (exact - slack).to_integral_value(rounding=ROUND_CEILING)
        value = max(float(steps * step), end + noise)
    else:
        steps = (exact + slack).to_integral_value(rounding=ROUND_FLOOR)
        value = min(float(steps * step), end - noise)
    # The range first, the measured end last: a value beyond the stated range still gets its bound.
    value = info.inside(value)
    # Adding zero turns -0.0 into 0.0.
    return 0.0 + (max(value, end) if side == "max" else min(value, end))


def _toml(value: str | float | int) -> str:
    if isinstance(value, str):
        import tomlkit

        return tomlkit.item(value).as_string()
    if isinstance(value, int):
        return str(value)
    # TOML wants a digit behind the point and allows no bare exponent: repr fits.
    return repr(float(value))


def _is_exact(
    rule: Rule, measurement: Measurement, generic: Sequence[str], profile: str | None
) -> bool:
    coordinates = _coordinates(measurement, profile)
    for name in FIELDS:
        patterns = rule.selectors.get(name)
        if patterns is None:
            if name not in generic and (name != "profile" or profile):
                return False
        elif len(patterns) > 1 or _literal(patterns[0]) != coordinates[name]:
            return False
    wanted = () if measurement.severity is None else (measurement.severity,)
    return rule.severities == wanted or ("severity" in generic and not rule.severities)


@dataclass
class _Pending:
    """What one rule, existing or to be added, is to hold."""

    rule_id: str
    rule: Rule | None
    measurements: list[Measurement] = field(default_factory=list)
    bounds: dict[str, tuple[float, str]] = field(default_factory=dict)  # value, key
    inherited: dict[str, float] = field(default_factory=dict)
    because: str = ""

    def widen(self, side: Literal["min", "max"], value: float, key: str, because: str) -> None:
        known = self.bounds.get(side)
        if known is None or (value > known[0] if side == "max" else value < known[0]):
            self.bounds[side] = (value, key)
            self.because = because


_RECORDED = "recorded"


def _reason(measurement: Measurement, low: float, high: float, confidence: float) -> str:
    figure = measurement.figure
    return (
        f"{_RECORDED} at {figure.value:.4g}, {100 * confidence:.5g}% interval {low:.4g} to "
        f"{high:.4g}, n = {figure.n}"
    )


def record(
    path: str | Path,
    measurements: Iterable[Measurement],
    *,
    margin: float = 0.5,
    generic: Sequence[str] = (),
    profile: str | None = None,
    comparisons: int = 1,
    noise: Mapping[str, float] | None = None,
    dry_run: bool = False,
) -> list[RecordChange]:
    """Write bounds from a run into the threshold file, and return the changes.

    A bound lies ``margin`` widths of the interval beyond the interval's bad end: ``min`` for metrics
    where higher is better, ``max`` where lower is, both where neither. The interval is taken at the
    policy's level, so that the run that was recorded passes. If the rule that wins the look-up is
    *exact* (it names every coordinate of the measurement and nothing more), its ``min``/``max`` is
    replaced in place, whether that tightens or loosens it; else a new exact rule is added at the end
    of the file, which takes over the bounds on the change against a baseline from the rule that won
    so far. Such bounds are never changed; other rules, comments, blank lines and order stay byte by
    byte; a ``because`` is replaced only if recording wrote it. A rule that several measurements share
    gets the loosest of their bounds. The file is replaced in one step, or not at all; one that does
    not exist is created.

    Args:
        path: the threshold file; a link is followed.
        measurements: what the run measured; what is not finite is skipped, with the reason.
        margin: in widths of the interval, at least 0.
        generic: fields that new rules leave open, e.g. ``("model",)`` so that the next release, under
            another name, is held to the same bounds.
        profile: the profile of the run, which new rules then name (unless it is generic).
        comparisons: number of bounds checked in a run, for the family-wise error rate.
        noise: numerical noise of the figures by the measurements' keys, as verdicts know it.
        dry_run: say what would change and write nothing.

    Raises:
        ClipRobustError: a mistake in the file, a negative margin, or a file that cannot be written.
    """
    if not (math.isfinite(margin) and margin >= 0.0):
        raise ClipRobustError(f"the margin of a record must be 0 or more, not {margin}")
    unknown = [name for name in generic if name not in (*FIELDS, "severity") or name == "metric"]
    if unknown:
        raise ClipRobustError(f"a recorded rule cannot leave {unknown[0]!r} open")
    from pytest_cliprobust.figures.statistics import interval_at

    path = Path(path)
    shown = _shown(path)
    text = _read_text(path) if path.exists() else f"schema = {SCHEMA}\n"
    # Names were checked, against the real vocabularies, when the run began.
    file = parse_thresholds(text, shown, profile=profile, known_metrics=("*",))
    level = file.policy.level(comparisons)
    pending: dict[str, _Pending] = {}
    changes: list[RecordChange] = []
    for measurement in measurements:
        ends = interval_at(measurement.figure, level)
        value = measurement.figure.value
        low, high = min(ends.low, value), max(ends.high, value)
        reason = ""
        try:
            info = METRICS.named(measurement.metric)
        except ClipRobustError as error:
            reason = str(error)
        if not all(map(math.isfinite, (value, ends.low, ends.high))):
            reason = f"the figure is not finite ({value}, {ends.low} to {ends.high})"
        if reason:
            changes.append(RecordChange(measurement.key, "", None, None, "skipped", shown, reason))
            continue
        winner = rule = file.lookup(measurement)
        if rule is not None and not _is_exact(rule, measurement, generic, profile):
            rule = None
        rule_id = rule.id if rule else _new_rule_id(measurement, generic, profile)
        entry = pending.setdefault(rule_id, _Pending(rule_id, rule))
        entry.measurements.append(measurement)
        sides: set[Literal["min", "max"]] = set()
        if info.higher_is_better is not False:
            sides.add("min")
        if info.higher_is_better is not True:
            sides.add("max")
        if winner is not None and rule is None:
            # The new rule wins from now on: what the old one asked for must not be lost with it.
            for bound in ("max_increase", "max_decrease"):
                if bound in winner.bounds:
                    size = winner.bounds[bound]
                    entry.inherited[bound] = min(size, entry.inherited.get(bound, size))
        if winner is not None and (winner.minimum is not None or winner.maximum is not None):
            # A band stays a band, and a metric without a direction keeps the side it has.
            have: set[Literal["min", "max"]] = set()
            if winner.minimum is not None:
                have.add("min")
            if winner.maximum is not None:
                have.add("max")
            sides = have if info.higher_is_better is None else sides | have
        for side in sorted(sides):
            end = low if side == "min" else high
            floor = (noise or {}).get(measurement.key, 0.0)
            bound_value = suggest_bound(end, high - low, margin, side, info, floor)
            because = _reason(measurement, low, high, level)
            entry.widen(side, bound_value, measurement.key, because)
    updated = _apply(text, file, pending, generic, profile)
    try:
        after = parse_thresholds(updated, shown, profile=profile, known_metrics=("*",))
    except ClipRobustError as error:
        raise ClipRobustError(
            f"nothing was recorded, the new file would be wrong: {error}"
        ) from None
    for entry in pending.values():
        if entry.rule is not None:
            continue
        # With fields left open the new rule need not be the most specific one.
        for measurement in entry.measurements:
            wins = after.lookup(measurement)
            if wins is None or wins.id != entry.rule_id:
                found = f"{wins.where} [{wins.id}]" if wins else "no rule"
                raise ClipRobustError(
                    f"nothing was recorded: {found} would win over the new rule for "
                    f"{measurement.key}; record it exactly, or widen that rule"
                )
    lines = {rule.id: rule for rule in after.rules}
    for entry in pending.values():
        for side in ("min", "max"):
            if side not in entry.bounds:
                continue
            new, key = entry.bounds[side]
            old = entry.rule.bounds.get(side) if entry.rule else None
            action: Literal["updated", "added", "unchanged"] = (
                "added" if entry.rule is None else "unchanged" if old == new else "updated"
            )
            changes.append(
                RecordChange(key, side, old, new, action, lines[entry.rule_id].where_of(side))
            )
        for bound, size in entry.inherited.items():
            place = lines[entry.rule_id].where_of(bound)
            key = entry.measurements[0].key
            changes.append(RecordChange(key, bound, size, size, "unchanged", place))
    if updated != text and not dry_run:
        _write_atomically(path, updated)
    return changes


def _new_fields(
    measurement: Measurement, generic: Sequence[str], profile: str | None
) -> dict[str, str | int]:
    """Selector of a new rule, in the order in which it is written."""
    values: dict[str, str | int | None] = {
        "suite": measurement.suite,
        "metric": measurement.metric,
        "dataset": measurement.dataset,
        "perturbation": measurement.perturbation,
        "severity": measurement.severity,
        "model": measurement.model,
        "profile": profile,
    }
    return {
        name: glob.escape(value) if isinstance(value, str) else value
        for name, value in values.items()
        if value is not None and name not in generic
    }


def _new_rule_id(measurement: Measurement, generic: Sequence[str], profile: str | None) -> str:
    fields = _new_fields(measurement, generic, profile)
    severity = fields.pop("severity", None)
    return Rule(
        index=0,
        line=0,
        file="",
        selectors={name: (str(value),) for name, value in fields.items()},
        severities=() if severity is None else (int(severity),),
    ).id


def _apply(
    text: str,
    file: ThresholdFile,
    pending: Mapping[str, _Pending],
    generic: Sequence[str],
    profile: str | None,
) -> str:
    """Return the text with the pending bounds in it; checks that nothing else changed."""
    positions = _Positions(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    expected = copy.deepcopy(tomllib.loads(text))
    edits: list[tuple[int, int, str]] = []
    blocks: list[str] = []
    for entry in pending.values():
        values: dict[str, str | float] = {
            side: entry.bounds[side][0] for side in ("min", "max") if side in entry.bounds
        }
        if entry.rule is None:
            table = {
                **_new_fields(entry.measurements[0], generic, profile),
                **values,
                **entry.inherited,
            }
            table["because"] = entry.because
            lines = [f"{name} = {_toml(value)}" for name, value in table.items()]
            blocks.append(newline.join(["", "[[threshold]]", *lines, ""]))
            expected.setdefault("threshold", []).append(table)
            continue
        rule = entry.rule
        if all(rule.bounds.get(side) == value for side, value in values.items()):
            continue  # Nothing new: not even the reason is touched.
        if rule.because.startswith(_RECORDED):
            values["because"] = entry.because
        inside = {
            statement.path[2]: statement
            for statement in positions.statements
            if statement.kind == "pair" and statement.path[:2] == ("threshold", rule.index)
        }
        last = max(inside.values(), key=lambda statement: statement.start)
        for key, value in values.items():
            expected["threshold"][rule.index][key] = value
            if key in inside:
                at = inside[key]
                edits.append((at.value_start, at.value_end, _toml(value)))
                continue
            start = text.rfind("\n", 0, last.start) + 1
            line = f"{text[start : last.start]}{key} = {_toml(value)}"
            if text[last.value_end : last.end].endswith("\n"):
                edits.append((last.end, last.end, line + newline))
            else:
                edits.append((last.end, last.end, newline + line))
    # From the back, so that offsets stay true.
    for start, stop, replacement in sorted(edits, key=lambda edit: edit[0], reverse=True):
        text = text[:start] + replacement + text[stop:]
    if blocks:
        if text and not text.endswith("\n"):
            text += newline
        text += "".join(blocks)
    if tomllib.loads(text) != expected:
        raise RuntimeError(f"recording into {file.name} would have changed more than it should")
    return text


def _write_atomically(path: Path, text: str) -> None:
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise ClipRobustError(f"{_shown(path)}: cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(text.encode("utf-8"))
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            os.chmod(temporary, target.stat().st_mode & 0o7777)
        else:
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise ClipRobustError(f"{_shown(path)}: cannot be written: {error.strerror}") from None
        raise
