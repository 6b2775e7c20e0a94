"""A run: which of its figures were judged, and what of it is told without names."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import Any, Literal

import pytest
from gating_helpers import measure
from history_helpers import KEYS, answers, figures

from pytest_cliprobust.datasets.skipping import Skipped
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.rules import Rule
from pytest_cliprobust.gating.unjudged import Unjudged
from pytest_cliprobust.gating.verdict import Verdict, judge
from pytest_cliprobust.gating.waivers import Waiver
from pytest_cliprobust.results.record import Evidence, Record
from pytest_cliprobust.results.run import ModelSummary, Run

Kind = Literal["pass", "fail", "inconclusive", "unbounded", "not compared", "waived"]


def verdict(kind: Kind) -> Verdict:
    """Return a verdict: of an absolute bound, or of one on a change that had nothing to be held against."""
    none = judge(measure(), None, Policy())
    if kind == "unbounded":
        return none
    if kind == "not compared":
        return replace(none, status="inconclusive", outcome="warn", kind="max_increase", limit=0.1)
    if kind == "waived":
        rule = Rule(0, 5, "t.toml", {"metric": ("ece",)})
        waiver = Waiver(rule, "a ticket", "vision team", date(2026, 12, 31))
        missed = replace(none, status="fail", outcome="fail", kind="max", limit=0.1, missed_by=0.05)
        return missed.under(waiver)
    return replace(none, status=kind, kind="max", limit=0.1, missed_by=0.0)


def run(*kinds: Kind, **more: Any) -> Run:
    records = tuple(
        Record(measure(perturbation=f"p{number}"), verdict(kind), "t")
        for number, kind in enumerate(kinds)
    )
    policy = Policy(inconclusive_share=0.25, require_bound=True)
    return Run(RunConfig(("m",)), records, {}, **{"unjudged": Unjudged(policy=policy), **more})


@pytest.mark.parametrize(
    ("kinds", "judged", "undecided", "too_many"),
    [
        ([], 0, 0, False),
        (["unbounded"], 0, 0, False),
        (["not compared"], 0, 0, False),
        (["pass", "fail", "waived", "unbounded"], 3, 0, False),
        (["inconclusive", "pass", "pass", "pass"], 4, 1, False),
        (["inconclusive", "pass", "pass", "unbounded"], 3, 1, True),
        # What nothing could be held against is told apart, and counts on neither side.
        (["inconclusive", "pass", "pass", "pass", "not compared", "not compared"], 4, 1, False),
        (["inconclusive", "pass", "pass", "not compared"], 3, 1, True),
        (["inconclusive"], 1, 1, True),
    ],
)
def test_how_many_figures_were_judged_and_how_many_are_undecided(
    kinds: list[Kind], judged: int, undecided: int, too_many: bool
) -> None:
    found = run(*kinds)
    assert (found.judged, found.undecided) == (judged, undecided)
    assert found.too_many_undecided is too_many
    not_compared = [
        one for one, kind in zip(found.records, kinds, strict=True) if kind == "not compared"
    ]
    assert list(found.not_compared) == not_compared
    nothing = judged == 0 and not not_compared
    assert (found.gates_nothing, found.lacks_a_bound) == (nothing, nothing)
    assert not run(*kinds, unjudged=Unjudged(policy=Policy())).lacks_a_bound
    # A recording is no judgement: nothing of it is undecided, whatever it leaves open.
    recording = run(*kinds, recording=True)
    assert recording.not_compared == ()
    assert not recording.too_many_undecided
    assert not recording.gates_nothing
    assert not recording.lacks_a_bound


def test_figures_under_a_waiver_are_listed_and_say_by_whom() -> None:
    found = run("pass", "waived", "fail", "waived")
    assert found.waived == (found.records[1], found.records[3])
    assert found.records[1].one_line() == (
        "0.15 [0.13, 0.17] n=1000: waived (max 0.1), waived until 2026-12-31 by vision team: a ticket "
        "(t.toml:5)"
    )


def test_without_names_no_sample_can_be_told() -> None:
    made = figures(answers())
    shown = Evidence((("worst", "cat/3"),), {}, "see", "p.png")
    records = []
    for figure in made:
        one = Measurement("mine", "m", figure)
        records.append(Record(one, judge(one, None, Policy()), "t", evidence=shown))
    left_out = [
        Skipped(name, 100, ((f"{name}/1", "broken"), (f"{name}/2", "gone"))) for name in "ab"
    ]
    before = Run(RunConfig(("m",)), tuple(records), {}, skipped=tuple(left_out))
    after = before.unnamed()
    assert (before.named, after.named) == (True, False)
    assert [one.key for one in after.records] == [one.key for one in before.records]
    assert [one.evidence for one in after.records] == [None] * len(records)
    for record in after.records:
        outcomes = record.figure.outcomes
        assert outcomes is not None
        assert outcomes.keys is not None
        assert not {*KEYS.ids, *KEYS.units} & {*outcomes.keys.ids, *outcomes.keys.units}
    assert [(one.data, one.total, len(one.samples)) for one in after.skipped] == [
        *(("a", 100, 2), ("b", 100, 2)),
    ]
    told = [text for one in after.skipped for sample in one.samples for text in sample]
    assert not [text for text in told if "/" in text or text in ("broken", "gone")]


def test_a_model_is_told_with_every_file_of_its_weights() -> None:
    summary = ModelSummary(
        *("m", "ViT", "own", "ab12"),
        *(("a note", "another"), {"k": "v", "l": "w"}, "cpu", "fp32"),
        weights={"a.safetensors": "aa", "b.safetensors": "bb"},
    )
    told = json.loads(json.dumps(summary.as_dict()))
    assert ModelSummary.from_dict(told) == summary
    del told["weights"], told["images"]["probed"]  # as earlier versions wrote it
    before = ModelSummary.from_dict(told)
    assert (dict(before.weights), before.probed) == ({}, 0)
