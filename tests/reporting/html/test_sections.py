"""Which figures are drawn together, and with which numbers: what drawings are given."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup

from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.outcomes import Outcomes
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.properties.shape_bias import Decided
from pytest_cliprobust.reporting.facts import Line
from pytest_cliprobust.reporting.html import plots, sections
from pytest_cliprobust.reporting.separation import BINS, POINTS, Separation
from pytest_cliprobust.results.compare import Compared

CLEAN = Condition("clean")
Drawn = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Keep what drawings are given, and draw nothing."""
    kept: Drawn = []
    for name in ("curve", "curves", "reliability", "roc", "histogram", "dots", "pairs"):

        def draw(*given: Any, name: str = name, **more: Any) -> Markup:
            kept.append((name, given, more))
            return Markup("")

        monkeypatch.setattr(plots, name, draw)
    return kept


def line(
    metric: str,
    value: float = 0.5,
    condition: Condition = CLEAN,
    *,
    before: float | dict[str, Any] | None = None,
    status: Any = None,
    suite: str = "s",
    unit: str = "",
    model: str = "",
    **details: Any,
) -> Line:
    """Return a figure with its details, beside an earlier one of this value or with these details."""
    bare = Figure(metric, value, value - 0.1, value + 0.1, 40, details=details, unit=unit)
    one = Measurement(suite, model or "m", bare.measured_on(condition))
    compared = None
    if before is not None:
        told = {"details": before} if isinstance(before, dict) else {"value": before, "details": {}}
        figure = replace(bare, **told).measured_on(condition)
        earlier = Measurement(suite, "m", figure)
        compared = Compared(earlier, one, True, "paired", difference=value - earlier.figure.value)
    verdict = None
    if status is not None:
        outcome: Any = "fail" if status == "fail" else "pass"
        numbers = (0.5, 0.4, 0.6, 0.95, 40)
        verdict = Verdict(status, outcome, "k", "min", 0.7, "t:1", "", "why", *numbers)
    return Line(one, verdict, compared, "t", "", several=bool(model))


def fog(severity: int | None, name: str = "fog") -> Condition:
    return Condition("clean", (Step(name, severity),))


def points(made: Any) -> tuple[list[float], list[float]]:
    return list(made.x), list(made.y)


def groups(make: Any, *lines: Line) -> list[sections.Group]:
    found = list(make(lines, sections._Names()))
    for group in found:
        for plot in group.plots:
            assert plot.svg == ""  # they are drawn when they are asked for
    return found


def test_severities_of_a_perturbation_are_one_curve(drawn: Drawn) -> None:
    lines = [
        line("accuracy", 0.4, fog(5), before=0.6),
        line("accuracy", 0.8, fog(1), before=0.7),
        line("accuracy", 0.9, fog(1, "snow")),
        line("accuracy", 0.7, fog(2, "snow")),
        line("accuracy", 0.7, fog(2, "alone")),
        line("ece", 0.7, fog(2)),
        line("ece", 0.7, fog(3)),
    ]
    (group,) = groups(sections._severities, *lines)
    assert group.title == "Accuracy by severity, the largest loss first"
    # What has no earlier run stands before what lost, and its name was given later.
    (snow, none, _, _), fogged = drawn[0][1], drawn[1]
    assert (points(snow), none) == (([1, 2], [0.9, 0.7]), None)
    (head, base, name, title), more = fogged[1], fogged[2]
    assert (points(head), points(base)) == (([1, 5], [0.8, 0.4]), ([1, 5], [0.7, 0.6]))
    assert list(head.low) == pytest.approx([0.7, 0.3])
    assert list(head.high) == pytest.approx([0.9, 0.5])
    assert (name, title, more["ticks"]) == ("p1", "fog", [1, 5])
    assert [plot.rows[0][0] for plot in group.plots] == ["1", "1"]
    assert [plot.rows[0][3] for plot in group.plots] == ["–", "0.7"]
    assert group.plots[1].rows[1][2:] == ("40", "0.6")
    # Without a loss: what is lowest now.
    low = [
        line("accuracy", value, fog(s, name))
        for name, value in (("a", 0.8), ("b", 0.3))
        for s in (1, 2)
    ]
    (group,) = groups(sections._severities, *low)
    assert [plot.rows[0][1][:3] for plot in group.plots] == ["0.3", "0.8"]


