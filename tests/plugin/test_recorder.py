"""Recording into a baseline that holds one model or several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from gating_helpers import answered, answers, baseline_of, changed, condition

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.gating.baseline import Baseline, Provenance, bare_key, beside, load_baseline
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.recording import RecordChange
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.plugin.comparing import comparison_lines
from pytest_cliprobust.plugin.recorder import Recorder, _shown_size
from pytest_cliprobust.results.record import Record

KEY = "accuracy/accuracy/clean/clean"


def recorded(
    path: Path, earlier: Baseline | None, because: str = "", **lost: int
) -> tuple[Baseline, list[str]]:
    """Record models that answer so many wrong that were right; return the baseline, and what is told."""
    measurements = [answered(changed(answers(), count), model=name) for name, count in lost.items()]
    records = [Record(m, judge(m, None, Policy()), "test_it") for m in measurements]
    recorder = Recorder(path, RunConfig(tuple(lost)), earlier, because=because)
    _, told = recorder.write(records, Provenance(), lambda model: 134)
    return load_baseline(beside(path)), told


def test_one_model_has_first_recordings_that_fit_the_next_release(tmp_path: Path) -> None:
    first, told = recorded(tmp_path / "t.toml", None, v1=0)
    assert "t.baseline.safetensors, 1 figure by sample" in told[0]
    again, _ = recorded(tmp_path / "t.toml", first, v2=50)
    assert (again.models, set(again.anchors)) == (("v2",), {KEY})
    assert again.anchors[KEY].value == 0.84


def test_what_is_accepted_and_why_is_told(tmp_path: Path) -> None:
    first, told = recorded(tmp_path / "t.toml", None, "a first one", v1=0)
    assert not [line for line in told if line.startswith("accepted")]
    _, told = recorded(tmp_path / "t.toml", first, "other cameras", v2=50)
    assert f"accepted, because: other cameras: {KEY} 0.84 → 0.79" in told
    _, told = recorded(tmp_path / "t.toml", first, "other cameras", v2=0)
    assert "accepted, because: other cameras: no figure that was recorded has changed" in told
    _, told = recorded(tmp_path / "t.toml", first, v2=50)
    assert not [line for line in told if line.startswith("accepted")]


@pytest.mark.parametrize("first", [True, False])
def test_bounds_are_not_recorded_without_what_they_are_held_against(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """Margins beside an older baseline, or none, would judge another change than the recorded one."""
    path = tmp_path / "t.toml"
    earlier = None if first else recorded(path, None, v1=0)[0]
    before = None if first else path.read_bytes()

    def full(*args: object, **kwargs: object) -> int:
        raise Unavailable("no room")

    monkeypatch.setattr("pytest_cliprobust.plugin.recorder.write_baseline", full)
    with pytest.raises(Unavailable, match="no room"):
        recorded(path, earlier, v1=60)
    assert (path.read_bytes() if path.exists() else None) == before


def test_several_models_have_first_recordings_of_their_own(tmp_path: Path) -> None:
    first, _ = recorded(tmp_path / "t.toml", None, v1=0)
    both, told = recorded(tmp_path / "t.toml", first, v1=10, v2=50)
    assert "t.baseline.safetensors of 2 models (v1, v2), 2 figures by sample" in told[0]
    values = {key: anchor.value for key, anchor in both.anchors.items()}
    assert values == {f"{KEY}/v1": 0.84, f"{KEY}/v2": 0.79}
    later, why = recorded(tmp_path / "t.toml", both, "fewer dogs", v1=20)
    assert f"accepted, because: fewer dogs: {KEY} 0.83 → 0.82" in why
    assert later.models == ("v1", "v2")
    assert later.anchors == both.anchors
    assert {key: why[12:] for key, why in later.accepted.items()} == {f"{KEY}/v1": "fewer dogs"}


def test_what_stays_as_it_was_recorded_keeps_what_decided_it(tmp_path: Path) -> None:
    """Of two figures one is accepted anew: the other is still of the earlier model, prompts and fog."""
    fog = condition("clean", "fog_3d", 3)

    def write(earlier: Baseline | None, model: str, version: str, figures: str) -> Baseline:
        """Record a model with those of its two figures that a glob fits."""
        made = Provenance(
            profile="quick",
            weights={model: f"weights of {model}"},
            templates={model: f"prompts of {model}"},
            perturbations={"fog_3d": version},
        )
        measurements = [answered(answers(), model=model, on=on) for on in (condition(), fog)]
        records = [Record(m, judge(m, None, Policy()), "test_it") for m in measurements]
        recorder = Recorder(tmp_path / "t.toml", RunConfig((model,)), earlier, (figures,))
        recorder.write(records, made, lambda name: 134)
        return replace(load_baseline(beside(tmp_path / "t.toml")), current=made)

    def of(baseline: Baseline, model: str) -> list[tuple[bool, str]]:
        """Return of both figures whether they are the model's own, and why they are not paired."""
        both = [answered(answers(), model=model, on=on) for on in (condition(), fog)]
        return [(baseline.same_model(one), baseline.why_not(one)) for one in both]

    first = write(None, "v1", "2", "*")
    assert of(first, "v1") == [(True, ""), (True, "")]
    accepted = write(first, "v2", "3", "*/clean/clean")
    changed_since = "fog_3d has changed since (version 2 then, 3 now)"
    assert of(accepted, "v2") == [(True, ""), (False, changed_since)]
    assert accepted.differences("v2") == [
        "other prompts or class texts than those recorded (1 of 2 figures)",
        "fog_3d is version 3, recorded with 2 (1 of 2 figures)",
    ]
    assert comparison_lines(accepted, ["v2"], None)[1] == (
        "  note: these are the weights that were recorded for 1 of 2 figures"
    )
    # Also after the next release has accepted something; a figure that is recorded anew is the new run's.
    later = write(accepted, "v3", "3", "*/clean/clean")
    assert of(later, "v3") == [(True, ""), (False, changed_since)]
    whole = write(later, "v4", "3", "*")
    assert (of(whole, "v4"), whole.older) == ([(True, ""), (True, "")], {})


