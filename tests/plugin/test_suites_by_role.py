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


@pytest.mark.long
def test_on_the_embedded_benchmark(run: Sessions) -> None:
    chosen = "not factors or factor-pose or factor-darker"
    result = run(*FILES, "-k", chosen, "--clip-report=report.json", "--clip-limit=268", "-v")
    result.assert_outcomes(passed=24, deselected=11)
    figures = [row["figure"] for row in report()["measurements"]]
    found = {
        (f["condition"]["dataset"], f["metric"], f["condition"].get("label", "")): f
        for f in figures
    }
    for key in (
        ("clipart", "shift_drop", ""),
        ("clipart", "effective_robustness", ""),
        ("factor-pose", "error_ratio", ""),
        ("factor-darker", "factor_accuracy", ""),
        ("clean:style", "group_accuracy_gap", ""),
        ("clean:category", "worst_group_accuracy", ""),
        ("clean:style", "worst_group_ece", ""),
        ("near_ood:clean:style", "worst_group_auroc_mcm", ""),
        ("far_ood:clean:category", "group_fpr95_gap_mcm", ""),
        ("cue_conflict:style", "group_shape_bias_gap", ""),
        ("captioned:style", "worst_group_text_to_image_recall_at_1", ""),
        ("captioned", "text_to_image_recall_at_5", ""),
        ("captioned", "caption_drop", "caption_typos"),
        ("compositional", "caption_drop", "caption_paraphrase"),
        ("compositional:negation", "caption_choice_accuracy", ""),
        ("compositional", "matching_group_score", ""),
        ("clean", "prompt_worst_accuracy", ""),
        ("clean", "accuracy_drop", "class_name_typos"),
        ("written", "attack_success", ""),
    ):
        assert key in found
        assert found[key]["n"] > 0


SAFETY = [f"{SUITES}/test_{name}.py" for name in ("ood", "calibration", "selective", "unlabelled")]


@pytest.mark.long
def test_safety_and_label_free_suites(run: Sessions) -> None:
    chosen = "not corrupted and not under_corruption and not perturbed or iso_noise"
    result = run(
        *SAFETY,
        "-k",
        chosen,
        "--clip-report=report.json",
        "--clip-limit=268",
    )
    assert "failed" not in result.parseoutcomes()
    found = {
        (f["condition"]["dataset"], f["metric"], f["condition"].get("label", "")): f
        for f in (row["figure"] for row in report()["measurements"])
    }
    for key in (
        ("near_ood", "auroc_neglabel", ""),
        ("far_ood", "auroc_gl_mcm", ""),
        ("far_ood", "auroc_knn", ""),
        ("far_ood", "auroc_mcm", "full_spectrum"),
        ("clean", "few_sample_cost", ""),
        ("clean:even_classes", "label_set_cost", ""),
        ("clean", "aurc", ""),
        ("clipart", "excess_aurc", ""),
        ("clean", "abstention", ""),
        ("clipart", "conformal_coverage_aps", ""),
        ("clean", "neighbour_overlap", ""),
    ):
        assert key in found
        assert found[key]["n"] > 0
    # The bank shares no drawing with what is judged, so half of it is left: one picture of a class.
    result.stdout.fnmatch_lines(
        ["*not run: *Mahalanobis: the ID bank has one sample of each of 134*"]
    )
    assert found["far_ood", "auroc_knn", ""]["details"]["id"] == 134
    corrupted = [
        row["figure"]["condition"]["steps"][0]["perturbation"]
        for row in report()["measurements"]
        if row["key"].startswith("ood/auroc_mcm") and "steps" in row["figure"]["condition"]
    ]
    assert set(corrupted) == {"iso_noise"}


@pytest.mark.parametrize("perturbation", ["full_spectrum", "iso_noise"])
def test_bounds_may_name_how_detection_was_made_harder(run: Sessions, perturbation: str) -> None:
    bound = (
        'schema = 1\n[[threshold]]\nsuite = "ood"\nmetric = "auroc_mcm"\ndataset = "far_ood"\n'
        f'perturbation = "{perturbation}"\nmin = 0.999\n'
    )
    chosen = "far_ood_full_spectrum or far_ood_corrupted and iso_noise"
    result = run(SAFETY[0], "-k", chosen, thresholds=bound)
    assert result.parseoutcomes()["failed"] == 1