def test_models_stand_beside_each_other(drawn: Drawn) -> None:
    lines = [
        line("accuracy", value, fog(severity, name), model=model)
        for name, lost in (("fog", 0.0), ("snow", 0.4))
        for model, value in (("a", 0.9 - lost), ("b", 0.6 - lost))
        for severity in (1, 3)
    ]
    (group,) = groups(sections._severities, *lines)
    assert group.models == ("a", "b")
    assert [call[1][2] for call in drawn] == ["snow", "fog"]  # the lowest first
    models = drawn[1][1][0]
    assert {name: points(own) for name, own in models.items()} == {
        "a": ([1, 3], [0.9, 0.9]),
        "b": ([1, 3], [0.6, 0.6]),
    }
    assert list(models["b"].low) == pytest.approx([0.5, 0.5])
    assert drawn[1][2] == {"across": "severity", "ticks": [1, 3]}
    assert [row[:2] for row in group.plots[1].rows] == [
        *(("a", "1"), ("a", "3"), ("b", "1"), ("b", "3"))
    ]


def test_of_many_models_those_that_fail_are_drawn(drawn: Drawn) -> None:
    lines = [
        line("accuracy", 0.5, fog(severity), model=model, status="fail" if model == "z" else None)
        for model in "abcdefgz"
        for severity in (1, 2)
    ]
    (group,) = groups(sections._severities, *lines)
    assert group.models == (*"abcde", "z")
    assert group.note.endswith(
        "2 more of the models, of which fewer bounds fail, are in the table."
    )
    assert list(drawn[0][1][0]) == [*"abcde", "z"]


def test_drawings_say_whose_they_are(drawn: Drawn) -> None:
    told = {"a": {"accuracy": 0.9, "low": 0.8, "high": 0.95, "n": 30}}
    where = Condition("captioned:style", (Step("fog", 3),))
    own = line("worst_group_accuracy", 0.5, where, model="m1", groups=told)
    (group,) = groups(sections._by_group, own)
    assert group.plots[0].title == "Accuracy by style, captioned, fog 3 (m1)"
    bins = [{"low": 0.0, "high": 1.0, "n": 3, "confidence": 0.5, "accuracy": 0.4}]
    (group,) = groups(sections._reliabilities, line("ece", model="m1", reliability=bins))
    assert group.plots[0].caption.startswith("m1: ece 0.5")
    dots = [line("drift", 0.4, model=model, status="pass") for model in ("m1", "m2")]
    groups(sections._dots, *dots)
    assert [row.whose for row in drawn[-1][1][0]] == [" (m1)", " (m2)"]


def test_a_suite_that_nothing_judges_is_not_empty(drawn: Drawn) -> None:
    lines = [line("recall", 0.4, model=model, suite="retrieval") for model in ("a", "b")]
    (section,) = sections.sections_of(lines)
    (group,) = section.suites[0].groups
    assert [plot.title for plot in group.plots] == ["Recall"]
    judged = [*lines, line("other", 0.4, model="a", suite="retrieval", status="pass")]
    assert sections.sections_of(judged)[0].suites[0].groups == ()


def test_verdicts_of_a_section_are_counted_shown_or_not() -> None:
    statuses = ("pass", "waived", "inconclusive", "fail", "waived", None)
    lines = [line(f"m{n}", 0.4, status=own) for n, own in enumerate(statuses)]
    first, second = (sections.SuitePart("a", tuple(own), ()) for own in (lines[:2], lines[2:]))
    section = sections.Section("x", "X", (first,), (second,))
    assert section.lines == tuple(lines)
    assert (section.failed, section.waived, section.undecided, section.judged) == (1, 2, 1, 5)
    assert (first.failed, second.failed) == (0, 1)


def test_dimensions_are_written_large() -> None:
    (section,) = sections.sections_of([line("x", suite="corruption_2d")])
    assert section.suites[0].title == "Corruption 2D"


