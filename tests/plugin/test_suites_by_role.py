"""The suites that ask for roles, run as a user runs them: what they measure, and what they say is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import SUITES, Sessions, report, write_pictures

NAMES = ("shift", "groups", "retrieval", "compositional", "prompts", "factors")
FILES = [
    *(str(SUITES / f"test_{n}.py") for n in NAMES),
    f"{SUITES}/test_typographic.py::test_written",
]


def test_on_the_embedded_benchmark(run: Sessions) -> None:
    chosen = "not factors or factor-pose or factor-darker"
    result = run(*FILES, "-k", chosen, "--clip-report=report.json", "--clip-limit=268", "-v")
    result.assert_outcomes(passed=15, skipped=1, deselected=11)
    result.stdout.fnmatch_lines(["*not run: 1 test of shift: no reference line for clipart*"])
    figures = [row["figure"] for row in report()["measurements"]]
    found = {
        (f["condition"]["dataset"], f["metric"], f["condition"].get("label", "")): f
        for f in figures
    }
    for key in (
        ("clipart", "shift_drop", ""),
        ("factor-pose", "error_ratio", ""),
        ("factor-darker", "factor_accuracy", ""),
        ("clean:style", "group_accuracy_gap", ""),
        ("clean:category", "worst_group_accuracy", ""),
        ("clean:style", "worst_group_ece", ""),
        ("captioned", "text_to_image_recall_at_5", ""),
        ("captioned", "caption_drop", "caption_typos"),
        ("compositional", "caption_drop", "caption_paraphrase"),
        ("compositional:negation", "caption_choice_accuracy", ""),
        ("compositional", "matching_group_score", ""),
        ("clean", "prompt_worst_accuracy", ""),
        ("written", "attack_success", ""),
    ):
        assert key in found
        assert found[key]["n"] > 0


def test_a_role_without_data_says_what_it_needs(run: Sessions, tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", each=2)
    result = run(*FILES, f"--clip-data={photos}", "-rs")
    text = result.stdout.str()
    for role in ("factors", "shift", "groups", "retrieval", "compositional", "typographic"):
        assert f"needs {role} (" in text
    assert "leave --clip-data out to run it on the embedded benchmark" in text


@pytest.mark.parametrize(
    ("dataset", "perturbation"),
    [("compositional:negation", "clean"), ("captioned", "caption_typos")],
)
def test_bounds_may_name_what_they_measure(run: Sessions, dataset: str, perturbation: str) -> None:
    name = "compositional" if ":" in dataset else "retrieval"
    metric = "caption_choice_accuracy" if ":" in dataset else "caption_drop"
    kind = 'min = 0.99\nbecause = "a test"' if ":" in dataset else "max = -0.99"
    bound = (
        f'schema = 1\n[[threshold]]\nsuite = "{name}"\nmetric = "{metric}"\ndataset = "{dataset}"\n'
        f'perturbation = "{perturbation}"\n{kind}\n'
    )
    result = run(str(SUITES / f"test_{name}.py"), thresholds=bound)
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines([f"*{metric}*{dataset}*"])


def test_correspondence(run: Sessions) -> None:
    bound = (
        'schema = 1\n[[threshold]]\nsuite = "correspondence"\nmetric = "correspondence_recall_at_10px"\n'
        'dataset = "two_view"\nmin = 0.999\nbecause = "a test"\n'
    )
    result = run(
        f"{SUITES}/test_correspondence.py", "--clip-report=report.json", "-rs", thresholds=bound
    )
    result.assert_outcomes(failed=1, skipped=1)
    text = result.stdout.str()
    assert "needs semantic_correspondence (pairs of things of one class with keypoints" in text
    assert "and the embedded benchmark has none" in text
    assert "worst     two_view-000" in text
    command = next(line for line in text.splitlines() if "cliprobust matches" in line)
    assert "--clip-data=two_view --clip-profile=quick --layer=-1 --sample=two_view-" in command
    rows = report()["measurements"]
    (missed,) = (row for row in rows if "evidence" in row)
    assert Path(missed["evidence"]["picture"]).is_file()
    datasets = {row["figure"]["condition"]["dataset"] for row in rows}
    assert datasets == {
        "two_view",
        *(f"two_view:{bin_}deg" for bin_ in ("0-10", "10-20", "20-30", "30-45")),
    }
    assert all(row["figure"]["n"] > 0 for row in rows)
