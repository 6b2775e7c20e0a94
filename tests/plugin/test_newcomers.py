"""What a newcomer ran into: names taken twice, tests left out, nothing judged, nothing said."""

from __future__ import annotations

import pytest
from helpers import Sessions, one_line, report, write_pictures

from pytest_cliprobust.engine.steps import steps_of
from pytest_cliprobust.errors import ClipRobustError

TWICE = """
    from pytest_cliprobust.properties import accuracy

    def test_few(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean", limit=10)))

    def test_all(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean")))
"""

ONE = """
    from pytest_cliprobust.properties import accuracy

    def test_mine(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean")))
"""


def test_two_figures_of_one_name_are_a_mistake(run: Sessions) -> None:
    line = one_line(run("--clip-report=report.json", suite=TWICE))
    assert "mine/accuracy/clean/clean/reference is the name of two figures" in line
    assert "on 10 samples" in line
    assert len(report()["measurements"]) == 1


def test_a_gate_that_judges_nothing_fails(run: Sessions) -> None:
    result = run(suite="def test_mine(clip, gate):\n    gate()\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*gate was given no figure: this test measured nothing*"])


def test_what_is_no_figure_is_a_mistake_and_no_regression(run: Sessions) -> None:
    line = one_line(run(suite="def test_mine(clip, gate):\n    gate(clip.on('clean', limit=4))\n"))
    assert "gate takes figures, as properties make them of views" in line
    assert "not <view of clean: 4 samples>" in line


def test_plain_tests_run_without_a_model_when_the_others_are_left_out(run: Sessions) -> None:
    run.pytester.makepyfile(test_mine=ONE, test_plain="def test_plain(): pass")
    for left_out in (["-k", "plain"], ["-m", "not mine"], ["--deselect", "test_mine.py"]):
        run.plain(*left_out).assert_outcomes(passed=1)
    assert "1 test evaluates a CLIP model and none is named" in one_line(run.plain())


def test_suites_of_ones_own_may_be_called_alike(run: Sessions) -> None:
    run.pytester.makepyfile(test_cam1=ONE, test_cam2=ONE)
    rules = "schema = 1\n" + "".join(
        f'[[threshold]]\nsuite = "{name}"\nmetric = "accuracy"\nmin = 0.01\n'
        for name in ("cam1", "cam2", "views")
    )
    run.pytester.makepyfile(**{"views/test_views": ""})
    result = run("test_cam1.py", thresholds=rules)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["note: 2 bounds are for suites that were not run (cam2, views)"])


def test_a_role_without_data_is_told_in_the_terminal_and_the_report(run: Sessions) -> None:
    suite = "def test_mine(clip, gate, far_ood):\n    raise AssertionError\n"
    folder = write_pictures(run.path / "photos")
    result = run(f"--clip-data={folder}", "--clip-report=report.md", suite=suite)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["not run: 1 test of mine: needs far_ood (*"])
    assert "needs far_ood" in (run.path / "report.md").read_text(encoding="utf-8")


def test_a_step_that_is_none_is_one_line() -> None:
    with pytest.raises(ClipRobustError, match="a severity is a whole number, not '3'"):
        steps_of("fog_3d", "3")  # type: ignore[arg-type]
    with pytest.raises(ClipRobustError, match="is one step"):
        steps_of(("fog_3d", 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--clip-data=foo=embedded", ("'foo' is no role", "so write --clip-data embedded")),
        ("--clip-data=clena=/nowhere", ("'clena' is nearly the role 'clean'",)),
        (
            "--clip-baseline=nosuch",
            ("--clip-baseline nosuch: no such file, and no run of the history", "tag:NAME"),
        ),
        ("--clip-baseline=nosuch.json", ("nosuch.json: there is no such file, so no baseline",)),
    ],
)
def test_slips_in_options_are_one_line(run: Sessions, option: str, words: tuple[str, ...]) -> None:
    one_line(run(option, suite=ONE), *words)


def test_a_folder_of_several_checkpoints_names_them(run: Sessions) -> None:
    folder = run.path / "two"
    folder.mkdir()
    for name in ("epoch_1.pt", "epoch_2.pt", "notes.txt", "adapter_model.bin"):
        (folder / name).write_bytes(b"")
    one_line(
        run("--clip-model=./two", suite=ONE),
        "holds 2 checkpoints (epoch_1.pt, epoch_2.pt) and no configuration",
        "--clip-model=two/epoch_1.pt",
    )


def test_a_misspelt_suite_in_m_is_told(run: Sessions) -> None:
    hint = "-m acuracy: no suite is called so, and no marker is. Did you mean 'accuracy'?"
    result = run("-m", "acuracy", suite=ONE)
    assert result.ret == 5
    result.stdout.fnmatch_lines([f"warning: {hint}"])
    # Where tests are left, too: those that were meant are missing silently otherwise.
    result = run("-m", "mine or acuracy")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"*{hint}"])
    for fine in ("mine", "mine and not slow", "not accuracy", "mine or parametrize", "mine or xyz"):
        assert "is called so, and no marker" not in run("-m", fine).stdout.str()