def test_curves_that_figures_hold(drawn: Drawn) -> None:
    steps: dict[str, Any] = {
        "curve": [[0.0, 0.9], [0.5, 0.4]],
        "clean_accuracy": 0.9,
        "allowed_drop": 0.2,
    }
    risk: dict[str, Any] = {
        "curve": [{"coverage": 0.5, "error": 0.01}, {"coverage": 1.0, "error": 0.03}]
    }
    high: dict[str, Any] = {"curve": [{"coverage": 1.0, "error": 0.3}]}
    found = groups(
        sections._curves,
        line("strength", **steps, before={"curve": [[0.0, 0.8]]}),
        line("aurc", **risk),
        line("aurc", **risk, before=high),
        line("other"),
        line("broken", curve=[["x"]]),
        line("frontier", curve=[[0.0, 0.5]], clean_accuracy=0.9),
    )
    assert [(group.title, len(group.plots)) for group in found] == [
        ("Accuracy along the strength", 2),
        ("Error of the answers given, by coverage", 2),
    ]
    first, without, plain, beside = drawn
    assert points(first[1][0]) == ([0.0, 0.5], [0.9, 0.4])
    assert points(first[1][1]) == ([0.0], [0.8])
    assert first[2] == {"across": "strength", "limit": pytest.approx(0.7)}
    assert points(plain[1][0]) == ([0.5, 1.0], [0.01, 0.03])
    assert plain[1][1] is None
    assert plain[2]["span"] == (0.0, 0.05)
    assert beside[2]["span"] == (0.0, 0.3)
    assert without[2]["limit"] is None


def test_matches_by_angle(drawn: Drawn) -> None:
    bins = [
        {"low": 0.0, "high": 30.0, "n": 4, "recall": 0.75},
        {"low": 30.0, "high": 60.0, "n": 0, "recall": 0.0},
        {"low": 60.0, "high": 90.0, "n": 2, "recall": None},
        {"low": 90.0, "high": 120.0, "n": 2, "recall": 0.0},
    ]
    (group,) = groups(
        sections._angles,
        line("correspondence_recall", by_angle=bins, before={"by_angle": bins[:1]}),
        line("correspondence_recall", by_angle=bins),
        line("correspondence_recall", by_angle=bins[1:3]),
        line("correspondence_recall"),
    )
    assert len(group.plots) == 2
    (head, base, _, title), _ = drawn[0][1], drawn[0][2]
    assert points(head) == ([15.0, 105.0], [0.75, 0.0])
    assert points(base) == ([15.0], [0.75])
    assert title == "recall, clean"
    assert drawn[1][1][1] is None


def test_reliability_and_what_of_it_is_left_out(drawn: Drawn) -> None:
    bins = [{"low": 0.0, "high": 1.0, "n": 3, "confidence": 0.5, "accuracy": 0.4}]
    lines = [line("ece", reliability=bins, condition=fog(n + 1, f"p{n}")) for n in range(12)]
    lines.append(line("ece_scaled", reliability=bins, before={"reliability": bins}, status="fail"))
    (group,) = groups(sections._reliabilities, *lines)
    assert len(group.plots) == 12
    assert group.note.startswith("1 more is in the table of all figures. ")
    assert drawn[0][1] == (bins, bins, "p1", "clean, scaled")  # what fails comes first
    assert drawn[1][1][1] == []
    assert group.plots[0].caption.endswith("n = 40")


def test_groups_of_a_data_set_the_worst_first(drawn: Drawn) -> None:
    told = {
        "a": {"accuracy": 0.9, "low": 0.8, "high": 0.95, "n": 30},
        "b": {"accuracy": 0.6, "low": 0.4, "high": 0.8, "n": 20},
        "c": {"n": 1},
    }
    (group,) = groups(
        sections._by_group,
        line("worst_group_accuracy", groups=told, before={"groups": {"b": {"accuracy": 0.7}}}),
        line("group_accuracy_gap", groups=told),
    )
    rows, _, title = drawn[0][1]
    assert title == "Accuracy by clean"
    assert rows == [
        plots.Dot("b, n = 20", 0.6, 0.4, 0.8, 0.7),
        plots.Dot("a, n = 30", 0.9, 0.8, 0.95, None),
    ]
    assert len(group.plots) == 1
    errors = {name: {"ece": value, "n": 9} for name, value in (("a", 0.1), ("b", 0.3))}
    groups(sections._by_group, line("worst_group_ece", groups=errors))
    rows, _, title = drawn[1][1]
    assert ([row.label for row in rows], title) == (["b, n = 9", "a, n = 9"], "ECE by clean")


