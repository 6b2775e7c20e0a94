"""Bounds that a run did not judge: which of them fail it, and what is told."""

from __future__ import annotations

from typing import Any

import pytest
from gating_helpers import FILE, HEAD, measure

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.thresholds import ThresholdFile
from pytest_cliprobust.gating.unjudged import Chosen, Unjudged, fails, find_unjudged, lines

RULES = (
    HEAD
    + """
[[threshold]]
metric = "ece"
max = 0.5
bounds = [
    { suite = "calibration" },
    { suite = "ood", dataset = "near_ood" },
    { suite = ["ood", "accuracy"], model = "other" },
    { suite = ["mine", "yours"] },
    { suite = ["mine", "yours"], dataset = "clean" },
    { suite = "accuracy", model = "ref*" },
]
""".replace("max = 0.5\n", "").replace(" },", ", max = 0.5 },")
)


def file() -> ThresholdFile:
    return parse_thresholds(RULES, "t.toml")


def found(thresholds: ThresholdFile | None = None, **changes: Any) -> Unjudged:
    plain: dict[str, Any] = {
        "used": (),
        "suites_run": ["calibration", "ood", "accuracy"],
        "models": ["reference"],
        "own_datasets": ["clean", "near_ood"],
    }
    return find_unjudged(thresholds or file(), **{**plain, **changes})


def skipped(*suites: str) -> Chosen:
    """Return what is told of suites of which a test was skipped."""
    return Chosen({suite: [f"test_{suite}.py::test[reference]"] for suite in suites})


def where(rules: list[Any]) -> list[int]:
    return [rule.line for rule in rules]


def test_each_bound_is_counted_once_under_the_first_reason_that_holds() -> None:
    result = found()
    assert where(result.unused) == [6, 7, 11]
    assert (result.other_models, result.other_data) == (1, 0)
    assert result.other_suites == {"mine or yours": 2}
    result = found(suites_broken=["ood", "calibration"], chosen=skipped("calibration", "accuracy"))
    assert where(result.broken) == [6, 7]
    assert where(result.skipped) == [11]
    assert result.unused == []
    # Data that a user's own replaced is no mistake in the file, whatever came of the suite.
    result = found(replaced_data=True, datasets=["clean"], suites_broken=["ood", "calibration"])
    assert (result.other_data, where(result.broken)) == (1, [6])
    assert found(datasets=["clean"]).other_data == 0
    assert found(models=["other", "x"]).other_models == 1
    assert found(suites_run=[]).other_suites == {
        "calibration": 1,
        "ood": 1,
        "mine or yours": 2,
        "accuracy": 1,
    }


def test_what_any_process_used_is_judged() -> None:
    thresholds = file()
    used = thresholds.rules[0].id
    thresholds.lookup(measure(suite="accuracy"))
    assert where(found(thresholds, used=[used, used]).unused) == [7]
    with pytest.raises(ClipRobustError, match="it changed during the run"):
        found(used=["metric=gone"])


def test_bounds_of_skipped_tests_fail_the_run_if_the_policy_says_so() -> None:
    left = found(chosen=skipped("accuracy", "calibration", "ood"))
    assert fails(left, Policy())
    assert not fails(left, Policy(skipped="warn"))
    assert not fails(found(suites_broken=["accuracy", "calibration", "ood"]), Policy())


