"""What a report says of the data of a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_cliprobust.datasets.roles import EMBEDDED
from pytest_cliprobust.datasets.templates import TemplateSummary
from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.results.data import SPLIT, DataSummary, data_of

TOLD = TemplateSummary("mine", 2, "ab")


def test_a_summary_survives_the_way_through_a_report() -> None:
    one = DataSummary({"clean": ("a", "b"), "shift": ()}, {"a": TOLD}, "a", True)
    data = one.as_dict()
    assert data["roles"] == {"clean": ["a", "b"], "shift": []}
    assert data["calibration_split"] == {"of": "a", "how": SPLIT}
    assert DataSummary.from_dict(data) == one
    nothing = DataSummary()
    assert nothing.as_dict() == {
        "roles": {},
        "templates": {},
        "calibration_split": None,
        "own": False,
    }
    assert DataSummary.from_dict(nothing.as_dict()) == nothing
    # Reports of before there was a split.
    assert DataSummary.from_dict({"roles": {}, "templates": {}, "own": True}).split == ""


def test_the_header_tells_of_data_of_the_users_own() -> None:
    roles = {"clean": ("a", "b"), "shift": ("c",)}
    assert DataSummary(roles).lines() == []
    other = TemplateSummary("theirs", 1, "cd")
    assert DataSummary({}, {"a": TOLD, "b": other}).lines() == [
        f"clip templates: a: {TOLD}",
        f"clip templates: b: {other}",
    ]
    assert DataSummary(roles, {"a": TOLD}, "a", own=True).lines() == [
        "clip roles: clean a, b; shift c",
        f"  note: {SPLIT}, of a calibrates and is measured nowhere else; --clip-data calibration=PATH "
        "gives other data for it",
        f"clip templates: a: {TOLD}",
    ]


def evaluation(data: str = "mine", *, part: bool = True, templates: Any = None, **more: Any) -> Any:
    provider = SimpleNamespace(
        sets={"clean": ["k"], "shift": ["l", "m"], "calibration": ["k"]},
        name_of=lambda key: f"name of {key}",
        is_part=lambda role: part and role == "calibration",
    )
    return SimpleNamespace(
        config=SimpleNamespace(data=data, templates=templates),
        provider=provider,
        dataset=lambda role, limit=None: SimpleNamespace(name="name of k"),
        template_summaries=lambda: {"name of k": TOLD},
        **more,
    )


def test_what_is_known_of_the_data_of_an_evaluation() -> None:
    roles = {"clean": ("name of k",), "shift": ("name of l", "name of m")}
    # A part of clean is no data set of its own.
    assert data_of(evaluation()) == DataSummary(roles, {"name of k": TOLD}, "name of k", True)
    whole = {**roles, "calibration": ("name of k",)}
    assert data_of(evaluation(part=False)) == DataSummary(whole, {"name of k": TOLD}, "", True)
    # Of the embedded benchmark as it is nothing is told.
    assert data_of(evaluation(EMBEDDED)) == DataSummary(roles)
    told = data_of(evaluation(EMBEDDED, templates="t.txt"))
    assert told == DataSummary(roles, {"name of k": TOLD}, "name of k", False)


def test_no_more_than_clean_is_loaded_of_it() -> None:
    """Of the part that calibrates one sample tells whether it is there."""
    loaded: list[tuple[str, int | None]] = []

    def dataset(role: str, limit: int | None = None) -> Any:
        loaded.append((role, limit))
        return SimpleNamespace(name="name of k")

    one = evaluation()
    one.dataset = dataset
    assert data_of(one).split == "name of k"
    assert loaded == [("calibration", 1), ("clean", None)]


@pytest.mark.parametrize("broken", ["dataset", "template_summaries"])
def test_what_cannot_be_told_is_left_out(broken: str) -> None:
    def fails(*_: Any) -> Any:
        raise NotRun("no such data") if broken == "dataset" else ClipRobustError("no templates")

    one = evaluation()
    setattr(one, broken, fails)
    told = data_of(one)
    assert (told.split, dict(told.templates)) == (
        ("", {"name of k": TOLD}) if broken == "dataset" else ("name of k", {})
    )
