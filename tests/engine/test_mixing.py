"""Each sample under one of several conditions: who gets which, and that it is what it would be alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.engine.mixing import drawn
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.gating.family import is_headline
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.properties import accuracy

IDS = [f"photos/{number}.jpg" for number in range(20_000)]
NAMES = ["fog@3", "snow@3", "frost@1", "gaussian_noise@5", "contrast@2"]
RECORDED = [2, 2, 2, 0, 2, 3, 0, 4, 1, 3, 2, 0]
CONDITIONS = [("gaussian_noise", 3), ("contrast", 3), ("fog_3d", 3)]


@pytest.fixture(scope="module")
def clip(shared_cache: Path) -> Evaluation:
    """The reference model on a few samples."""
    options = RunConfig(("reference",), limit=24, profile="quick", cache_dir=shared_cache)
    return Evaluation(options, "reference")


def test_all_conditions_are_as_likely() -> None:
    counts = np.bincount(drawn(IDS, NAMES), minlength=len(NAMES))
    assert stats.chisquare(counts).pvalue > 0.01
    # Nor do ids that follow each other go together.
    own = drawn(IDS, NAMES)
    assert (own[1:] == own[:-1]).mean() == pytest.approx(1 / len(NAMES), abs=0.01)


def test_a_sample_keeps_its_condition_in_any_company_and_order() -> None:
    own = {name: NAMES[at] for name, at in zip(IDS, drawn(IDS, NAMES), strict=True)}
    some, turned = IDS[7:500:3][::-1], NAMES[::-1]
    assert [turned[at] for at in drawn(some, turned)] == [own[name] for name in some]


def test_a_further_condition_takes_its_share_and_moves_no_other_sample() -> None:
    before, after = drawn(IDS, NAMES), drawn(IDS, [*NAMES, "glass_blur@4"])
    moved = before != after
    assert set(after[moved]) == {len(NAMES)}
    assert moved.mean() == pytest.approx(1 / 6, abs=0.01)


def test_what_is_drawn_is_the_same_everywhere() -> None:
    # Baselines pair samples by it.
    assert drawn(IDS[:12], NAMES).tolist() == RECORDED
    assert len(drawn([], NAMES)) == 0


def test_more_samples_than_are_looked_at_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = drawn(IDS[:100], NAMES)
    monkeypatch.setattr("pytest_cliprobust.engine.mixing._AT_ONCE", 7)
    assert np.array_equal(drawn(IDS[:100], NAMES), whole)


@pytest.mark.parametrize("names", [[], ["fog@3", "fog@3"]])
def test_conditions_are_needed_once_each(names: list[str]) -> None:
    with pytest.raises(ClipRobustError, match="each is needed once, and one at least"):
        drawn(IDS[:3], names)


@pytest.mark.floors
def test_each_sample_is_what_it_is_under_its_condition_alone(clip: Evaluation) -> None:
    view = clip.mixed("clean", CONDITIONS, name="mixed_mine")
    own = drawn(view.ids, [f"{name}@{severity}" for name, severity in CONDITIONS])
    assert set(own) == {0, 1, 2}
    alone = torch.stack([clip.on("clean", *one).features for one in CONDITIONS])
    torch.testing.assert_close(view.features, alone[own, range(24)], rtol=0, atol=1e-6)
    assert view.ids == clip.on("clean").ids
    assert np.array_equal(view.labels, clip.on("clean").labels)
    assert clip.mixed("clean", CONDITIONS, name="mixed_mine") is view
    part = clip.mixed("clean", CONDITIONS, name="mixed_mine", limit=10)
    torch.testing.assert_close(part.features, view.features[:10], rtol=0, atol=1e-6)


def test_its_figures_are_filed_under_its_name_and_sum_up(clip: Evaluation) -> None:
    view = clip.mixed("clean", CONDITIONS, name="mixed_mine")
    found = Measurement("mine", "reference", accuracy.accuracy_of(view))
    assert found.key == "mine/accuracy/clean/mixed_mine/reference"
    assert is_headline(found)
    assert [str(one) for one in view.condition.over] == [
        f"clean, {name} at severity {severity}" for name, severity in CONDITIONS
    ]
    drop = accuracy.accuracy_drop(clip.on("clean"), view)
    assert drop.value == pytest.approx(clip.on("clean").correct.mean() - view.correct.mean())


def test_what_cannot_be_mixed_is_told(clip: Evaluation) -> None:
    for name in ("", "clean", "fog", "weather", "all_mine", 5):
        with pytest.raises(ClipRobustError, match="have a name that begins with mixed_"):
            clip.mixed("clean", CONDITIONS, name=name)  # type: ignore[arg-type]
    for nothing in (("fog", 0), ("clean", None)):
        with pytest.raises(ClipRobustError, match="changes nothing, so it is no condition"):
            clip.mixed("clean", [*CONDITIONS, nothing], name="mixed_mine")
    for wrong in ([5], [("fog", 3, 1)], [("fog", "3")], [("fog",)], [None]):
        with pytest.raises(ClipRobustError, match="a step is a perturbation's name or a pair"):
            clip.mixed("clean", wrong, name="mixed_mine")  # type: ignore[arg-type]
    for none in ("fog", {"fog": 3}, None, 3):
        with pytest.raises(ClipRobustError, match="mixed conditions are a list of pairs"):
            clip.mixed("clean", none, name="mixed_mine")  # type: ignore[arg-type]
    with pytest.raises(ClipRobustError, match="needs at least one"):
        clip.mixed("clean", [], name="mixed_mine")
    with pytest.raises(ClipRobustError, match="2 are given, 1 of them different"):
        clip.mixed("clean", CONDITIONS[:1] * 2, name="mixed_mine")
    with pytest.raises(ClipRobustError, match="fogg"):
        _ = clip.mixed("clean", [("fogg", 3)], name="mixed_mine").features
