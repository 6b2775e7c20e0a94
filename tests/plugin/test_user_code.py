"""Errors in a user's own perturbation, metric or layout: the line of theirs, and none of ours."""

from __future__ import annotations

import pytest
from helpers import Sessions, one_line

from pytest_cliprobust.properties import accuracy

SUITE = """
    import mine
    from pytest_cliprobust.properties import accuracy

    def test_mine(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean", {perturbation})))

    def test_plain():
        pass
"""
CLEAN = SUITE.format(perturbation="")

#: What a file of the user's registers, each with a mistake in line 5.
BROKEN = {
    "perturbation": """
from pytest_cliprobust import register_perturbation

@register_perturbation(severities=({"amount": 0.5},))
def sepia(images, *, amount=nothing):
    return images
""",
    "metric": """
from pytest_cliprobust import register_metric

WORDS = {"meaning": "mine", "higher_is_better": True}
@register_metric("my_metric", low=nothing, **WORDS)
def my_metric(view): ...
""",
    "layout": """
from pytest_cliprobust import register_layout

@register_layout("flat")
class Flat(nothing):
    pass
""",
}
SEPIA = """
from pytest_cliprobust import register_perturbation

@register_perturbation(severities=({"amount": 0.5},))
def sepia(images, *, amount):
    return tinted(images) * amount

def tinted(images):
    return images * nothing
"""
#: Nothing of these may be in what a user reads.
OURS = ("encoding.py", "registry.py", "evaluation.py", "blame.py", "contextlib.py", "_callers.py")


def nothing_of_ours(result: pytest.RunResult) -> None:
    text = f"{result.stdout.str()}{result.stderr.str()}"
    assert [name for name in OURS if name in text] == []


# --- Files that cannot be imported -----------------------------------------------------------------


@pytest.mark.parametrize("importer", ["conftest.py", "test_mine.py"])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_one_line(run: Sessions, kind: str, importer: str) -> None:
    (run.path / "mine.py").write_text(BROKEN[kind], encoding="utf-8")
    if importer == "conftest.py":
        run.pytester.makeconftest("import mine")
    result = run(suite=CLEAN)
    line = one_line(result)
    assert line == "ERROR: mine.py:5: NameError: name 'nothing' is not defined"
    assert "ERRORS" not in result.stdout.str()
    nothing_of_ours(result)


def test_what_a_decorator_refuses_has_its_line(run: Sessions) -> None:
    text = SEPIA.replace('"amount": 0.5', '"amuont": 0.5')
    (run.path / "mine.py").write_text(text, encoding="utf-8")
    words = "mine.py:4: perturbation 'sepia': its severities name 'amuont'"
    result = run(suite=CLEAN)
    one_line(result, words)
    nothing_of_ours(result)
    # A conftest.py is read before anyone asks for a model.
    run.pytester.makeconftest("import mine")
    one_line(run.plain(), words)


def test_a_conftest_in_a_folder_of_its_own(run: Sessions) -> None:
    run.pytester.makepyfile(
        **{
            "inner/conftest": "import pytest_cliprobust\n\nnothing()",
            "inner/test_inner": "def test_inner(): pass",
        }
    )
    result = run(suite=CLEAN.replace("    import mine\n", ""))
    one_line(result, "inner/conftest.py:3: NameError")
    nothing_of_ours(result)


@pytest.mark.long
def test_under_two_workers_it_is_told_once(run: Sessions) -> None:
    (run.path / "mine.py").write_text(BROKEN["perturbation"], encoding="utf-8")
    result = run("-n2", suite=CLEAN, process=True)
    assert one_line(result) == "ERROR: mine.py:5: NameError: name 'nothing' is not defined"
    run.pytester.makeini("[pytest]\nclip_model = reference")
    one_line(run.plain("-n2", process=True), "mine.py:5: NameError")


def test_the_other_tests_run_where_they_shall(run: Sessions) -> None:
    (run.path / "mine.py").write_text(BROKEN["perturbation"], encoding="utf-8")
    run.pytester.makepyfile(test_other="def test_other(): pass")
    result = run("--continue-on-collection-errors", suite=CLEAN)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["mine.py:5: NameError: name 'nothing' is not defined"])
    nothing_of_ours(result)


def test_what_has_nothing_to_do_with_us_stays_as_pytest_tells_it(run: Sessions) -> None:
    run.pytester.makeini("[pytest]\nclip_model = reference")
    run.pytester.makepyfile(test_plain="nothing()")
    result = run.plain()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*ERROR collecting test_plain.py*", "E   NameError: *"])
    run.pytester.makeconftest("nothing()")
    result = run.plain()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ImportError while loading conftest*", "E   NameError: *"])


