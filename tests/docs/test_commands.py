"""Every command of the documentation is one that there is, and is run in tests or says why not.

The pages index.md and history.md are followed line by line (test_tutorial.py, test_history.py). The commands
of all others are read here by the parsers that would read them, and those that need nothing are run.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib

import pytest
from helpers import DOCS, ROOT, SUITES, Sessions

from pytest_cliprobust import cli

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROGRAMS = ("pytest", "cliprobust", "python", "pip", "git", "pre-commit", ".ci/run", ".ci/floors")

#: Why a command is not run by the tests: the first that a part of it meets.
NOT_RUN = {
    r"ViT-|llava|fleet-base": "needs the model hub, or runs that were kept",
    r"gpu_check": "needs an accelerator",
    r"/data/|photos|fashion-mnist|\./v\d|\./run|my_|MODEL|DATA": "data or a model of a person's own",
    r"training\.|embedded\.build|benchmarks/": "takes minutes or hours",
    r"^(pip|git|pre-commit|\.ci/|pytest -n|pytest$)": "sets up this project, or is what CI does",
    r"docs/site/build\.py": "CI runs it",
    r"^pytest .*(suites/|--clip-suites)": "whole suites, which CI runs and tests/plugin in parts",
    r"^cliprobust ": "read below by its parser; tests/cli runs each command on runs made for it",
}

#: What :func:`test_the_commands_that_need_nothing` runs.
RUN = (
    "cliprobust report last last~1 --out report.html",
    "cliprobust compare last~1 last",
)


def commands(text: str) -> list[str]:
    """Return the commands in the fenced blocks of a page that is not followed."""
    found = []
    for language, block in BLOCK.findall(text):
        if language in ("", "bash"):
            lines = block.replace("\\\n", " ").splitlines()
            parts = [part.strip() for line in lines for part in line.split("&&")]
            found += [part for part in parts if part.split(" ")[0] in PROGRAMS]
    return found


def pages() -> dict[str, list[str]]:
    files = [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return {path.name: commands(path.read_text(encoding="utf-8")) for path in files}


EVERY = sorted({(page, line) for page, lines in pages().items() for line in lines})


def words_of(line: str) -> list[str]:
    return shlex.split(line, comments=True)


def test_there_are_commands_to_look_at() -> None:
    assert len(EVERY) > 40
    assert commands("```\npytest a \\\n  b  # c\n$ x\n```\n```toml\npip x\n```\n") == [
        "pytest a    b  # c"
    ]


def test_each_is_run_or_says_why_not() -> None:
    left = [
        (page, line)
        for page, line in EVERY
        if not any(re.search(reason, line) for reason in NOT_RUN)
        and " ".join(words_of(line)) not in RUN
    ]
    assert left == []
    assert set(RUN) <= {" ".join(words_of(line)) for _, line in EVERY}


@pytest.mark.parametrize(
    "line", [line for _, line in EVERY if line.startswith("cliprobust")], ids=lambda line: line[:60]
)
def test_the_command_line_is_read(line: str) -> None:
    options = cli.build_parser().parse_args(words_of(line)[1:])
    assert callable(options.run)


@pytest.mark.parametrize("line", [line for _, line in EVERY if line.startswith("python")])
def test_what_python_runs_is_there(line: str) -> None:
    words = words_of(line)
    if words[1] == "-m":
        assert importlib.util.find_spec(words[2]) is not None
    else:
        assert (ROOT / words[1]).is_file()


def test_extras_that_are_installed_are_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for _, line in EVERY:
        for extras in re.findall(r"\.\[([\w,]+)\]", line):
            assert set(extras.split(",")) <= set(declared["optional-dependencies"])


def test_options_of_pytest_are_read(pytester: pytest.Pytester) -> None:
    lines = [words_of(line) for _, line in EVERY if line.startswith("pytest --clip")]
    assert len(lines) > 20
    given = sorted({word for words in lines for word in words if re.match(r"--clip-[\w-]+=", word)})
    assert len(given) > 10
    pytester.parseconfig(*given)
    with pytest.raises(pytest.UsageError, match="--clip-modell"):
        pytester.parseconfig("--clip-modell=reference")
    flags = {word.partition("=")[0] for words in lines for word in words if word[:7] == "--clip-"}
    helped = pytester.parseconfig("--clip-model=reference")._parser
    known = {
        name for group in helped._groups for option in group.options for name in option.names()
    }
    assert flags <= known
    for words in lines:
        for suite in words[words.index("-m") + 1 :][:1] if "-m" in words else ():
            assert (SUITES / f"test_{suite}.py").is_file(), words


def test_the_commands_that_need_nothing(run: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = """
from pytest_cliprobust.properties import accuracy

def test_mine(clip, gate):
    gate(accuracy.accuracy_of(clip.on("clean")))
"""
    kept = f"--clip-history={run.path / 'history.sqlite'}"
    run(kept, suite=suite).assert_outcomes(passed=1)
    run.again(kept).assert_outcomes(passed=1)
    monkeypatch.chdir(run.path)
    for line in RUN:
        assert cli.main([*words_of(line)[1:], "--history=history.sqlite"]) == 0, line
    assert (run.path / "report.html").is_file()
