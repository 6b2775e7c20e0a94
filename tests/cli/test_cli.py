"""The ``cliprobust`` command as a whole: its help, its commands, and mistakes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_cliprobust import cli

Capture = pytest.CaptureFixture[str]

GREET = """
from pytest_cliprobust.errors import ClipRobustError

HELP = "greet somebody"
DESCRIPTION = "Greet somebody by name."


def add_options(parser):
    parser.add_argument("name")


def run(options):
    if options.name == "nobody":
        raise ClipRobustError("nobody is there; name somebody")
    print("hello", options.name)
    return 3
"""

COMMANDS = sorted(
    file.stem.replace("_", "-") for file in Path(cli.__file__).parent.glob("[!_]*.py")
)


def test_a_command_is_one_file(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "greet_all.py").write_text(GREET)
    (tmp_path / "_part.py").write_text("raise AssertionError('no command, and yet imported')")
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(tmp_path)])
    names = list(cli.commands())
    assert names == sorted([*COMMANDS, "greet-all"])
    assert cli.main(["greet-all", "you"]) == 3
    assert capsys.readouterr().out == "hello you\n"
    assert cli.main(["greet-all", "nobody"]) == cli.USAGE_ERROR == 4
    assert capsys.readouterr().err == "cliprobust: nobody is there; name somebody\n"
    assert cli.main([]) == 0
    assert "greet somebody" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pertub"], "unknown command 'pertub'. Did you mean 'perturb'?"),
        (["pertub"], f"Commands: {', '.join(COMMANDS)}"),
        (["--verson"], "cliprobust: unrecognized arguments: --verson. See `cliprobust --help`"),
        (["perturbations", "--famly", "x"], "unrecognized arguments: --famly x"),
        (["perturbations", "--family"], "See `cliprobust perturbations --help`"),
    ],
)
def test_a_mistyped_command_is_one_line_and_exit_code_4(
    capsys: Capture, words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 4
    (told,) = capsys.readouterr().err.splitlines()
    assert message in told


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, pytest_cliprobust.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'PIL', 'rich', 'kornia') if m in sys.modules])"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "perturbations" in done.stdout
    assert time.perf_counter() - start < 5  # 0.1 s in practice; a torch import alone takes longer
    none = subprocess.run(
        [sys.executable, "-m", "pytest_cliprobust.cli"], capture_output=True, text=True, check=False
    )
    assert none.returncode == 0
    assert "COMMAND" in none.stdout


def test_a_reader_that_leaves_ends_the_command_in_silence() -> None:
    code = (
        "from pytest_cliprobust.cli import main, perturbations\n"
        "def run(options):\n"
        "    while True: print('x' * 1000)\n"
        "perturbations.run = run\n"
        "raise SystemExit(main(['perturbations']))\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0


def test_the_words_are_those_of_the_command_line(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless they are given: no other program's come in."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/cliprobust", "schema"])
    assert cli.main() == 0
    schema = capsys.readouterr().out
    assert schema.startswith("{")
    assert cli.main(["schema"]) == 0
    assert capsys.readouterr().out == schema
    assert cli.main([]) == 0
    assert "usage: cliprobust" in capsys.readouterr().out
