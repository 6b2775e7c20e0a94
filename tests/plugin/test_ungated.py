"""Bounds that gate nothing in a run: each fails it, or is told; never silently green."""

from __future__ import annotations

import pytest
from helpers import Sessions, report, write_pictures

from pytest_cliprobust.plugin.exits import Exit

#: Three severities and two sets; the tests of a suite can be told apart by their parameters.
SUITE = """
    import pytest
    from pytest_cliprobust.properties import accuracy

    @pytest.mark.parametrize("name", ["fog_3d", "flash"])
    def test_mine(clip, gate, name):
        for severity in (1, 3):
            gate(accuracy.accuracy_of(clip.on("clean", name, severity, limit=8)))

    def test_plain(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean", limit=8)))
"""

#: The same, with a part that does not run here.
SKIPPED = """
    import pytest

    @pytest.mark.parametrize("name", ["fog_3d", "flash"])
    def test_mine(clip, gate, name):
        pytest.skip("no depth here")

    def test_plain(clip):
        pass
"""


#: The line of the first row.
FIRST = 6


def bounds(*rows: str, policy: str = "") -> str:
    """Return a file for the suite ``mine``."""
    head = f"[policy]\n{policy}\n" if policy else ""
    listed = "".join(f"  {{ {row} }},\n" for row in rows)
    return (
        f'schema = 1\n{head}[[threshold]]\nsuite = "mine"\nbecause = "any model will do"\n'
        f"bounds = [\n{listed}]\n"
    )


ACCURACY = 'metric = "accuracy"'

#: A row that no figure meets, and what is said of it.
UNUSED = {
    f'{ACCURACY}, dataset = "clean:notto", perturbation = "clean", min = 0.8': (
        "suite mine was measured on the data sets clean."
    ),
    f'{ACCURACY}, dataset = "clean:NOTO", perturbation = "clean", min = 0.8': (
        "suite mine was measured on the data sets clean."
    ),
    f"{ACCURACY}, severity = 2, min = 0.8": "measured were severities 1, 3",
    'metric = "ece", max = 0.05': "suite mine measures accuracy.",
    f'{ACCURACY}, perturbation = "iso_noise", severity = 3, min = 0.8': (
        "suite mine measured the perturbations fog_3d, flash, clean."
    ),
    f'{ACCURACY}, dataset = "clipart", perturbation = "clean", min = 0.8': (
        "suite mine was measured on the data sets clean."
    ),
}
#: Rows that figures meet.
MET = (
    f'{ACCURACY}, dataset = "clean", perturbation = "clean", min = 0.001',
    f"{ACCURACY}, severity = [1, 3], min = 0.001",
)


def told(result: pytest.RunResult) -> list[str]:
    """Return the lines that our summary tells after its table."""
    levels = ("error: ", "warning: ", "note: ", "ERROR: ")
    return [line for line in result.outlines if line.startswith(levels)]


def test_a_bound_that_no_figure_meets_fails_the_run(run: Sessions) -> None:
    other = 'dataset = "clean", perturbation = "clean", profile = "full"'
    rows = (*MET, *UNUSED, f"{ACCURACY}, {other}, min = 0.8")
    result = run("--clip-report=report.json", suite=SUITE, thresholds=bounds(*rows))
    result.assert_outcomes(passed=3)
    assert result.ret == report()["exit_status"] == Exit.INCONCLUSIVE
    lines = told(result)
    for line, why in enumerate(UNUSED.values(), FIRST + len(MET)):
        (found,) = [text for text in lines if text.startswith(f"error: thresholds.toml:{line}: ")]
        assert f"was not used by any test: {why}" in found
    assert "note: 1 bound is for other profiles" in lines
    assert lines[-1] == f"error: {len(UNUSED)} of the bounds judged nothing: the run fails"
    # The tests that were chosen met theirs, the others are no news; one policy says it is no failure.
    chosen = run("-k", "flash", suite=SUITE, thresholds=bounds(*rows))
    assert (chosen.ret, told(chosen)) == (0, ["note: 1 bound is for other profiles"])
    warned = run(suite=SUITE, thresholds=bounds(*rows, policy='unused = "warn"'))
    assert warned.ret == pytest.ExitCode.OK
    assert told(warned)[-1].endswith("judged nothing: a warning, as the policy says")


def test_a_near_miss_of_the_users_own_data_fails_the_run(run: Sessions) -> None:
    write_pictures(run.path / "photos")
    rows = [
        f'{ACCURACY}, dataset = "imagefolder:{name}", min = 0.8'
        for name in ("fotos", "Photos", "another")
    ]
    suite = """
        from pytest_cliprobust.properties import accuracy

        def test_mine(clip, gate):
            gate(accuracy.accuracy_of(clip.on("clean")))
    """
    result = run("--clip-data=photos", suite=suite, thresholds=bounds(*rows))
    assert result.ret == Exit.INCONCLUSIVE
    lines = told(result)
    near = "on the data sets imagefolder:photos. Did you mean 'imagefolder:photos'?"
    assert [near in line for line in lines[:2]] == [True, True]
    assert lines[2] == "note: 1 bound is for data that was not part of this run"
    # That nothing was gated is said last.
    assert "THIS RUN GATES NOTHING" in lines[-1]


