"""What a comparison comes to in lines, from verdicts made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pytest_cliprobust.reporting.comparison import comparison_lines, paired_line

PAIRED, APART = "paired, n = 60", "each by itself: other samples; 12 of 60 are shared"


def record(
    metric: str, compared: str = PAIRED, changed: float | None = None, *, of: int = 60, **more: Any
) -> Any:
    """Return a record with what the lines are made of; ``of``: how many samples it has."""
    told: dict[str, Any] = {
        "on_change": True,
        "compared": compared,
        "changed": changed,
        "late": False,
        "note": "",
        "status": "pass",
        "explanation": "it fell",
        "n": 60,
    }
    return SimpleNamespace(
        key=f"suite/{metric}",
        suite="suite",
        measurement=SimpleNamespace(
            metric=metric, condition="fog_3d@3", figure=SimpleNamespace(n=of)
        ),
        verdict=SimpleNamespace(**{**told, **more}),
    )


def lines(*records: Any, source: str = "v1.json") -> list[tuple[str, str]]:
    run: Any = SimpleNamespace(records=records, held_against=source)
    return comparison_lines(run)


def test_what_was_compared_how_and_how_many_answers_changed() -> None:
    assert lines(
        record("accuracy", changed=0.0),
        record("accuracy", changed=0.25),
        record("mean_corruption_accuracy", changed=0.125),
        record("nll", changed=0.9),  # no answers
        record("accuracy", APART, changed=0.9),
        record("nll", "each by itself: another seed"),
        record("ece", "each by itself"),
        record("accuracy", PAIRED, on_change=False, changed=0.9),
        record("accuracy", "", changed=0.9),
    ) == [
        (
            "note",
            "paired with v1.json: 4 of 7 figures, on all samples (60 of 60 where they are most); 1 is the "
            "same in every outcome",
        ),
        (
            "note",
            "churn: 12.5% of the answers changed between right and wrong (median over conditions)",
        ),
        ("note", "not compared by sample: another seed"),
        ("note", "not compared by sample: other samples"),
    ]


def test_without_a_change_there_is_no_churn() -> None:
    held = "paired with v1.json: 2 of 2 figures, on all samples (60 of 60 where they are most)"
    same = [record("accuracy", changed=0.0), record("nll", changed=0.0)]
    assert lines(*same) == [("note", f"{held}; every outcome is the same")]
    assert lines(record("nll", changed=0.5), record("ece")) == [("note", held)]


def test_on_how_many_samples() -> None:
    whole, half, tenth = (record("ece", changed=0.5, of=of) for of in (60, 120, 1600))
    assert lines(whole, half, tenth) == [
        (
            "note",
            "paired with v1.json: 3 of 3 figures, 2 of them on a part of their samples (least: 60 of "
            "1,600 in ece on fog_3d@3)",
        )
    ]
    # A figure of several pictures each is paired on more than it counts.
    assert "on all samples (30 of 30" in lines(record("ece", changed=0.5, of=30))[0][1]
    by_itself = record("ece", "not paired: v1.json has no outcomes; n = 60")
    assert lines(by_itself, by_itself, source="")[0] == (
        "note",
        "held against an earlier run: 2 figures, none of them by sample",
    )


def test_losses_within_a_margin_and_failures_that_came_late() -> None:
    late = record("ece", "", on_change=False, late=True, status="fail")
    failure = ("error", "suite/ece fails, although its test passed: it fell")
    assert lines(late) == [failure]
    assert lines() == []
    kept, failed = (record("nll", note="a real loss", status=s) for s in ("pass", "fail"))
    _, loss, last = lines(kept, failed, late)
    assert loss == ("note", "suite nll on fog_3d@3: a real loss")
    same = record("suite", note="a real loss")
    assert lines(same)[-1] == ("note", "suite on fog_3d@3: a real loss")
    assert last == failure


def test_without_anything_compared_there_is_no_line() -> None:
    unlike = [record("ece", "", changed=0.5), record("ece", PAIRED, on_change=False)]
    assert paired_line([], "v1.json") == ""
    assert paired_line([(one.verdict, one.measurement) for one in unlike], "v1.json") == ""
    mixed = [record("ece", "each by itself"), *unlike]
    told = paired_line([(one.verdict, one.measurement) for one in mixed], "v1.json")
    assert told == "held against v1.json: 1 figure, none of them by sample"
    same = [record("ece", changed=0.0) for _ in range(2)]
    assert lines(*same, record("nll", changed=0.1))[0][1].endswith(
        "; 2 are the same in every outcome"
    )
