"""Published packs and pairs through the suites, as a user runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from helpers import SUITES, Sessions, report
from layout_helpers import datacomp_pack, navi_tree, scannet_tree, spair_tree


def test_a_pack_is_measured_task_by_task(run: Sessions) -> None:
    pack = datacomp_pack(run.path / "datacomp")
    options = (f"--clip-data=datacomp:{pack}", "--clip-report=report.json", "--clip-limit=1000")
    run(f"{SUITES}/test_tasks.py", *options).assert_outcomes(passed=8)
    found = {e["figure"]["condition"]["dataset"]: e["figure"] for e in report()["measurements"]}
    assert {name: figure["metric"] for name, figure in found.items()} == {
        "datacomp:imagenet1k": "accuracy",
        "datacomp:imagenetv2": "accuracy",
        "datacomp:vtab-pets": "balanced_accuracy",
        "datacomp:wilds-iwildcam": "macro_f1",
        "datacomp:wilds-fmow": "worst_group_accuracy",
        "datacomp:dollar_street": "worst_group_top5_accuracy",
        "datacomp:fairface": "worst_group_accuracy",
        "datacomp": "task_mean",
    }
    assert all(figure["n"] > 0 and figure["low"] <= figure["high"] for figure in found.values())
    assert (found["datacomp"]["details"]["count"], found["datacomp"]["details"]["of"]) == (6, 38)
    assert str(run.path) not in str(report()["measurements"])


def test_pairs_are_matched_where_they_lie(run: Sessions) -> None:
    trees: dict[str, Callable[..., Path]] = {
        "spair-71k": spair_tree,
        "scannet": scannet_tree,
        "navi": navi_tree,
    }
    given = [f"--clip-data={name}:{make(run.path / name)}" for name, make in trees.items()]
    options = ("-k", "not second", "--clip-report=report.json", "--clip-limit=8")
    result = run(f"{SUITES}/test_correspondence.py", "--clip-data=embedded", *given, *options)
    result.assert_outcomes(passed=3, deselected=2)
    figures = [entry["figure"] for entry in report()["measurements"]]
    found = {(f["condition"]["dataset"], f["metric"]) for f in figures}
    assert {
        ("spair-71k", "pck_at_0.1"),
        ("scannet", "correspondence_recall_at_10px"),
        ("scannet:0-15deg", "correspondence_recall_at_10px"),
        ("navi", "correspondence_recall_at_2cm"),
        ("navi", "correspondence_recall_at_25px"),
    } <= found
    assert any(name.startswith("spair-71k:viewpoint_") for name, _ in found)
