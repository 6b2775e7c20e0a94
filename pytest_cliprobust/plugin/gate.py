"""The gate: judges figures by the threshold file, and keeps them for the reports."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_cliprobust.errors import ClipRobustError, shortened
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.message import failure_message
from pytest_cliprobust.gating.rules import Rule
from pytest_cliprobust.gating.verdict import Verdict, judge
from pytest_cliprobust.gating.vocabulary import check_chance
from pytest_cliprobust.gating.weak import weak_for
from pytest_cliprobust.plugin.options import OPTIONS, models_of, reports_of
from pytest_cliprobust.plugin.state import SESSION, model_given
from pytest_cliprobust.plugin.suites import suite_of
from pytest_cliprobust.plugin.writing import pictures_of
from pytest_cliprobust.results.record import Evidence, Record

if TYPE_CHECKING:
    from pytest_cliprobust.plugin.session import Session
    from pytest_cliprobust.search.evidence import Evidence as Found

#: What the gate takes: a figure, or figures in any nesting of lists and mappings.
Figures = Figure | Iterable[Any] | Mapping[str, Any]


class Gate:
    """Judges figures and keeps them for the reports.

    Call it with figures, or with what properties return (lists, mappings); all are judged before the
    test fails, so that one failure does not hide another. Under which name a figure is judged is not
    for the caller to say: it carries the condition that it was measured on.
    """

    def __init__(self, item: pytest.Item, session: Session, model: str) -> None:
        self.records: list[Record] = []
        self.missed = False
        self._asked = False
        self._item = item
        self._session = session
        self._model = model
        self._failures: list[str] = []
        self._also_used: list[str] = []

    def __call__(
        self, *figures: Figures, explain: Callable[[Verdict], Found] | None = None
    ) -> None:
        """Judge figures.

        ``explain`` is asked for evidence (a picture, a command that shows it) if a bound is missed.

        Raises:
            ClipRobustError: a figure from bare arrays, which does not say what it was measured on; one that
                no property can have made (:func:`check_made`); or what is no figure at all.
        """
        for figure in _flat(figures):
            check_made(figure)
            self._asked = True
            self._judge(Measurement(suite_of(self._item), self._model, figure), explain)

    def limit(self, metric: str, condition: Condition) -> float | None:
        """Return the ``max`` that the threshold file sets for a metric, None if it sets none."""
        nothing = Figure(metric, 0.0, 0.0, 0.0, 0).measured_on(condition)
        rule = self._session.thresholds.lookup(
            Measurement(suite_of(self._item), self._model, nothing)
        )
        if rule is None:
            return None
        self._also_used.append(rule.id)
        return rule.maximum

    def _judge(self, measurement: Measurement, explain: Callable[[Verdict], Found] | None) -> None:
        session = self._session
        rule = session.thresholds.lookup(measurement)
        if self._model == session.config.against:
            rule = None  # What others are held against is measured, not judged.
        floor, weak = 0.0, list[str]()
        if rule is not None and not session.recording:
            check_chance(rule, measurement, lambda: session.classes(self._model))
            weak = self._weak(rule, measurement)
        if rule or session.recording:
            floor = session.noise_floor(self._model, measurement.metric)
        judged = judge(
            measurement,
            rule,
            session.thresholds.policy,
            baseline=session.baseline_of(self._model),
            error_rate=session.family.error_rate(
                measurement, session.thresholds.policy, len(self.records) + 1
            ),
            noise_floor=floor,
            no_baseline=session.no_baseline,
        )
        if session.waives:
            judged = session.thresholds.waived(measurement, judged, self._item.nodeid)
        evidence = None
        if judged.failed and not session.recording:
            told = failure_message(judged, measurement, rerun_command(self._item))
            if explain is not None and session.named:
                evidence = drawn(
                    explain(judged), measurement.key, picture_folder(self._item.config)
                )
                told += "\n" + evidence_text(evidence)
            elif explain is not None:
                told += "\n" + lines_text(explain(judged).lines)
            self._failures.append(told)
        record = Record(
            measurement,
            judged,
            self._item.nodeid,
            rule.id if rule else None,
            tuple(self._also_used),
            floor,
            evidence,
            tuple(weak),
        )
        self.records.append(record)
        self._item.user_properties.append((record.key, record.one_line()))

    def _weak(self, rule: Rule, measurement: Measurement) -> list[str]:
        """Return why the bounds of a rule hardly gate a figure."""
        session = self._session
        baseline = session.baseline_of(self._model)
        asked = session.thresholds.policy.baseline_model
        recorded = None if baseline is None else baseline.find(measurement, asked)
        return weak_for(rule, measurement, session.classes(self._model), recorded)

    def finish(self) -> None:
        """Fail the test with all that was missed, or if nothing was judged at all."""
        if not self._asked:
            self.missed = True
            pytest.fail("gate was given no figure: this test measured nothing", pytrace=False)
        if self._failures:
            self.missed = True
            pytest.fail("\n\n".join(self._failures), pytrace=False)


def _flat(figures: Any) -> Iterable[Figure]:
    """Yield the figures in any nesting of iterables and mappings."""
    if isinstance(figures, Figure):
        yield figures
    elif isinstance(figures, Mapping):
        for figure in figures.values():
            yield from _flat(figure)
    elif isinstance(figures, Iterable) and not isinstance(figures, str | bytes):
        for figure in figures:
            yield from _flat(figure)
    else:
        raise ClipRobustError(
            "gate takes figures, as properties make them of views, gate(accuracy.accuracy_of(view)), and "
            f"lists and mappings of them, not {shortened(figures)}"
        )


def check_made(figure: Figure) -> None:
    """Refuse a figure that no property can have made: whoever writes its numbers down may slip.

    One of a registered metric, in its range, is judged like any other, whoever made it.

    Raises:
        ClipRobustError: an unknown metric, a value outside the metric's range, or an interval whose ends are
            the wrong way round.
    """
    metric = METRICS.named(figure.metric)
    if not metric.can_be(figure.value):
        low, high = metric.bounds
        raise ClipRobustError(
            f"gate was given {figure.metric} {figure.value:g}, outside its range, {low:g} to {high:g}: let "
            "pytest_cliprobust.measure make the figure"
        )
    if figure.low > figure.high:
        raise ClipRobustError(
            f"gate was given {figure.metric} with an interval from {figure.low:g} down to {figure.high:g}: "
            "let pytest_cliprobust.measure make the figure"
        )


def picture_folder(config: pytest.Config) -> Path:
    """Return the folder for pictures: beside the report, else in pytest's cache."""
    for report in reports_of(config)[:1]:
        return pictures_of(report)
    cache = getattr(config, "cache", None)
    return Path(cache.mkdir("cliprobust")) if cache else config.rootpath / "cliprobust-pictures"


