"""What is told of a session that has no figures to tell of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_cliprobust.plugin.notices import (
    misspelt_marks,
    say_nothing_evaluated,
    say_what_is_lacking,
)


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


def with_marks(expression: str | None, *markers: str) -> Any:
    option = SimpleNamespace(markexpr=expression, keyword="", collectonly=False)
    return SimpleNamespace(
        option=option, getini=lambda name: list(markers), getoption={"--clip-model": ["a"]}.get
    )


MARKERS = ("first: of theirs", "calibration: tests of the calibration suite", "smok(it): of theirs")


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("calibraton", {"calibraton": "calibration"}),
        ("calibraton or not acuracy", {"calibraton": "calibration", "acuracy": "accuracy"}),
        ("(calibraton or calibraton) and accuracy", {"calibraton": "calibration"}),
        # Names of suites and of markers, and what is near to none.
        ("calibration and accuracy", {}),
        ("first or smok", {}),
        ("slow", {}),
        ("not xy and or", {}),
        # What stands in the brackets of a marker is no name of one.
        ("clip_suite(name='calibraton')", {}),
        ("", {}),
        (None, {}),
    ],
)
def test_a_name_of_m_that_is_nearly_a_suites(expression: str | None, told: dict[str, str]) -> None:
    suites = ["calibration", "accuracy", "first_aid", "notes", "smoke"]
    lines = [
        f"-m {word}: no suite is called so, and no marker is. Did you mean {name!r}?"
        for word, name in told.items()
    ]
    config = with_marks(expression, *MARKERS)
    assert misspelt_marks(config, suites) == lines
    # They follow what is told of a session that evaluated nothing, in the same colour.
    shown: list[tuple[str, bool]] = []
    reporter = SimpleNamespace(write_line=lambda line, yellow: shown.append((line, yellow)))
    say_nothing_evaluated(reporter, config, 1, 0, suites)
    assert shown[1:] == [(f"warning: {line}", True) for line in lines]
    assert len(shown) == 1 + len(lines)