@pytest.mark.long
def test_what_was_selected_and_skipped_fails_a_run_of_chosen_tests(run: Sessions) -> None:
    rows = [f'{ACCURACY}, perturbation = "{name}", min = 0.01' for name in ("fog_3d", "flash")]
    both = bounds(*rows)
    result = run("-k", "fog_3d", suite=SKIPPED, thresholds=both)
    result.assert_outcomes(skipped=1, deselected=2)
    assert result.ret == Exit.INCONCLUSIVE
    first, second = told(result)
    assert first.startswith(f"error: thresholds.toml:{FIRST}: ")
    assert (
        second
        == "error: not measured, as tests were skipped: 1 of the bounds (no depth here): the run fails"
    )
    assert run.again("-k", "plain").ret == pytest.ExitCode.OK
    assert run.again("-m", "mine").ret == Exit.INCONCLUSIVE
    assert run.again("test_mine.py::test_plain").ret == pytest.ExitCode.OK
    named = run.again("test_mine.py::test_mine[reference-flash]")
    assert named.ret == Exit.INCONCLUSIVE
    assert told(named)[0].startswith(f"error: thresholds.toml:{FIRST + 1}: ")
    spread = run.again("-k", "fog_3d", "-n2", process=True)
    assert spread.ret == Exit.INCONCLUSIVE
    assert told(spread) == [first, second]


def test_weak_bounds_are_told_and_those_below_chance_refused(run: Sessions) -> None:
    broad = f"[[threshold]]\n{ACCURACY}\nmax_decrease = 0.01\nmin = 0.01\n"
    text = bounds(f'{ACCURACY}, perturbation = "clean", min = 0.08') + broad
    text = text.replace("min = 0.08 },", "min = 0.08 },  # measured 0.84 [0.82, 0.86], n = 134")
    result = run("-k", "plain", suite=SUITE, thresholds=text)
    assert result.ret == pytest.ExitCode.OK
    weak, dropped = told(result)
    assert weak.startswith(
        f"warning: thresholds.toml:{FIRST}: min 0.08 is far from the 0.84 that was measured"
    )
    assert "drops its max_decrease 0.01; write it there, too" in dropped
    slip = bounds(f"{ACCURACY}, min = 0.001").replace('because = "any model will do"\n', "")
    refused = run("-k", "plain", suite=SUITE, thresholds=slip)
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    expected = "min 0.001 of accuracy is weaker than chance (0.75%): a model that guesses passes"
    assert any(f"thresholds.toml:{FIRST - 1}: {expected}" in line for line in told(refused))
    assert "Traceback" not in refused.stdout.str()
    recorded = run.again("-k", "plain", "--clip-record")
    assert recorded.ret == pytest.ExitCode.OK


def test_escapes_in_a_reason_never_reach_the_terminal(run: Sessions) -> None:
    row = f'{ACCURACY}, min = 0.999, because = "a\\u001b[31m red\\nline \\u202e"'
    result = run("-k", "plain", suite=SUITE, thresholds=bounds(row))
    result.assert_outcomes(failed=1, deselected=2)
    text = result.stdout.str()
    assert r"because: a\x1b[31m red line \u202e" in text
    assert not {"\x1b", "\u202e"} & set(text)


def test_a_bound_that_is_missed_where_a_failure_is_expected_is_told_last(run: Sessions) -> None:
    suite = """
        import pytest
        from pytest_cliprobust.properties import accuracy

        @pytest.mark.xfail(reason="known")
        def test_mine(clip, gate):
            gate(accuracy.accuracy_of(clip.on("clean", limit=8)))
    """
    bound = bounds(f"{ACCURACY}, max = 0.1, min = 0.0999")
    result = run("--clip-report=report.json", suite=suite, thresholds=bound)
    result.assert_outcomes(xfailed=1)
    told = "EXCUSED: 1 figure on the wrong side of a bound (mine/accuracy/clean/clean/reference): *xfail*"
    result.stdout.fnmatch_lines([told])
    data = report()
    assert (result.ret, data["ending"]) == (Exit.PASSED, "passed")
    assert data["measurements"][0]["verdict"]["status"] == "fail"
    assert data["because"][-1].startswith("EXCUSED: ")


@pytest.mark.parametrize("how", ["nowhere", "below", "marked", "warn"])
def test_a_bound_for_a_suite_that_there_is_not_fails_the_run(run: Sessions, how: str) -> None:
    """However far its name is from all others: it may be a suite that was renamed, with its bounds left."""
    inner = run.path / "robust" / "night"
    inner.mkdir(parents=True)
    if how == "below":
        (inner / "test_zeppelin.py").write_text("", encoding="utf-8")
    if how == "marked":
        text = (
            'import pytest\n\n\n@pytest.mark.clip_suite("zeppelin")\ndef test_it(clip, gate): ...\n'
        )
        (inner / "test_other.py").write_text(text, encoding="utf-8")
    policy = '[policy]\nunused = "warn"\n' if how == "warn" else ""
    rules = [
        f'[[threshold]]\nsuite = "{suite}"\nmetric = "accuracy"\nmin = 0.01\n'
        for suite in ("mine", "zeppelin")
    ]
    result = run(
        "test_mine.py", suite=SUITE_OF_ONE, thresholds="\n".join(["schema = 1", policy, *rules])
    )
    result.assert_outcomes(passed=1)
    lines = told(result)
    if how in ("below", "marked"):
        assert result.ret == 0
        assert "note: 1 bound is for suites that were not run (zeppelin)" in lines
        return
    assert result.ret == (0 if how == "warn" else 6)
    (line,) = [line for line in lines if "zeppelin" in line]
    level = "warning" if how == "warn" else "error"
    assert line.startswith(f"{level}: thresholds.toml:")
    assert "no suite is called 'zeppelin': there is no test_zeppelin.py here or below." in line


SUITE_OF_ONE = """
    from pytest_cliprobust.properties import accuracy

    def test_mine(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean")))
"""
