"""The story of a release: a gate is recorded, the same model keeps it, a damaged one does not."""

from __future__ import annotations

import pytest
from helpers import Sessions, one_line, report

SUITE = """
    from pytest_cliprobust.properties import accuracy

    def test_mine(clip, gate):
        clean = clip.on("clean")
        gate(accuracy.accuracy_of(clean), accuracy.accuracy_drop(clean, clip.on("clean", "contrast", 1)))
"""
KEYS = ("mine/accuracy/clean/clean", "mine/accuracy_drop/clean/contrast@1")
SIZE = "--clip-limit=134"


@pytest.fixture
def recorded(run: Sessions) -> Sessions:
    """A folder with a gate that was recorded on the bundled model."""
    result = run("--clip-record", SIZE, suite=SUITE)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "thresholds.toml:*: max_decrease none → 0.07* (mine/accuracy/clean/clean/reference, the "
            "smallest that n = 134* decides; *",
            "note: baseline written: thresholds.baseline.safetensors, 2 figures by sample, *",
        ]
    )
    return run


def verdicts() -> dict[str, dict[str, object]]:
    return {entry["key"].rpartition("/")[0]: entry["verdict"] for entry in report()["measurements"]}


def test_the_same_model_keeps_everything(recorded: Sessions) -> None:
    reports = [f"--clip-report=report.{kind}" for kind in ("json", "md", "html")]
    result = recorded.again(SIZE, *reports, process=True)  # it draws
    assert result.ret == 0
    for kind in ("md", "html"):
        page = (recorded.path / f"report.{kind}").read_text(encoding="utf-8")
        assert "aired with thresholds.baseline.safetensors: 2 of 2 figures, on all samples" in page
    result.stdout.fnmatch_lines(
        [
            "clip baseline: thresholds.baseline.safetensors: reference against reference",
            "*note: these are the weights that were recorded",
            "note: paired with thresholds.baseline.safetensors: 2 of 2 figures, on all samples (134 of 134 "
            "where they are most); every outcome is the same",
        ]
    )
    assert report()["held_against"] == "thresholds.baseline.safetensors"
    for verdict in verdicts().values():
        assert (verdict["status"], verdict["changed"]) == ("pass", 0.0)
        assert str(verdict["compared"]).startswith("paired, n = 134")


def test_some_of_the_samples_are_compared(recorded: Sessions) -> None:
    result = recorded.again("--clip-limit=40", "--clip-report=report.json")
    assert result.ret == 0
    assert str(verdicts()[KEYS[0]]["compared"]).startswith("paired, n = 40")


def test_a_damaged_model_under_another_name_is_red(recorded: Sessions) -> None:
    """A gate of one model has no model's name in it: it is for the next one."""
    result = recorded.again(
        SIZE, "--clip-model=v2=reference", "--clip-plant=heavy_noise", "--clip-report=report.json"
    )
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "*a loss is planted in this copy of the model: heavy_noise",
            "clip baseline: thresholds.baseline.safetensors: v2 against reference",
            "mine: accuracy of v2 on clean breaks max_decrease 0.07*",
            "  change    decrease of * interval * (paired, n = 134*",
            "  why       the decrease from 0.8* is real, and beyond the margin",
            "note: churn: *% of the answers changed between right and wrong (median over conditions)",
        ]
    )


def test_one_figure_is_recorded_anew_with_a_reason(recorded: Sessions) -> None:
    before = (recorded.path / "thresholds.toml").read_text()
    result = recorded.again(
        SIZE,
        "--clip-plant=light_noise",
        "--clip-record",
        "--clip-figures=mine/accuracy/*",
        "--clip-because=fewer-dogs",
    )
    result.stdout.fnmatch_lines(
        ["note: 1 figure of thresholds.baseline.safetensors stays as it was recorded before"]
    )
    after = (recorded.path / "thresholds.toml").read_text()
    assert [line for line in before.splitlines() if "contrast" in line] == [
        line for line in after.splitlines() if "contrast" in line
    ]
    # The model that was accepted keeps its own margin, and is held to the other one still.
    again = recorded.again(SIZE, "--clip-plant=light_noise", "--clip-report=report.json")
    found = verdicts()
    assert (found[KEYS[0]]["status"], found[KEYS[0]]["changed"]) == ("pass", 0.0)
    assert found[KEYS[1]]["changed"] != 0.0
    assert again.ret in (0, 1, 6)


def test_losses_that_add_up_are_told(recorded: Sessions) -> None:
    """Each recording is within its margin of the last; the first one stays in mind."""
    recorded.again(SIZE, "--clip-plant=heavy_noise", "--clip-record")
    result = recorded.again(SIZE, "--clip-plant=heavy_noise")
    result.stdout.fnmatch_lines(
        [
            "note: mine accuracy on clean: *accuracy was 0.8* when it was first recorded, 20*: since then*"
        ]
    )


def test_a_recording_that_misses_the_bounds_of_before_says_so(recorded: Sessions) -> None:
    result = recorded.again(SIZE, "--clip-plant=heavy_noise", "--clip-record")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["note: recorded although it missed * of the bounds of before (*"])