def test_pairs_that_gained_and_lost(drawn: Drawn) -> None:
    def pair(name: str, gained: float, lost: float) -> dict[str, Any]:
        return {"name": name, "other_name": "x", "gained": gained, "lost": lost}

    told = [pair("a", 0.0, 0.0), pair("b", 0.5, 0.0), pair("c", 0.1, 0.4), pair("d", 0.0, 0.1)]
    (group,) = groups(sections._pairs, line("lmm", pairs=told), line("lmm", pairs=[{"x": 1}]))
    rows, _, _ = drawn[0][1]
    assert rows == [("c or x", 0.1, 0.4), ("d or x", 0.0, 0.1), ("b or x", 0.5, 0.0)]
    assert group.plots[0].caption == "4 pairs, 1 without a gain or a loss"
    many = [pair(f"{n:02d}", n / 100, 0.0) for n in range(1, 21)]
    groups(sections._pairs, line("lmm", pairs=many))
    shown = [row[0][:2] for row in drawn[1][1][0]]
    assert shown == [f"{n:02d}" for n in (*range(1, 10), *range(12, 21))]


def test_dots_of_one_metric_and_of_single_figures(drawn: Drawn) -> None:
    lines = [
        line("flip_rate", 0.2, fog(1), status="pass"),
        line("flip_rate", 0.3, fog(2), before=0.1),
        line("accuracy", 0.5, fog(2)),
        line("drift", 0.4),
        line("mean", 0.6, status="fail"),
        line("nats", 3.0, unit="nats"),
        line("unsure", float("nan")),
        line("unbound", 0.1, fog(1)),
        line("unbound", 0.1, fog(2)),
    ]
    (group,) = groups(sections._dots, *lines)
    assert [plot.title for plot in group.plots] == ["Flip rate", "By metric"]
    rows = drawn[0][1][0]
    assert [(row.label, row.value, row.before) for row in rows] == [
        ("fog 1", 0.2, None),
        ("fog 2", 0.3, 0.1),
    ]
    single = drawn[1][1][0]
    assert [(row.label, row.word) for row in single] == [("mean", "bad"), ("drift", "")]
    many = [line("flip_rate", 0.2, fog(1, f"{n:02d}"), status="pass") for n in range(20)]
    (group,) = groups(sections._dots, *many)
    assert group.plots[0].title == "Flip rate (2 more in the table)"
    assert len(drawn[2][1][0]) == 18
    assert groups(sections._dots, line("drift", 0.4)) == []


def test_sections_are_the_papers_and_others_come_last() -> None:
    lines = [
        line("drift", 0.4, suite="mine", status="fail"),
        line("drift", 0.4, suite="ood", status="inconclusive", before=0.9),
        line("other", 0.4, suite="ood"),
    ]
    ood, mine = sections.sections_of(lines, {"Safety": ["calibration", "ood"]})
    assert (ood.name, ood.title, [part.title for part in ood.suites]) == (
        "safety",
        "Safety",
        ["OOD"],
    )
    assert mine.name == "others"
    assert (mine.title, mine.suites[0].title, mine.suites[0].anchor) == (
        *("Other suites", "Mine", "suite-mine"),
    )
    assert (ood.judged, ood.undecided, ood.failed, ood.waived) == (1, 1, 0, 0)
    assert (mine.judged, mine.failed, len(mine.lines)) == (1, 1, 1)
    assert mine.worst is lines[0]
    assert ood.worst is None


def test_a_section_of_ones_own_stands_between_the_papers_and_the_others() -> None:
    lines = [line("drift", suite=suite) for suite in ("b", "a", "night", "ood", "x")]
    told = {"At night": ["night"], "Safety": ["ood"], "Visual factors": ["b", "gone", "a"]}
    found = sections.sections_of(lines, told)
    assert [(one.name, one.title, [s.name for s in one.suites]) for one in found] == [
        ("factors", "Visual factors", ["b", "a"]),
        ("safety", "Safety", ["ood"]),
        ("section-at-night", "At night", ["night"]),
        ("others", "Other suites", ["x"]),
    ]
    # A report that an earlier version wrote does not say.
    (others,) = sections.sections_of(lines)
    assert [s.name for s in others.suites] == ["a", "b", "night", "ood", "x"]