def drawn(found: Found, key: str, folder: Path) -> Evidence:
    """Draw the picture of a missed bound, and return what reports show of it."""
    path = folder / (re.sub(r"[^A-Za-z0-9._@-]+", "-", key) + ".png")
    picture = shown_path(found.draw(path))
    return Evidence(found.lines, dict(found.parameters), found.reproduction, str(picture))


def evidence_text(evidence: Evidence) -> str:
    """Return evidence as lines that continue a failure message."""
    lines = [
        *evidence.lines,
        ("picture", evidence.picture),
        ("see it", evidence.reproduction),
    ]
    return lines_text(lines)


def lines_text(lines: Iterable[tuple[str, str]]) -> str:
    """Return headings with their texts, as a failure message has them."""
    return "\n".join(f"  {heading:<9} {text}" for heading, text in lines)


def rerun_command(item: pytest.Item) -> str:
    """Return the command line that runs just this test again, with this run's options."""
    config = item.config
    # The path as the user can type it here: a node id starts at the root folder.
    path = shown_path(item.path)
    test = item.nodeid.partition("::")[2]
    if config.stash[SESSION].config.against is not None:
        # What it is held against must be measured, too, by the same test with the other model.
        test = test.partition("[")[0]
    parts = ["pytest", f"{path}::{test}"]
    # A gate's test uses our fixtures, which hang on this one.
    model = model_given(item)
    # Written with "=": pytest takes a folder that stands alone for one of tests, and roots itself there.
    parts += [f"--clip-model={name}" for name in ([model] if model else models_of(config))]
    for option in OPTIONS:
        value = config.getoption(option.flag)
        if value is not None:
            parts.append(f"{option.flag}={value}")
    return shlex.join(parts)