def test_what_accepts_a_loss_needs_a_recording(recorded: Sessions) -> None:
    for option in ("--clip-figures=mine/accuracy/*", "--clip-because=fewer-dogs"):
        result = recorded.again(SIZE, option)
        assert result.ret == 4
        one_line(result, f"{option.partition('=')[0]} goes with --clip-record")


def test_globs_that_no_figure_has_are_one_line(recorded: Sessions) -> None:
    result = recorded.again(SIZE, "--clip-record", "--clip-figures=mine/ece/*")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*--clip-figures mine/ece/*: no figure of this run is called so*"])


def test_two_models_of_one_run(recorded: Sessions) -> None:
    result = recorded.again(
        SIZE,
        "--clip-model=twin=reference",
        "--clip-against=parent=reference",
        "--clip-report=report.json",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["clip baseline: parent, measured in this run"])
    statuses = {
        e["key"].rpartition("/")[2]: e["verdict"]["status"] for e in report()["measurements"]
    }
    assert statuses == {"parent": "unbounded", "twin": "pass"}


def test_two_models_are_compared_in_whatever_order_their_tests_come(recorded: Sessions) -> None:
    (recorded.path / "conftest.py").write_text(
        "def pytest_collection_modifyitems(items):\n    items.reverse()\n", encoding="utf-8"
    )
    options = (SIZE, "--clip-model=twin=reference", "--clip-against=parent=reference")
    recorded.again(*options, "--clip-report=report.json").assert_outcomes(passed=2)
    assert {e["verdict"]["status"] for e in report()["measurements"]} == {"unbounded", "pass"}
    # Where the other one is left out, that is what is said, and the command to run again measures both.
    alone = recorded.again(*options, "-k", "twin")
    alone.assert_outcomes(passed=1)
    assert alone.ret == 6
    alone.stdout.fnmatch_lines(
        [
            "NOT COMPARED: 1 bound on a change not judged: parent has no figure for "
            "mine/accuracy/clean/clean in this run: its test was left out, or gave none*"
        ]
    )


def test_a_model_is_not_compared_with_itself(recorded: Sessions) -> None:
    """All of its bounds would be judged by nothing."""
    result = recorded.again(SIZE, "--clip-against=reference")
    one_line(result, "--clip-against reference: that is the model under test itself")


#: How a run is held against nothing, what it says of that, and whether its threshold file is there anyway.
NO_BASELINE = {
    "none": (["--clip-baseline=none"], "--clip-baseline=none turned the comparison off"),
    "gone": (
        [],
        "there is no baseline: thresholds.baseline.safetensors is missing; commit it beside",
    ),
}


@pytest.mark.parametrize("policy", ["", '[policy]\ninconclusive = "fail"\n'])
@pytest.mark.parametrize("how", NO_BASELINE)
def test_without_a_baseline_margins_are_not_judged(
    recorded: Sessions, how: str, policy: str
) -> None:
    """Nothing was seen to be lost, so it is no regression; and it is never green."""
    options, told = NO_BASELINE[how]
    if how == "gone":
        (recorded.path / "thresholds.baseline.safetensors").unlink()
    path = recorded.path / "thresholds.toml"
    path.write_text(path.read_text(encoding="utf-8") + policy, encoding="utf-8")
    reports = [f"--clip-report=report.{kind}" for kind in ("json", "md", "html")]
    result = recorded.again(SIZE, *options, *reports, process=True)  # it draws
    result.assert_outcomes(passed=1)
    assert result.ret == 6
    text = result.stdout.str()
    assert f"clip baseline: none, so bounds on changes are not judged: {told}" in text
    assert "FAIL" not in text
    assert "INCONCLUSIVE" not in text  # that is for too few samples
    result.stdout.fnmatch_lines(
        [
            "not compared: a bound on a change, and nothing to hold the figure against",
            f"NOT COMPARED: 2 bounds on a change not judged: {told}*",
            "NOT GREEN: inconclusive, exit code 6",
        ]
    )
    found = report()
    assert {entry["verdict"]["status"] for entry in found["measurements"]} == {"inconclusive"}
    assert found["because"][0].startswith(f"NOT COMPARED: 2 bounds on a change not judged: {told}")
    for kind in ("md", "html"):
        page = (recorded.path / f"report.{kind}").read_text(encoding="utf-8")
        assert "not decided" in page.casefold()
        assert "NOT COMPARED: 2 bounds on a change not judged" in page


def test_a_regression_beside_what_is_not_compared_stays_one(recorded: Sessions) -> None:
    (recorded.path / "thresholds.baseline.safetensors").unlink()
    bounds = [
        f'[[threshold]]\nsuite = "mine"\nmetric = "{metric}"\n{bound}\n'
        for metric, bound in (("accuracy", "min = 0.99"), ("accuracy_drop", "max_increase = 0.1"))
    ]
    result = recorded(SIZE, thresholds="\n".join(["schema = 1", *bounds]))
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["1 fail, 1 not compared", "NOT COMPARED: 1 bound on a change not judged*"]
    )


def test_a_damaged_baseline_is_one_line(recorded: Sessions) -> None:
    path = recorded.path / "thresholds.baseline.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    one_line(recorded.again(SIZE), "thresholds.baseline.safetensors", "record it anew")
