"""The JSON Schema: what it takes, what it refuses, and that it knows every field that docs/report.md does."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import jsonschema
import pytest
from helpers import DOCS, check_schema
from report_helpers import figures, the_run

from pytest_cliprobust.cli import main
from pytest_cliprobust.reporting.json import document, schema_text, text


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(text(the_run(figures((1, 2)))))
    return made


def test_a_report_follows_it(report: dict[str, Any]) -> None:
    check_schema(report)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), 3),
        (("complete",), "yes"),
        (("exit_status",), -1),
        (("notes",), [1]),
        (("measurements", 0, "verdict", "status"), "green"),
        (("measurements", 0, "figure", "value"), "NaN"),
        (("measurements", 0, "figure", "condition"), {}),
        (("models", "mine", "weights"), {"model.safetensors": "ab"}),
        (("not_run", 0), {"test": "a"}),
    ],
)
def test_what_is_no_report_is_refused(
    report: dict[str, Any], path: tuple[str | int, ...], value: object
) -> None:
    broken: Any = copy.deepcopy(report)
    inner = broken
    for step in path[:-1]:
        inner = inner[step]
    assert path[-1] in inner or isinstance(path[-1], int)
    inner[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        check_schema(broken)


def test_every_field_must_be_there(report: dict[str, Any]) -> None:
    for name in report:
        with pytest.raises(jsonschema.ValidationError, match="required property"):
            check_schema({key: value for key, value in report.items() if key != name})


def test_schema_docs_and_report_have_the_same_fields() -> None:
    told = json.loads(schema_text())
    made = document(the_run(figures((1,))))
    assert set(told["properties"]) == set(told["required"]) == set(made)
    table = (DOCS / "report.md").read_text(encoding="utf-8").split("## The JSON report", 1)[1]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", table, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(made) <= named
    assert set(made["measurements"][0]) <= named


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(schema_text())