def test_with_one_model_its_name_is_left_out_and_with_several_each_has_bounds(
    tmp_path: Path,
) -> None:
    """So the gate fits the next release."""
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    recorded(one, None, v1=0)
    recorded(two, None, v1=0, v2=50)
    assert "v1" not in one.read_text()
    assert all(f'model = "{name}"' in two.read_text() for name in ("v1", "v2"))
    assert not any("profile" in path.read_text() for path in (one, two))


def test_figures_that_are_not_measured_now_stay(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    first, told = recorded(path, None, v1=0, v2=50)
    assert len(told) == 1
    again, told = recorded(path, first, v1=10)
    assert told[-1].startswith("1 figure of ")
    assert told[-1].endswith("t.baseline.safetensors stays as it was recorded before")
    values = {model: figure.value for (_, model), figure in again.figures.items()}
    assert values == {"v1": 0.83, "v2": 0.79}


def test_a_glob_that_no_figure_has_is_told_beside_some_that_there_are(tmp_path: Path) -> None:
    kinds = [condition(), *(condition("clean", "fog_3d", number) for number in (1, 2, 3, 4))]
    measured = [answered(answers(), on=on) for on in kinds]
    records = [Record(one, judge(one, None, Policy()), "test_it") for one in measured]
    for globs in (("*snow*",), ("*fog*", "*snow*")):
        with pytest.raises(ClipRobustError) as told:
            Recorder(tmp_path / "t.toml", RunConfig(("v1",)), figures=globs).chosen(records)
        text = str(told.value)
        assert text.startswith(
            "--clip-figures *snow*: no figure of this run is called so; there are "
        )
        assert (text.count("accuracy/accuracy/"), text.endswith(" and 2 more")) == (3, True)


def test_what_was_recorded_alike_needs_no_word(tmp_path: Path) -> None:
    """A part of a run is recorded again, with nothing else changed."""
    first, _ = recorded(tmp_path / "t.toml", None, v1=0, v2=0)
    again, _ = recorded(tmp_path / "t.toml", first, v1=1)
    assert (again.models, again.older) == (("v1", "v2"), {})


@pytest.mark.parametrize(("limit", "said"), [(50, "without --clip-limit"), (None, "on as many")])
def test_bounds_that_are_looser_for_want_of_samples_are_told(limit: int | None, said: str) -> None:
    before, now = (answered(answers(n)) for n in (1000, 50))
    recorder = Recorder(Path("t.toml"), RunConfig(("v1",), limit=limit), baseline_of(before))
    looser = RecordChange(now.key, "min", 0.8, 0.7, "updated", "t.toml:3")
    (line,) = recorder._loosened([looser], [now])
    assert line.startswith("1 of the bounds are looser than before")
    assert f"(50, were 1,000: {now.key}); record {said}" in line
    # Stricter ones, and those of as many samples, are nobody's concern.
    assert recorder._loosened([replace(looser, new=0.9)], [now]) == []
    assert recorder._loosened([looser], [before]) == []
    assert replace(recorder, earlier=None)._loosened([looser], [now]) == []

    # One that was not there before has lost nothing; of several bounds the first is named, and all counted.
    new = answered(answers(50), on=condition("clean", "fog_3d", 3))
    unknown = RecordChange(new.key, "min", 0.8, 0.7, "updated", "t.toml:4")
    assert recorder._loosened([unknown], [now, new]) == []
    both = replace(recorder, earlier=baseline_of(before, answered(answers(400), on=new.condition)))
    (line,) = both._loosened([unknown, looser], [now, new])
    assert line.startswith("2 of the bounds are looser")
    assert f"(50, were 400: {new.key})" in line


def test_every_figure_that_stays_keeps_what_decided_it(tmp_path: Path) -> None:
    """Of two models and three figures each; those of one model are recorded anew with another seed."""
    path = tmp_path / "t.toml"
    kinds = [condition(), *(condition("clean", "fog_3d", number) for number in (1, 3))]

    def write(
        earlier: Baseline | None, models: tuple[str, ...], seed: int, *globs: str
    ) -> Baseline:
        made = Provenance(seed=seed, weights={name: f"of {name}" for name in models})
        measured = [answered(answers(), model=name, on=on) for name in models for on in kinds]
        records = [Record(one, judge(one, None, Policy()), "test_it") for one in measured]
        recorder = Recorder(path, RunConfig(models), earlier, globs)
        recorder.write(records, made, lambda name: 134)
        return load_baseline(beside(path))

    first = write(None, ("v1", "v2"), 1)
    assert first.older == {}
    keys = [bare_key(answered(answers(), on=on)) for on in kinds]
    again = write(first, ("v2",), 2)
    assert {key: one.seed for key, one in again.older.items()} == {(key, "v1"): 1 for key in keys}
    assert again.models == ("v2", "v1")
    part = write(again, ("v2",), 3, "*/clean")
    seeds = {key: one.seed for key, one in part.older.items()}
    assert seeds == {
        **{(key, "v1"): 1 for key in keys},
        **{(key, "v2"): 2 for key in keys[1:]},
    }
    told = [part.provenance_of(answered(answers(), model="v2", on=on)) for on in kinds]
    assert [one.seed for one in told if one is not None] == [3, 2, 2]


@pytest.mark.parametrize("n", [100, 20_000])
def test_how_large_the_baseline_is(tmp_path: Path, n: int) -> None:
    path = tmp_path / "t.toml"
    one = answered(answers(n), model="v1")
    recorder = Recorder(path, RunConfig(("v1",)))
    _, told = recorder.write(
        [Record(one, judge(one, None, Policy()), "t")], Provenance(), lambda model: 134
    )
    size = beside(path).stat().st_size
    said = f"{size / 1e3:.0f} kB" if n == 100 else f"{size / 1e6:.1f} MB"
    assert (size < 100_000) == (n == 100)
    assert f", 1 figure by sample, {said}; commit it beside the threshold file" in told[0]
    assert [_shown_size(size) for size in (0, 99_499, 100_000, 149_999, 1_500_001)] == [
        *("0 kB", "99 kB", "0.1 MB", "0.1 MB", "1.5 MB"),
    ]
