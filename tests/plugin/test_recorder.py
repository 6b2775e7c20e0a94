"""Recording into a baseline that holds one model or several."""

from __future__ import annotations

from pathlib import Path

from gating_helpers import answered, answers, changed

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.gating.baseline import Baseline, Provenance, beside, load_baseline
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.plugin.recorder import Recorder
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
    assert "t.baseline.safetensors, 1 figures by sample" in told[0]
    again, _ = recorded(tmp_path / "t.toml", first, v2=50)
    assert (again.models, set(again.anchors)) == (("v2",), {KEY})
    assert again.anchors[KEY].value == 0.84


def test_several_models_have_first_recordings_of_their_own(tmp_path: Path) -> None:
    first, _ = recorded(tmp_path / "t.toml", None, v1=0)
    both, told = recorded(tmp_path / "t.toml", first, v1=10, v2=50)
    assert "t.baseline.safetensors of 2 models (v1, v2), 2 figures by sample" in told[0]
    values = {key: anchor.value for key, anchor in both.anchors.items()}
    assert values == {f"{KEY}/v1": 0.84, f"{KEY}/v2": 0.79}
    later, _ = recorded(tmp_path / "t.toml", both, "fewer dogs", v1=20)
    assert later.models == ("v1", "v2")
    assert later.anchors == both.anchors
    assert {key: why[12:] for key, why in later.accepted.items()} == {f"{KEY}/v1": "fewer dogs"}