def test_of_many_plots_the_rest_is_counted() -> None:
    many = [sections.Plot(partial(Markup, n)) for n in range(26)]
    (group,) = sections._group("t", many, "A note.")
    assert len(group.plots) == 24
    assert group.note == "2 more are in the table of all figures. A note."
    (group,) = sections._group("t", many[:3], of=5)
    assert group.note == "2 more are in the table of all figures."
    assert list(sections._group("t", [])) == []


def separation(share: float = 1.0) -> dict[str, Any]:
    """Return what a figure that is made of scores holds of them."""
    bins = (share, *[0.0] * (BINS - 1))
    return Separation((0.5,) * POINTS, 0.0, 1.0, bins, bins, (0.75, 0.25)).as_dict()


def test_curves_of_what_is_inside_and_outside(drawn: Drawn) -> None:
    own, earlier = separation(), separation(0.5)
    lines = [
        line("auroc_mcm", separation=own, before={"separation": earlier}, model="m1"),
        line("auroc_energy", separation=own, status="fail", condition=fog(3)),
        line("auroc_msp"),
        line("fpr95_mcm", separation=own),
    ]
    curves, scores = groups(sections._rocs, *lines)
    assert curves.title == "ROC curves, ID against OOD"
    assert curves.note == "1 without scores: an earlier version wrote the report."
    assert [plot.caption for plot in curves.plots] == [
        "AUROC 0.5 [0.4, 0.6]",  # what fails comes first
        "m1: AUROC 0.5 [0.4, 0.6]",
    ]
    assert [plot.caption for plot in scores.plots] == ["", "m1"]
    head, then = (Separation.from_dict(told) for told in (own, earlier))
    assert [call[0] for call in drawn] == ["roc", "roc", "histogram", "histogram"]
    assert drawn[0][1] == (head, None, "p1", "energy, fog 3")
    assert drawn[1][1] == (head, then, "p3", "mcm, clean")
    assert drawn[3][1] == (head, "p4", "mcm, clean")
    # Of many the first twelve, and the scores of the first six.
    many = [line("auroc_mcm", separation=own, condition=fog(1, f"p{n:02d}")) for n in range(14)]
    curves, scores = groups(sections._rocs, *many)
    assert (len(curves.plots), len(scores.plots)) == (12, 6)
    assert curves.note == "2 more are in the table of all figures."
    # Where an earlier version wrote them all, it says so.
    (bare,) = groups(sections._rocs, line("auroc_msp"), line("auroc_mcm"))
    assert (bare.title, bare.plots) == ("ROC curves, ID against OOD", ())
    assert bare.note == "2 without scores: an earlier version wrote the report."
    assert groups(sections._rocs, line("fpr95_mcm", separation=own)) == []


def test_bins_of_an_earlier_run_follow_from_its_outcomes() -> None:
    told = [{"n": 3}]
    assert sections._bins(line("ece", reliability=told).measurement.figure, 2) == told
    figure = line("ece").measurement.figure
    assert sections._bins(figure, 2) == []
    columns = {"confidence": np.array([0.25, 0.75, 1.0]), "correct": np.array([True, False, True])}
    for left_out in columns:
        one = {name: values for name, values in columns.items() if name != left_out}
        lacking = replace(figure, outcomes=Outcomes(one, lambda w, own: w.sum(1)))
        assert sections._bins(lacking, 2) == []
    whole = replace(figure, outcomes=Outcomes(columns, lambda w, own: w.sum(1)))
    made = sections._bins(whole, 2)
    assert [entry["n"] for entry in made] == [1, 2]
    assert [entry["accuracy"] for entry in made] == [1.0, 0.5]
    assert [entry["confidence"] for entry in made] == [0.25, 0.875]


