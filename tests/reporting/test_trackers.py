"""What loggers are handed, whatever they are; which are there; and that none of them costs a run anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from history_helpers import a_run
from hypothesis import given
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating.baseline import Baseline, Provenance
from pytest_cliprobust.reporting.trackers import (
    LOGGERS,
    Logged,
    check_loggers,
    hand_over,
    logged,
    name_of,
    register_logger,
)
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import Run


@pytest.fixture
def run() -> Run:
    fog = Condition("clean", (Step("fog_3d", 3),))
    made = [
        Figure("accuracy", 0.8, 0.7, 0.9, 100).measured_on(Condition("clean")),
        Figure("accuracy", 0.5, 0.4, 0.6, 100).measured_on(fog),
        Figure("nll", float("nan"), 0.0, float("inf"), 100).measured_on(fog),
    ]
    return a_run(made, "v1", suite="accuracy")


@pytest.fixture
def handed() -> Iterator[list[Logged]]:
    """A logger called ``board``, and what it was given."""
    given: list[Logged] = []
    with LOGGERS.preserved():

        @register_logger("board", library="json")
        def log(told: Logged) -> str:
            given.append(told)
            return f"number {len(given)}"

        @register_logger("broken", library="json")
        def fail(told: Logged) -> str:
            raise ConnectionError("no server\nat all")

        yield given


def test_figures_have_the_same_names_whatever_the_model(run: Run) -> None:
    told = logged(run, run.models["v1"])
    name = "accuracy/accuracy/clean/fog_3d.3"
    assert told.metrics[name] == 0.5
    assert (told.metrics[f"{name}.low"], told.metrics[f"{name}.high"]) == (0.4, 0.6)
    assert told.metrics["accuracy/accuracy/clean/clean"] == 0.8
    # No server takes what is not finite.
    assert [name for name in told.metrics if "/nll/" in name] == ["accuracy/nll/clean/fog_3d.3.low"]


def test_what_it_was_made_with_and_how_it_ended(run: Run) -> None:
    told = logged(run, run.models["v1"], (Path("r.html"),))
    assert (told.name, told.files, told.complete) == ("v1", (Path("r.html"),), True)
    wanted = {"model": "v1", "weights": "ab12", "profile": "quick", "seed": "0", "templates": "t"}
    assert wanted.items() <= told.params.items()
    assert told.tags == {
        "cliprobust.ending": "passed",
        "cliprobust.exit_status": "0",
        "cliprobust.complete": "true",
        "cliprobust.failed": "1",  # of what is not finite no bound is needed
        "cliprobust.pass": "0",
        "cliprobust.waived": "0",
        "cliprobust.inconclusive": "0",
        "cliprobust.unbounded": "2",
    }
    assert all(len(value) <= 500 for value in told.params.values())


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a/b/clean/fog_3d@3", "a/b/clean/fog_3d.3"),
        ("x" * 250, "x" * 250),
        ("a/b c/../d", "a/b_c/_/d-268be500"),
        ("x" * 251, "x" * 241 + "-b2d3003e"),
    ],
)
def test_names_of_keys(key: str, name: str) -> None:
    """They stay the same from run to run: boards have the earlier ones under them."""
    assert name_of(key) == name


@given(st.text(min_size=1, max_size=300))
def test_every_key_becomes_a_name_that_servers_take(key: str) -> None:
    name = name_of(key)
    assert re.fullmatch(r"[A-Za-z0-9_./-]{1,250}", name)
    assert all(part.strip(".") for part in name.split("/"))


@given(st.lists(st.text("ab.:/é_-", min_size=1, max_size=8), unique=True, min_size=2))
def test_no_two_keys_share_a_name(keys: list[str]) -> None:
    assert len({name_of(key) for key in keys}) == len(keys)


def test_each_model_of_a_run_is_handed_over(run: Run, handed: list[Logged], tmp_path: Path) -> None:
    (tmp_path / "r.md").touch()
    two = replace(run, models={**run.models, "v2": replace(run.models["v1"], name="v2")})
    (tmp_path / "r.json").touch()
    files = [tmp_path / name for name in ("r.md", "gone.md", "r.json")]
    told = list(hand_over(two, ["board"], files))
    assert told == ["board: v1 is number 1", "board: v2 is number 2"]
    assert [one.name for one in handed] == ["v1", "v2"]
    assert handed[0].files == (tmp_path / "r.md", tmp_path / "r.json")
    assert handed[1].metrics == {}


def test_one_that_fails_is_one_line_and_the_next_has_its_turn(
    run: Run, handed: list[Logged]
) -> None:
    error, where = hand_over(run, ["broken", "board"], [])
    assert isinstance(error, Unavailable)
    assert str(error) == (
        "--clip-logger broken: v1 could not be handed over, and nothing measured is lost: "
        "ConnectionError: no server"
    )
    assert where == "board: v1 is number 1"
    assert list(hand_over(replace(run, records=()), ["board"], [])) == []


def test_what_is_not_there_is_told_before_the_run(
    handed: list[Logged], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_loggers(["board"])
    with pytest.raises(ClipRobustError, match=r"unknown logger 'mlfow'\. Did you mean 'mlflow'"):
        check_loggers(["mlfow"])
    register_logger("own", library="not_a_library_of_anybodys")(lambda told: "")
    with pytest.raises(ClipRobustError) as caught:
        check_loggers(["own"])
    assert str(caught.value).startswith(
        "--clip-logger own: not_a_library_of_anybodys cannot be imported (ModuleNotFoundError: "
    )
    assert str(caught.value).endswith("; install it: pip install 'pytest-cliprobust[own]'")
    # wandb leaves a folder of its name where it runs, which is no wandb.
    (tmp_path / "a_folder_of_runs").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    register_logger("folder", library="a_folder_of_runs")(lambda told: "")
    with pytest.raises(ClipRobustError, match="folder: a_folder_of_runs is not installed"):
        check_loggers(["folder"])


def test_all_that_a_run_was_made_with(run: Run) -> None:
    provenance = Provenance("full", 3, {}, {}, {"v1": "t1", "v2": "t2"}, {"clean data": "d1"})
    baseline = Baseline("b.safetensors", {}, None)
    config = replace(run.config, profile="full", seed=3, limit=12)
    whole = replace(
        run, config=config, provenance=provenance, baseline=baseline, thresholds="t" * 501
    )
    assert logged(whole, run.models["v1"]).params == {
        "model": "v1",
        "architecture": "ViT",
        "pretrained": "own",
        "weights": "ab12",
        "precision": "fp32",
        "device": "cpu",
        "data": "embedded",
        "profile": "full",
        "seed": "3",
        "limit": "12",
        "thresholds": "t" * 500,
        "pytest_cliprobust": run.version,
        "data.clean_data": "d1",
        "templates": "t1",
        "baseline": "b.safetensors",
    }
    other = replace(run.models["v1"], name="v3", pretrained="")
    bare = logged(replace(run, provenance=None), other).params
    assert not {"pretrained", "templates", "baseline"} & set(bare)
    assert (bare["limit"], bare["thresholds"]) == ("none", "none")
    assert "templates" not in logged(whole, other).params  # nobody knows of this model's


def test_verdicts_are_counted_for_each_model(run: Run) -> None:
    statuses: list[Any] = ["pass", "pass", "waived", "inconclusive", "fail", "unbounded"]
    one = run.records[0]

    def judged(status: Any) -> Record:
        verdict = replace(
            one.verdict, status=status, outcome="fail" if status == "fail" else "pass"
        )
        return replace(one, verdict=verdict)

    records = tuple(map(judged, statuses))
    cut = replace(run, records=records, complete=False, exit_status=6, ending="inconclusive")
    told = logged(cut, run.models["v1"])
    assert not told.complete
    assert told.tags == {
        "cliprobust.ending": "inconclusive",
        "cliprobust.exit_status": "6",
        "cliprobust.complete": "false",
        "cliprobust.failed": "1",
        "cliprobust.pass": "2",
        "cliprobust.waived": "1",
        "cliprobust.inconclusive": "1",
        "cliprobust.unbounded": "1",
    }
    nobody = logged(cut, replace(run.models["v1"], name="v2"))
    assert nobody.tags["cliprobust.pass"] == "0"


def test_after_one_model_that_could_not_be_handed_over_no_other_is_tried(
    run: Run, handed: list[Logged]
) -> None:
    two = replace(run, models={**run.models, "v2": replace(run.models["v1"], name="v2")})
    error, *others = hand_over(two, ["broken", "board"], [])
    assert isinstance(error, Unavailable)
    assert others == ["board: v1 is number 1", "board: v2 is number 2"]
