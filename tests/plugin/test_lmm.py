"""The suite `lmm` in whole sessions: the bundled model, one of the user's, and none."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from helpers import SUITES, Sessions, report
from multimodal_helpers import write

from pytest_cliprobust.targets.reference import data_folder

# In processes of their own: transformers imports its models when they are asked for, and pytester forgets
# what a session is the first to import.
SUITE = f"{SUITES}/test_lmm.py"

METRICS = {
    *("lmm_accuracy", "lmm_generated_accuracy", "lmm_by_position", "lmm_order_gap"),
    *("lmm_named_both", "lmm_named_neither"),
    *("clip_choice_accuracy", "lmm_gain", "lmm_gained", "lmm_lost"),
}


def figures(name: str) -> dict[str, dict[str, Any]]:
    """Return the figures of a report by metric."""
    return {entry["metric"]: entry["figure"] for entry in report(name)["measurements"]}


@pytest.mark.long
def test_the_bundled_model_is_asked_and_its_answers_are_kept(run: Sessions) -> None:
    result = run(SUITE, "--clip-report=report.json", "-rs", process=True)
    result.assert_outcomes(passed=1)
    records = figures("report.json")
    assert set(records) == METRICS
    count = records["lmm_accuracy"]["n"]
    assert 0 < count < 40
    assert all(record["n"] == count for record in records.values())
    details = records["lmm_accuracy"]["details"]
    assert details["vision_tower"] == "timm ese_vovnet19b_slim"
    pairs = records["lmm_gain"]["details"]["pairs"]
    assert sum(pair["n"] for pair in pairs) == count
    again = run.again(SUITE, "--clip-report=again.json", process=True)
    again.assert_outcomes(passed=1)
    after = figures("again.json")
    assert {name: r["value"] for name, r in after.items()} == {
        name: r["value"] for name, r in records.items()
    }


def test_another_clip_needs_a_model_and_takes_one(run: Sessions) -> None:
    shutil.copytree(data_folder() / "reference", run.path / "mine")
    result = run(SUITE, "--clip-model=./mine", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*needs --clip-lmm MODEL*"])
    write("llava", run.path / "llava")
    result = run.again(
        SUITE, "--clip-model=./mine", "--clip-lmm=llava", "--clip-report=report.json", process=True
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["clip lmm: llava"])
    records = figures("report.json")
    assert records["lmm_accuracy"]["details"]["model_type"] == "llava"
    # Random weights say nothing that was asked for.
    assert records["lmm_named_neither"]["value"] > 0.5


def test_a_model_that_is_not_there_is_one_line(run: Sessions) -> None:
    result = run(SUITE, "--clip-lmm=./nowhere", "-x")
    text = result.stdout.str() + result.stderr.str()
    assert "--clip-lmm ./nowhere: there is no folder nowhere" in text
    assert "Traceback" not in text