def test_shape_or_texture_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def shapes(*given: Any) -> Markup:
        asked.append(given)
        return Markup("")

    monkeypatch.setattr(sections, "_shapes", shapes)

    def classes(shape: int, texture: int) -> list[dict[str, Any]]:
        return [
            {"name": "ant", "shape": shape, "texture": texture, "n": 9},
            {"name": "bee", "shape": 0, "texture": 0, "n": 2},
        ]

    def decided(shape: int, texture: int) -> dict[str, Decided]:
        return {"ant": Decided(shape, texture, 9 - shape - texture), "bee": Decided(0, 0, 2)}

    lines = [
        line(
            "shape_bias", per_class=classes(3, 1), model="m1", before={"per_class": classes(1, 1)}
        ),
        line("shape_bias", per_class=classes(3, 1), before={"per_class": classes(0, 0)}),
        line("shape_bias", per_class=classes(3, 1), before=0.5),
        line("shape_bias", per_class=classes(0, 0)),  # nobody decided
        line("shape_bias", per_class=classes(3, 1), condition=fog(3)),
        line("shape_bias"),
        line("accuracy", per_class=classes(3, 1)),
    ]
    (group,) = groups(sections._shape_bias, *lines)
    assert group.title == "Shape or texture, by class"
    assert [plot.title for plot in group.plots] == ["m1", "", ""]
    assert [plot.wide for plot in group.plots] == [True] * 3
    assert group.plots[0].caption == (
        "shape bias 0.5 [0.4, 0.6]; dashed: the mean over classes, dotted: people (Geirhos et al. 2019)"
    )
    own = decided(3, 1)
    assert asked == [
        ({"m1": own, "earlier run": decided(1, 1)}, "p1", "shape bias 0.5 [0.4, 0.6]"),
        ({"m": own}, "p2", "shape bias 0.5 [0.4, 0.6]"),
        ({"m": own}, "p3", "shape bias 0.5 [0.4, 0.6]"),
    ]
    assert groups(sections._shape_bias, *lines[3:]) == []


def test_the_picture_of_shape_bias_fits_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []

    def inline(figure: Any, name: str, label: str) -> Markup:
        kept.append((figure, name, label))
        return Markup("")

    monkeypatch.setattr(sections, "inline", inline)
    models = {"m": {"ant": Decided(3, 1, 4), "bee": Decided(1, 1, 0)}}
    sections._shapes(models, "p1", "a label")
    ((figure, *words),) = kept
    assert words == ["p1", "a label"]
    assert figure.get_size_inches().tolist() == pytest.approx([plots.WIDE, 1.75 + 0.42])
    shape, neither = figure.axes[:2]
    assert shape.get_xlabel() == "share of shape decisions"
    assert neither.get_xlabel() == "for neither"
    assert figure.legends == []


def test_one_model_more_is_told_as_one() -> None:
    lines = [line("accuracy", model=model) for model in "abc"]
    assert sections._undrawn(lines, "abc") == ""
    end = " of the models, of which fewer bounds fail, {} in the table."
    assert sections._undrawn(lines, "ab") == f" 1 more{end.format('is')}"
    assert sections._undrawn(lines, "a") == f" 2 more{end.format('are')}"


def test_single_figures_stand_together_where_there_are_two_without_a_unit(drawn: Drawn) -> None:
    lines = [line("drift", 0.4), line("churn", 0.3), line("nats", 3.0, unit="nats")]
    (group,) = groups(sections._dots, *lines)
    assert [row.label for row in drawn[0][1][0]] == ["churn", "drift"]
    assert group.plots[0].title == "By metric"
    # Five kinds of which four are drawn, the first first.
    many = [line(f"m{n}", 0.4, fog(s), status="pass") for n in range(5) for s in (1, 2)]
    (group,) = groups(sections._dots, *many)
    assert [plot.title for plot in group.plots] == ["M0", "M1", "M2", "M3"]
    # Accuracy by severity is a curve, and is not drawn twice; with bounds or where all are wanted.
    by = [line("accuracy", 0.4, fog(s), status="pass") for s in (1, 2)]
    assert groups(sections._dots, *by) == []
    free = [line("drift", 0.4, fog(s)) for s in (1, 2)]
    assert groups(sections._dots, *free) == []
    (group,) = groups(partial(sections._dots, every=True), *free)
    assert [plot.title for plot in group.plots] == ["Drift"]