def test_bounds_of_a_run_that_was_cut_short_are_neither_unused_nor_green() -> None:
    tests = {"ood": ["test_ood.py::test[reference-near_ood]"], "accuracy": ["test_accuracy.py"]}
    result = found(chosen=Chosen(cut=tests))
    assert (where(result.cut), where(result.unused)) == ([7, 11], [6])
    assert fails(result, Policy(unused="warn", skipped="warn"))
    told = (
        "t.toml:7: bound max 0.5 [suite=ood metric=ece dataset=near_ood] was not judged: a test of its "
        "suite did not come to its end"
    )
    assert ("error", told) in lines(result)
    assert ("error", told) in lines(result, 2)
    short = lines(result, 1)
    assert (
        "error",
        "2 bounds were not judged: a test of its suite did not come to its end",
    ) in short
    assert ("error", told) not in short
    # What was chosen of a suite tells which bounds waited for it.
    chosen = {"deselected": {"ood": ["test_ood.py::test[reference-far_ood]"]}, "cut": tests}
    assert where(found(chosen=Chosen(**chosen)).cut) == [7, 11]
    other = {**chosen, "cut": {"ood": ["test_ood.py::test[reference-far_ood]"]}}
    other["deselected"] = {"ood": ["test_ood.py::test[reference-near_ood]"]}
    assert where(found(chosen=Chosen(**other)).cut) == []


def test_a_published_data_set_that_was_not_given_is_other_data() -> None:
    bound = '[[threshold]]\nsuite = "ood"\nmetric = "ece"\ndataset = "imagenet-r:x"\nmax = 0.5\n'
    for name in ("imagenet-r:x", "imagenet-r"):
        rules = parse_thresholds(HEAD + bound.replace("imagenet-r:x", name), "t.toml")
        assert found(rules, published=["imagenet-r"]).other_data == 1
        given = found(rules, published=["imagenet-r"], datasets=["imagenet-r"])
        assert given.other_data == (0 if name == "imagenet-r" else 1)


def test_what_is_told() -> None:
    told = lines(found(suites_broken=["ood"], chosen=skipped("calibration")))
    assert told == [
        (
            "error",
            "t.toml:6: bound max 0.5 [suite=calibration metric=ece] was not measured: skipped",
        ),
        (
            "error",
            "t.toml:7: bound max 0.5 [suite=ood metric=ece dataset=near_ood] was not measured: a "
            "test broke off",
        ),
        (
            "error",
            "t.toml:11: bound max 0.5 [suite=accuracy metric=ece model=ref*] was not used by any "
            "test: its suite measured nothing",
        ),
        ("note", "2 bounds are for suites that were not run (mine or yours)"),
        ("note", "1 bound is for other models"),
        ("error", "1 of the bounds judged nothing: the run fails"),
    ]
    assert ("note", "1 bound is for data that was not part of this run") in lines(
        found(replaced_data=True, datasets=["clean"])
    )
    assert lines(found(parse_thresholds(HEAD))) == []
    assert len(lines(found(parse_thresholds(FILE)))) == 4


LISTS = (
    HEAD
    + """
[[threshold]]
metric = "ece"
suite = "calibration"
bounds = [
    { dataset = ["clean", "clean:notto"], max = 0.5 },
    { dataset = "fogged", perturbation = ["fog_3d", "snow"], severity = [1, 3], max = 0.5 },
]
"""
)


def test_each_entry_of_a_list_must_meet_a_figure() -> None:
    thresholds = parse_thresholds(LISTS, "t.toml")
    clean = measure()
    foggy = measure(dataset="fogged", perturbation="fog_3d", severity=3)
    for one in (clean, foggy):
        assert thresholds.lookup(one) is not None
    result = found(thresholds, measured=[clean, foggy], suites_run=["calibration"])
    named = {
        rule.id.replace("suite=calibration ", "").replace("metric=ece ", "")
        for rule in result.unused
    }
    assert named == {
        "dataset=clean:notto",
        "dataset=fogged perturbation=snow severity=1|3",
        "dataset=fogged perturbation=fog_3d|snow severity=1",
    }
    assert fails(result, Policy())
    snowy = [
        measure(dataset="fogged", perturbation=name, severity=severity)
        for name in ("fog_3d", "snow")
        for severity in (1, 3)
    ]
    noted = measure(dataset="clean:notto")
    everything = [clean, noted, *snowy]
    assert found(thresholds, measured=everything, suites_run=["calibration"]).unused == []
