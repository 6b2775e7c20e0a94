"""What became of each test of a run: its last attempt counts, and one that never ended is told.

A report at a time, in the process that reports, whichever process ran the test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from pytest_cliprobust.gating.unmet import Declared
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.plugin.suites import PREFIX
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import NotMeasured

NOT_BEGUN = "the run ended before it began"
NOT_ENDED = "the run ended while it ran"
BROKE_OFF = "it broke off"


@dataclass
class Attempt:
    """The last attempt of a test.

    Attributes:
        suite: its suite; empty if it evaluates no model.
        records: what it measured.
        mistakes: the user's, one line each.
        troubles: what the environment lacked, one line each.
        skipped: why it was not run; None if it was.
        lacking: whether it was skipped for want of something in the environment.
        broken: whether it broke off without missing a bound.
        again: whether a plugin is going to run it again.
        why: what keeps it from counting as run to its end; empty once it is.
    """

    suite: str = ""
    records: tuple[Record, ...] = ()
    mistakes: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    skipped: str | None = None
    lacking: bool = False
    broken: bool = False
    again: bool = False
    why: str = NOT_ENDED


class Ledger:
    """The tests of a run that evaluate a model, and what became of them.

    Attributes:
        planned: the tests that were selected: id -> suite.
        not_collected: files whose tests are not known, as they could not be collected.
        spared: failures that are the environment's: how many of pytest's count.
        declared: by suite, what its file says that it measures in other profiles only.
        sections: by suite, the section of the report that its file names, and its place there.
        given: all tests that the workers of pytest-xdist collected, whether they evaluate a model or not.
        heard: whether any test came far enough to report: a worker's first report tells what was planned.
    """

    def __init__(self) -> None:
        self.planned: dict[str, str] = {}
        self.not_collected: list[str] = []
        self.spared = 0
        self.declared: dict[str, Declared] = {}
        self.sections: dict[str, tuple[str, float]] = {}
        self.given: tuple[str, ...] = ()
        self.heard = False
        self._attempts: dict[str, Attempt] = {}

    # --- While tests run ---------------------------------------------------------------------------

    def plan(self, tests: Mapping[str, str]) -> None:
        """Note which tests were selected; workers all have the same."""
        self.planned.update(tests)
        for (
            test,
            attempt,
        ) in self._attempts.items():  # over which a worker died before one told of them
            attempt.suite = attempt.suite or self.planned.get(test, "")

    def plan_all(self) -> None:
        """Take all tests that were collected for planned: all workers died before one said which are."""
        self.plan({test: suite_of_file(test) for test in self.given})

    def take_collection(self, report: pytest.CollectReport) -> None:
        """Note a file that could not be collected."""
        if report.failed and report.nodeid not in self.not_collected:
            self.not_collected.append(report.nodeid)

    def take(self, report: pytest.TestReport) -> list[Record]:
        """Note one report of a test, and return what it measured."""
        if report.when == "setup":
            # Whoever runs a test again counts on its last attempt alone.
            self._attempts[report.nodeid] = Attempt()
        attempt = self._attempts.setdefault(report.nodeid, Attempt())
        attempt.suite = getattr(report, "clip_suite", "") or attempt.suite
        if attempt.suite:
            declared = self.declared.setdefault(attempt.suite, Declared())
            declared.perturbations.update(getattr(report, "clip_names", ()))
            declared.severities.update(getattr(report, "clip_severities", ()))
        place = getattr(report, "clip_section", None)
        if attempt.suite and place:
            self.sections[attempt.suite] = (str(place[0]), float(place[1]))
        if report.when not in ("setup", "call", "teardown"):
            self._take_death(report, attempt)
        else:
            self.heard = True
            self._take_phase(report, attempt)
        return list(attempt.records) if report.when == "teardown" else []

    def _take_death(self, report: pytest.TestReport, attempt: Attempt) -> None:
        """Note that a worker of pytest-xdist died while it ran the test."""
        attempt.suite = attempt.suite or self.planned.get(report.nodeid, "")
        attempt.why = str(report.longrepr)
        attempt.troubles.append(
            f"{attempt.why}: killed for want of memory, it may be; run it alone to see more"
        )
        self.spared += report.failed

    def _take_phase(self, report: pytest.TestReport, attempt: Attempt) -> None:
        trouble = getattr(report, "clip_trouble", None)
        mistake = getattr(report, "clip_mistake", None)
        attempt.again |= str(report.outcome) == "rerun"
        if report.failed:  # not if it was expected to, or will be run again
            attempt.troubles += [trouble] if trouble else []
            attempt.mistakes += [mistake] if mistake else []
            self.spared += bool(trouble)
        if report.failed and not getattr(report, "clip_missed", False):
            attempt.broken = True
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            attempt.skipped = str(reason).removeprefix("Skipped: ")
            attempt.lacking = getattr(report, "clip_lacking", False)
        if report.when == "teardown":
            blobs = getattr(report, "clip_outcomes", {})
            attempt.records = tuple(
                one if isinstance(one, Record) else Record.from_dict(one, blobs)
                for one in getattr(report, "clip_records", ())
            )
            attempt.why = _first_line(attempt) if attempt.broken else ""

    def forget_properties(self, report: pytest.TestReport) -> None:
        """Take what an attempt measured out of JUnit's properties if the test is going to run again."""
        attempt = self._attempts[report.nodeid]
        if attempt.again and attempt.records:
            own = {record.key for record in attempt.records}
            kept = [(name, value) for name, value in report.user_properties if name not in own]
            report.user_properties = kept

    # --- What came of it ---------------------------------------------------------------------------

    @property
    def attempts(self) -> Mapping[str, Attempt]:
        """The tests that began, by id."""
        return self._attempts

    @property
    def suites(self) -> set[str]:
        """Suites of which any test was begun."""
        return {attempt.suite for attempt in self._attempts.values() if attempt.suite}

    @property
    def broken(self) -> set[str]:
        """Suites of which a test broke off without a figure."""
        return {a.suite for a in self._attempts.values() if a.broken and a.suite}

    @property
    def records(self) -> list[Record]:
        """What was measured; of two figures of one name the first."""
        found: dict[str, Record] = {}
        for attempt in self._attempts.values():
            for record in attempt.records:
                found.setdefault(record.key, record)
        return list(found.values())

    def rejudge(self, verdicts: Mapping[str, Verdict]) -> None:
        """Replace verdicts, by the key of the figure."""
        for attempt in self._attempts.values():
            attempt.records = tuple(
                replace(one, verdict=verdicts.get(one.key, one.verdict)) for one in attempt.records
            )

    def mistakes(self) -> list[str]:
        """Return the user's mistakes, among them two figures of one name."""
        told = [text for attempt in self._attempts.values() for text in attempt.mistakes]
        return [*told, *self._named_twice()]

    def troubles(self) -> list[str]:
        """Return what the environment lacked where a test ran."""
        return [text for attempt in self._attempts.values() for text in attempt.troubles]

    def _named_twice(self) -> list[str]:
        first: dict[str, Record] = {}
        told = []
        for attempt in self._attempts.values():
            for record in attempt.records:
                other = first.setdefault(record.key, record)
                if not _alike(other, record):
                    told.append(_twice(other, record))
        return told

    def not_run(self) -> list[NotMeasured]:
        """Return the tests that were skipped."""
        return [
            NotMeasured(test, attempt.suite, attempt.skipped)
            for test, attempt in self._attempts.items()
            if attempt.suite and attempt.skipped is not None
        ]

    def missing(self) -> list[NotMeasured]:
        """Return the tests that did not begin, or did not come to their end, and why."""
        begun = {t: a for t, a in self._attempts.items() if a.suite and t not in self.planned}
        told = []
        for test, suite in {**self.planned, **{t: a.suite for t, a in begun.items()}}.items():
            attempt = self._attempts.get(test)
            why = NOT_BEGUN if attempt is None else attempt.why
            if why:
                told.append(NotMeasured(test, suite, why))
        return told

    @property
    def lacks_any(self) -> bool:
        """Whether any test did not come to its end, or may not have: it is not known what was selected."""
        return not self.planned or bool(self.missing() or self.not_collected)

    def lacking(self, suites: Sequence[str]) -> list[str]:
        """Return why tests of these suites were skipped, where the environment lacks something."""
        return [
            f"{attempt.suite}: {attempt.skipped}"
            for attempt in self._attempts.values()
            if attempt.lacking and attempt.skipped is not None and attempt.suite in suites
        ]


def suite_of_file(test: str) -> str:
    """Return the suite of a test, or file, of which nothing but its id is known."""
    file = test.partition("::")[0]
    return file.rpartition("/")[2].removesuffix(".py").removeprefix(PREFIX)


def _first_line(attempt: Attempt) -> str:
    return (attempt.mistakes + attempt.troubles + [BROKE_OFF])[0]


def _alike(one: Record, two: Record) -> bool:
    a, b = one.figure, two.figure
    return (a.value, a.low, a.high, a.n) == (b.value, b.low, b.high, b.n)


def _twice(first: Record, second: Record) -> str:
    one, two = first.figure, second.figure
    return (
        f"{first.key} is the name of two figures: {one.interval_text()} on {one.n} samples in "
        f"{first.test}, {two.interval_text()} on {two.n} in {second.test}; gate one of them, or mark a "
        'test with @pytest.mark.clip_suite("other")'
    )