def test_help_is_there_with_a_broken_conftest(run: Sessions) -> None:
    run.pytester.makeconftest("import pytest_cliprobust\n\nnothing()")
    result = run.plain("--help")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*--clip-model=*MODEL*"])
    # A per cent sign is one, and not a place for what argparse knows.
    assert "counted and listed (1% at most)" in " ".join(result.stdout.str().split())
    result.stdout.no_fnmatch_line("*option_strings*")


# --- Code that fails while a test runs -------------------------------------------------------------


def test_a_perturbation_that_fails_is_a_failure_of_the_test(run: Sessions) -> None:
    (run.path / "mine.py").write_text(SEPIA, encoding="utf-8")
    result = run(suite=SUITE.format(perturbation='"sepia", 1'))
    result.assert_outcomes(failed=1, passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    message = (
        "perturbation 'sepia' at severity 1 fails (NameError: name 'nothing' is not defined, at "
        "mine.py:9)"
    )
    lines = result.outlines
    start = lines.index(message)
    assert lines[start + 2 : start + 8] == [
        "test_mine.py:5: in test_mine",
        '    gate(accuracy.accuracy_of(clip.on("clean", "sepia", 1)))',
        "mine.py:6: in sepia",
        "    return tinted(images) * amount",
        "mine.py:9: in tinted",
        "    return images * nothing",
    ]
    result.stdout.fnmatch_lines(["FAILED test_mine.py::test_mine* - perturbation 'sepia' at *"])
    assert not [line for line in lines if line.startswith("ERROR")]
    nothing_of_ours(result)


@pytest.mark.long
def test_the_same_with_two_workers(run: Sessions) -> None:
    (run.path / "mine.py").write_text(SEPIA, encoding="utf-8")
    result = run("-n2", suite=SUITE.format(perturbation='"sepia", 1'), process=True)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["perturbation 'sepia' at severity 1 fails (NameError: *:9)"])
    nothing_of_ours(result)


LAYOUT = """
import torch
from pytest_cliprobust import Batch, register_layout

@register_layout("flat")
class Flat:
    digest, name, class_names = "flat", "flat:x", ("cat", "dog")
    ids, labels, groups = ("0", "1"), (0, 1), {}

    def __init__(self, root, *, limit=None, frame=None, size=224):
        self.size = int(root)

    def __len__(self):
        return 2

    def load(self, indices):
        pixels = torch.zeros(len(indices), 3, self.size, self.size, dtype=torch.uint8)
        return Batch(ids=self.names, images=pixels)
"""


def test_a_layout_that_fails(run: Sessions) -> None:
    (run.path / "mine.py").write_text(LAYOUT, encoding="utf-8")
    # Before any test it ends the session …
    one_line(
        run("--clip-data=flat:x", suite=CLEAN),
        "layout 'flat' on 'x' fails (ValueError: invalid literal for int() with base 10: 'x', at "
        "mine.py:11)",
    )
    one_line(
        run.again("--clip-data=flat:32"),
        "loading samples of data set 'flat:x' fails (AttributeError: 'Flat' object has no attribute "
        "'names', at mine.py:18)",
    )
    # … and in a test it is a failure.
    result = run(suite=CLEAN.replace('"clean"', '"flat:32"'))
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["loading samples of data set 'flat:x' fails (*mine.py:18)"])
    nothing_of_ours(result)


METRIC = """
from pytest_cliprobust import measure, register_metric

@register_metric("mine", higher_is_better=True, meaning="mine")
def mine(view):
    return measure("mine", view, lambda own: own.correct, statistic=share)

def share(values):
    return values.sum() / nothing
"""


def test_a_metric_that_fails_shows_the_users_own_lines(run: Sessions) -> None:
    (run.path / "mine.py").write_text(METRIC, encoding="utf-8")
    suite = """
        import mine

        def test_mine(clip, gate):
            gate(mine.mine(clip.on("clean")))
    """
    result = run(suite=suite)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["test_mine.py:4: *", "mine.py:6: *", "E *NameError: name 'nothing' is not defined"]
    )
    nothing_of_ours(result)
    assert "measure.py" not in result.stdout.str()
    whole = run.again("--full-trace")
    assert "measure.py" in whole.stdout.str()


def test_a_metric_that_fails_in_a_library_shows_the_way_there(run: Sessions) -> None:
    text = METRIC.replace("values.sum() / nothing", "__import__('json').loads('{')")
    (run.path / "mine.py").write_text(text, encoding="utf-8")
    suite = "import mine\n\ndef test_mine(clip, gate):\n    mine.mine(clip.on('clean'))\n"
    result = run(suite=suite)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["mine.py:6: *", "mine.py:9: *", "*decoder.py:*", "E *Error: *"])
    assert "measure.py" not in result.stdout.str()


def test_a_mistake_of_ours_keeps_its_way(run: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "accuracy_figure", None)
    (run.path / "mine.py").touch()
    result = run(suite=CLEAN)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["E *TypeError: *", "*accuracy.py:*: TypeError"])
