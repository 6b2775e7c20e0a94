"""What is told of a session that has no figures to tell of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_cliprobust.plugin.notices import say_nothing_evaluated, say_what_is_lacking


def test_what_is_lacking_is_said_as_pytest_says_a_mistake(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_what_is_lacking(pytest.UsageError("no hub"))
    say_what_is_lacking(pytest.UsageError(""))  # said before
    assert capsys.readouterr() == ("", "ERROR: no hub\n\n")


@pytest.mark.parametrize(
    ("status", "options", "count", "told"),
    [
        (0, {}, 3, "none of the tests (3 collected) uses clip or gate; --clip-suites"),
        (1, {}, 3, "none of the tests (3 collected)"),
        (5, {}, 0, "none of the tests (0 collected)"),
        (5, {"k": "fog"}, 0, "no test is left of what was collected after -k 'fog'"),
        (5, {"m": "ood"}, 0, "no test is left of what was collected after -m 'ood'"),
        (5, {"k": "fog", "m": "ood"}, 0, "after -k 'fog' and -m 'ood'"),
        (0, {"k": "fog"}, 2, "none of the tests (2 collected)"),
        # Whatever else ended it says so itself, and listing evaluates nothing.
        (2, {}, 3, None),
        (4, {}, 3, None),
        (0, {"listing": True}, 3, None),
        (0, {"models": []}, 3, None),
    ],
)
def test_that_nothing_was_evaluated(
    status: int, options: dict[str, Any], count: int, told: str | None
) -> None:
    models = options.get("models", ["a", "b"])
    option = SimpleNamespace(
        collectonly=options.get("listing", False),
        keyword=options.get("k", ""),
        markexpr=options.get("m", ""),
    )
    config: Any = SimpleNamespace(
        option=option, getoption={"--clip-model": models}.get, getini=lambda name: []
    )
    lines: list[tuple[str, bool]] = []
    reporter = SimpleNamespace(write_line=lambda line, yellow: lines.append((line, yellow)))
    say_nothing_evaluated(reporter, config, count, status)
    if told is None:
        assert lines == []
    else:
        ((line, yellow),) = lines
        assert line.startswith("warning: --clip-model a b: nothing was evaluated: ")
        assert told in line
        assert yellow
