"""A session's run as reports and comparisons take runs, and the earlier one that it was held against."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.gating.baseline import Baseline
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.reporting import json
from pytest_cliprobust.results.compare import Comparison, compare
from pytest_cliprobust.results.earlier import Earlier, of_document
from pytest_cliprobust.results.run import Run


def earlier_of(run: Run) -> Earlier:
    """Return a session's run as reports and comparisons take runs, with its outcomes by sample."""
    told = json.document(run)
    for entry, record in zip(told["measurements"], run.records, strict=True):
        known = METRICS.find(record.measurement.metric)
        entry["higher_is_better"] = None if known is None else known.higher_is_better
    made = of_document(told, {}, "this run")
    return replace(made, measurements={record.key: record.measurement for record in run.records})


def held_against(
    run: Run, head: Earlier, keys: Container[str] | None = None
) -> tuple[Comparison | None, list[str]]:
    """Return the comparison of a run with its baseline, and why there is none although there is a baseline.

    Args:
        run: the run.
        head: the same, from :func:`earlier_of`.
        keys: of the figures to compare; None: all. Each takes a bootstrap.
    """
    if run.baseline is None:
        return None, []
    if keys is not None:
        head = replace(head, measurements={k: m for k, m in head.measurements.items() if k in keys})
    if run.baseline.within:
        # Of two models of one run the other is not compared with itself.
        own = {k: m for k, m in head.measurements.items() if m.model != run.baseline.within}
        head = replace(head, measurements=own)
    try:
        base = _of_baseline(run.baseline)
        asked = None if run.baseline.within else run.unjudged.policy.baseline_model
        return compare(base, head, base_model=asked), []
    except ClipRobustError as error:
        return None, [f"not compared with an earlier run: {error}"]


def _of_baseline(baseline: Baseline) -> Earlier:
    """Return a baseline as a run: figures and outcomes, without verdicts."""
    measurements = [
        Measurement(key.split("/", 1)[0], model, figure)
        for (key, model), figure in baseline.figures.items()
    ]
    known = baseline.provenance
    return Earlier(
        baseline.source,
        {one.key: one for one in measurements},
        {"provenance": None if known is None else known.as_dict()},
        {},
        {},
        {},
        anchors=baseline.anchors,
        older=baseline.older,
    )