def test_a_baseline_model_is_needed_to_disagree_with(run: Sessions) -> None:
    options = (SAFETY[3], "-k", "baseline", "--clip-report=report.json", "-rs")
    result = run(*options, "--clip-model=twin=reference", "--clip-against=parent=reference")
    result.assert_outcomes(passed=1, skipped=1)
    found = {e["figure"]["metric"]: e["figure"]["value"] for e in report()["measurements"]}
    assert found["baseline_flip_rate"] == found["baseline_confidence_shift"] == 0.0
    assert found["baseline_neighbour_overlap"] == 1.0
    result = run(*options)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*needs a baseline model*--clip-against MODEL*"])


def test_a_folder_of_pictures_has_no_label_set(run: Sessions, tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", each=2)
    result = run(SAFETY[3], "-k", "iso_noise", f"--clip-data=pictures:{tmp_path / 'photos'}")
    text = f"{result.stdout.str()}{result.stderr.str()}"
    assert "needs clean (labelled pictures as the model is meant to see them)" in text
    assert "Traceback" not in text


def test_a_role_without_data_says_what_it_needs(run: Sessions, tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", each=2)
    result = run(*FILES, f"--clip-data={photos}", "-rs")
    text = result.stdout.str()
    for role in ("factors", "shift", "groups", "retrieval", "compositional", "typographic"):
        assert f"needs {role} (" in text
    assert "leave --clip-data out to run it on the embedded benchmark" in text


@pytest.mark.parametrize(
    ("dataset", "perturbation"),
    [
        ("compositional:negation", "clean"),
        ("captioned", "caption_typos"),
        ("clean", "class_name_typos"),
    ],
)
def test_bounds_may_name_what_they_measure(run: Sessions, dataset: str, perturbation: str) -> None:
    name, metric = {
        "clean": ("compositional", "caption_choice_accuracy"),
        "caption_typos": ("retrieval", "caption_drop"),
        "class_name_typos": ("prompts", "accuracy_drop"),
    }[perturbation]
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
    # The bound names one layer's figure: the other layer's test has nothing to break.
    result.assert_outcomes(passed=1, failed=1, skipped=1)
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
    layers = ("two_view", "two_view:block-2")
    bins = ("0-10", "10-20", "20-30", "30-45")
    assert datasets == {*layers, *(f"{layer}:{bin_}deg" for layer in layers for bin_ in bins)}
    assert all(row["figure"]["n"] > 0 for row in rows)


MIXED = (
    'schema = 1\n[[threshold]]\nsuite = "typographic"\nmetric = "accuracy"\ndataset = "clean"\n'
    'perturbation = "mixed_typographic"\nmin = 0.99\nbecause = "a test"\n'
)


def test_mixed_headlines_are_left_out_of_quick_and_their_bounds_told(run: Sessions) -> None:
    result = run(f"{SUITES}/test_typographic.py", thresholds=MIXED)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["note: 1 bound is for other profiles"])
    assert "mixed_typographic" not in result.stdout.str().replace("thresholds.toml", "")


def test_quick_has_a_mixed_headline_that_is_asked_for(run: Sessions) -> None:
    result = run(f"{SUITES}/test_typographic.py", "-k", "mixed", thresholds=MIXED)
    result.assert_outcomes(failed=1, deselected=2)
    named = run(f"{SUITES}/test_typographic.py::test_mixed", thresholds=MIXED)
    named.assert_outcomes(failed=1)


def test_a_mixed_headline_is_judged_in_the_standard_profile(run: Sessions) -> None:
    result = run(
        *(f"{SUITES}/test_typographic.py", "-k", "mixed", "--clip-profile=standard"),
        "--clip-report=report.json",
        thresholds=MIXED,
    )
    result.assert_outcomes(failed=1, deselected=2)
    (row,) = (row for row in report()["measurements"] if row["metric"] == "accuracy")
    assert row["key"] == "typographic/accuracy/clean/mixed_typographic/reference"
    over = row["figure"]["condition"]["over"]
    assert [step["severity"] for one in over for step in one["steps"]] == [1, 3, 5]
