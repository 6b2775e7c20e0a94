"""A model's card: huggingface_hub reads back what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from report_helpers import figures, head, the_run

from pytest_cliprobust.cli import main
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.reporting.card import chosen, eval_results, model_index
from pytest_cliprobust.reporting.json import text


def test_the_index_comes_back_to_the_same_figures() -> None:
    run = head()
    own = chosen(run, "mine", ["*"])
    data: Any = ModelCard(model_index(own, "us/mine", {"clean": "us/pictures"})).data
    read = data.eval_results
    assert data.model_name == "us/mine"
    told = {(r.metric_type, r.dataset_config): (r.metric_value, r.dataset_type) for r in read}
    assert len(told) == len(own) == len(run.measurements)
    for one in own:
        hub = "us/pictures" if one.dataset == "clean" else one.dataset
        assert told[one.metric, str(one.condition)] == (one.figure.value, hub)


def test_without_patterns_a_card_has_what_is_unperturbed() -> None:
    run = head()
    kept = chosen(run, "mine")
    assert kept
    assert all(one.perturbation == "clean" for one in kept)
    assert chosen(run, "other") == []
    assert [one.key for one in chosen(run, "mine", ["*fog@3*"])] == [
        "accuracy/accuracy/clean/fog@3/mine"
    ]


def test_figures_that_are_not_finite_are_on_no_card() -> None:
    run = head()
    key, one = next(iter(run.measurements.items()))
    lost = replace(one, figure=replace(one.figure, value=float("nan")).measured_on(one.condition))
    assert lost.key not in [
        m.key
        for m in chosen(replace(run, measurements={**run.measurements, key: lost}), "mine", ["*"])
    ]


def test_results_come_back_to_the_same_figures() -> None:
    own = chosen(head(), "mine", ["*clean*"])
    found = eval_results(own, {"clean": "us/pictures"}, "2026-11-26T12:00:00+0000")
    assert list(found) == ["us--pictures.yaml"]
    read = parse_eval_result_entries(yaml.safe_load(found["us--pictures.yaml"]))
    there = [one for one in own if one.dataset == "clean"]
    assert [entry.value for entry in read] == [one.figure.value for one in there]
    assert {entry.dataset_id for entry in read} == {"us/pictures"}
    assert {str(entry.date)[:10] for entry in read} == {"2026-11-26"}
    bare = eval_results(own, {"clean": "us/pictures"}, "")["us--pictures.yaml"]
    assert "date" not in yaml.safe_load(bare)[0]
    assert all(entry.notes and "interval [" in entry.notes for entry in read)
    assert eval_results(own, {}, "") == {}


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.json").write_text(text(the_run(figures((1, 2)))))
    given = ["card", "run.json", "--out", "card", "--name", "us/mine"]
    assert main([*given, "--dataset", "clean=us/pictures"]) == 0
    said = capsys.readouterr().out
    assert "no --dataset says what a hub calls them: far_ood" in said
    # One figure is on far_ood, which the hub does not have.
    counts = [line.rpartition(": ")[2] for line in said.splitlines()[:2]]
    assert counts == ["3 figures", "2 figures"]
    data: Any = ModelCard.load("card/model-index.md").data
    values = {json.dumps(r.metric_value) for r in data.eval_results}
    stored = {
        json.dumps(m["figure"]["value"])
        for m in json.loads(Path("run.json").read_text())["measurements"]
        if m["perturbation"] == "clean"
    }
    assert values == stored
    assert Path("card/.eval_results/us--pictures.yaml").exists()
    both = ["--dataset", "clean=us/pictures", "--dataset", "far_ood=us/far"]
    assert main(["card", "run.json", "--out", "both", *both]) == 0
    counts = [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()]
    assert counts == ["3 figures", "2 figures", "1 figure"]
    # Whatever the words in the file are.
    value = ["--dataset", "clean=us/value:s"]
    assert main(["card", "run.json", "--out", "value", *value]) == 0
    counts = [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()[:2]]
    assert counts == ["3 figures", "2 figures"]
    made = sorted(path.name for path in Path("both/.eval_results").iterdir())
    assert made == ["us--far.yaml", "us--pictures.yaml"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dataset", "clean"], "write NAME=OWNER/DATASET"),
        (["--model", "other"], "has the models mine; name one with --model"),
        (["--figures", "nothing*"], "has no such figures of mine"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.json").write_text(text(the_run(figures((1,)))))
    assert main(["card", "run.json", *options]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def one(metric: str, condition: Condition, value: float = 0.8214) -> Measurement:
    figure = Figure(metric, value, value - 0.0421, value + 0.0354, 1072).measured_on(condition)
    return Measurement("mine", "m", figure)


def test_what_stands_beside_a_figure() -> None:
    fog = Condition("clean", (Step("fog", 3),))
    own = [one("accuracy", fog), one("précision", Condition("photos"), 0.25)]
    files = eval_results(own, {"clean": "us/pictures", "photos": "us/photos"}, "2026-11-26")
    assert list(files) == ["us--pictures.yaml", "us--photos.yaml"]
    first, second = files.values()
    (entry,) = parse_eval_result_entries(yaml.safe_load(first))
    assert entry.task_id == "mine/accuracy/fog"
    assert entry.notes is not None
    said = "95% interval [0.7793, 0.8568], n = 1072"
    assert entry.notes.startswith(f"{said}; ")  # and what the metric means
    # Nobody told what a metric of one's own means; its name is written as it is.
    assert first.index("dataset") < first.index("value")
    assert "mine/précision/clean" in second
    (entry,) = parse_eval_result_entries(yaml.safe_load(second))
    assert entry.notes == "95% interval [0.2079, 0.2854], n = 1072"
    data: Any = ModelCard(model_index(own, "us/mine")).data
    fogged, bare = data.eval_results
    assert fogged.dataset_args == {"suite": "mine", "perturbation": "fog", "severity": 3}
    assert fogged.metric_name == f"accuracy, {eval_notes(first)}"
    assert (bare.dataset_type, bare.dataset_name, bare.dataset_config) == ("photos",) * 3


def eval_notes(text: str) -> str:
    return str(yaml.safe_load(text)[0]["notes"])


def test_a_mean_over_conditions_stands_on_a_card_and_a_severity_does_not() -> None:
    steps = [Condition("clean", (Step("fog", severity),)) for severity in (1, 3)]
    mean = Condition("clean", over=tuple(steps), label="all_fogs")
    every = [one("accuracy", condition) for condition in (Condition("clean"), *steps, mean)]
    run = replace(head(), measurements={m.key: m for m in every})
    assert chosen(run, "m") == [every[0], every[3]]
    assert chosen(run, "m", ["*fog@1*", "*all_fogs*"]) == [every[1], every[3]]
