"""A rule: what it selects, its bounds, and how specific it is."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

from pytest_cliprobust.gating.measurement import Measurement

#: The fields that a selector may name, beside ``severity``.
FIELDS = ("suite", "metric", "dataset", "perturbation", "model", "profile")

#: The field that waivers alone may name: the test that measured a figure.
TEST = "test"

Kind = Literal["min", "max", "max_increase", "max_decrease"]
"""A kind of bound, called as in the file."""

#: The kinds of bounds, in the order in which they are shown and written.
BOUNDS: tuple[Kind, ...] = get_args(Kind)

#: Those on the change against the baseline.
CHANGES: tuple[Kind, ...] = ("max_increase", "max_decrease")

_ESCAPED = re.compile(r"\[([*?\[])\]")
_WILDCARD = re.compile(r"[*?\[]")


def literal(pattern: str) -> str | None:
    """Return the one name that ``pattern`` matches, or None if it is a glob."""
    if _WILDCARD.search(_ESCAPED.sub("", pattern)):
        return None
    return _ESCAPED.sub(r"\1", pattern)


def _literal_characters(pattern: str) -> int:
    """Count the characters of a glob that are not wildcards; a class counts as a wildcard."""
    return len(re.sub(r"\[!?\]?[^\]]*\]|[*?]", "", _ESCAPED.sub("x", pattern)))


def matches(patterns: tuple[str, ...], name: str) -> bool:
    """Return whether a name matches any pattern; no pattern at all matches everything."""
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def matches_any(patterns: tuple[str, ...], names: Iterable[str]) -> bool:
    """Return whether any name matches any pattern; no pattern at all matches everything."""
    return not patterns or any(matches(patterns, name) for name in names)


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
class Place:
    """Where a rule stands in the document.

    Attributes:
        table: index of its ``[[threshold]]`` table.
        row: index in the table's ``bounds``; None if the table is the rule itself.
        element: index in the lists of severities and bounds; None if they are no parallel lists.
    """

    table: int = 0
    row: int | None = None
    element: int | None = None

    @property
    def path(self) -> tuple[str | int, ...]:
        """The path of the table, or of the row."""
        own = ("threshold", self.table)
        return own if self.row is None else (*own, "bounds", self.row)


@dataclass(frozen=True)
class Rule:
    """One rule: a ``[[threshold]]`` table, a row of its ``bounds``, or one severity of such a row.

    Attributes:
        index: position among the rules of the file, from 0.
        line: line of its row, or of its table's header; ``lines`` has those of its keys.
        file: the file's name, as messages show it.
        selectors: patterns by field, those inherited included; a field left open (or ``"*"``) is
            missing here and matches all.
        severities: severities matched; empty matches all, also measurements without a severity.
        minimum, maximum: absolute bounds, None where there is none.
        max_increase, max_decrease: bounds on the change against the baseline.
        because: the author's reason, shown with a failure.
        place: where it stands in the document, for recording.
        rank: 0 of the threshold file's own; of a pack that it extends below 0, the nearer the higher. Of
            rules that are equally specific the one of the highest rank wins.
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
    place: Place = field(default=Place(), repr=False, compare=False)
    rank: int = 0

    @property
    def bounds(self) -> dict[Kind, float]:
        """The bounds that are set, by their key in the file."""
        values = (self.minimum, self.maximum, self.max_increase, self.max_decrease)
        return {key: value for key, value in zip(BOUNDS, values, strict=True) if value is not None}

    @property
    def on_change(self) -> bool:
        """Whether any of its bounds is one on the change against the baseline."""
        return any(kind in CHANGES for kind in self.bounds)

    @property
    def where(self) -> str:
        """``thresholds.toml:17``, the line of the row or of the table's header."""
        return f"{self.file}:{self.line}"

    def where_of(self, key: str) -> str:
        """Return file and line of one of the rule's keys, also of one that it inherits."""
        return f"{self.file}:{self.lines.get(key, self.line)}"

    @cached_property
    def id(self) -> str:
        """The selector in one line; unique in a file and independent of where it stands there."""
        parts = [
            f"{name}={'|'.join(self.selectors[name])}"
            for name in (*FIELDS, TEST)
            if name in self.selectors
        ]
        if self.severities:
            parts.append(f"severity={'|'.join(map(str, self.severities))}")
        # Brackets in the name of a test are always its own.
        return " ".join(
            part.replace("[[]", "[") if part[:5] == f"{TEST}=" else part for part in parts
        )

    @cached_property
    def specificity(self) -> Specificity:
        """See :class:`Specificity`."""
        exact = lists = globs = characters = listed = 0
        for patterns in self.selectors.values():
            loose = [pattern for pattern in patterns if literal(pattern) is None]
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

    @property
    def precedence(self) -> tuple[Specificity, int]:
        """What decides between rules that match: the larger wins."""
        return self.specificity, self.rank

    @property
    def names_all(self) -> bool:
        """Whether it names its suites, metrics, data sets and perturbations, each without a glob."""
        return all(
            self.selectors.get(name)
            and all(literal(one) is not None for one in self.selectors[name])
            for name in ("suite", "metric", "dataset", "perturbation")
        )

    def entries(self) -> Iterator[Rule]:
        """Yield the rule for each metric, data set, perturbation, test and severity of its lists alone."""
        for name in ("metric", "dataset", "perturbation", TEST):
            patterns = self.selectors.get(name, ())
            for pattern in patterns if len(patterns) > 1 else ():
                yield replace(self, selectors={**self.selectors, name: (pattern,)})
        for severity in self.severities if len(self.severities) > 1 else ():
            yield replace(self, severities=(severity,))

    def mismatch(
        self, measurement: Measurement, profile: str | None = None, test: str | None = None
    ) -> str:
        """Return why the rule does not match ``measurement``; empty if it does.

        Args:
            measurement: a figure.
            profile: of the run.
            test: node id of the test that measured it; None: whichever it was.
        """
        for name, value in coordinates(measurement, profile).items():
            patterns = self.selectors.get(name, ())
            if not matches(patterns, value):
                wanted = " or ".join(repr(pattern) for pattern in patterns)
                return f"{name} is {value!r}, not {wanted}" if value else f"no {name} is set"
        if self.severities and measurement.severity not in self.severities:
            wanted = " or ".join(map(str, self.severities))
            return f"severity is {measurement.severity}, not {wanted}"
        tests = self.selectors.get(TEST, ())
        if test is not None and not matches_any(tests, names_of_test(test)):
            return f"its test is {test}, not {' or '.join(tests)}"
        return ""

    def bound_text(self) -> str:
        """``min 0.6, max_decrease 0.02``."""
        return ", ".join(f"{key} {value:.12g}" for key, value in self.bounds.items())


def names_of_test(test: str) -> tuple[str, ...]:
    """Return what a test may be called: ``test_fog``, ``test_mine.py::test_fog[reference-3]``, its node id.

    Each with its parameters and without them.
    """
    path, _, name = test.partition("::")
    places = ("", f"{path.rpartition('/')[2]}::", f"{path}::")
    return tuple(
        f"{place}{one}" for place in places for one in dict.fromkeys((name, name.partition("[")[0]))
    )


def coordinates(measurement: Measurement, profile: str | None) -> dict[str, str]:
    """Return what a selector's fields are held against; an empty text where there is no profile."""
    return {
        "metric": measurement.metric,
        "suite": measurement.suite,
        "dataset": measurement.dataset,
        "perturbation": measurement.perturbation,
        "model": measurement.model,
        "profile": profile or "",
    }
