"""Points of an envelope, and the accuracy drop at them."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import pytest

from pytest_cliprobust import cli
from pytest_cliprobust.engine.evaluation import Evaluation, RunConfig
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.perturbations.registry import Perturbation
from pytest_cliprobust.search.envelope import (
    Drops,
    Point,
    Points,
    at_strength,
    reproduction,
    require_clean,
    searched_condition,
    settings_text,
)

TWO = Perturbation(
    "made_up", lambda images: images, "t", envelope={"blur": (0.0, 4.0), "keep": (1.0, 0.2)}
)


def test_strength_meets_both_ends_exactly_and_turns_round_descending_ranges() -> None:
    assert at_strength(TWO, 0) == {"blur": 0.0, "keep": 1.0}
    assert at_strength(TWO, 1) == {"blur": 4.0, "keep": 0.2}
    assert at_strength(TWO, 0.25)["keep"] == pytest.approx(0.8)
    assert at_strength(TWO, {"blur": 1.0, "keep": 0.0}) == {"blur": 4.0, "keep": 1.0}
    for outside in (1.5, -0.01, math.nan):
        with pytest.raises(ClipRobustError, match="between 0 and 1"):
            at_strength(TWO, outside)


def test_a_point_is_measured_once_whatever_the_order_of_its_parameters() -> None:
    asked: list[dict[str, float]] = []

    def evaluate(parameters: object) -> float:
        assert isinstance(parameters, dict)
        asked.append(parameters)
        return 0.5

    points = Points(evaluate)
    assert not points.known({"a": 1, "b": 2.0})
    first = points({"a": 1, "b": 2.0})
    assert first == Point({"a": 1, "b": 2.0}, 0.5, 0.5, 0.5)
    assert points({"b": 2, "a": 1.0}) is first
    assert points.known({"b": 2.0, "a": 1.0})
    assert points.calls == len(asked) == 1
    points({"a": 1, "b": 2.5})
    assert points.calls == 2


def test_a_point_has_the_interval_of_its_figure() -> None:
    points = Points(lambda parameters: Figure("accuracy", 0.5, 0.4, 0.7, n=10))
    assert points({"a": 1.0}) == Point({"a": 1.0}, 0.5, 0.4, 0.7)


@pytest.mark.parametrize(
    "measured",
    [
        math.nan,
        Figure("accuracy", 0.5, math.nan, 0.7, n=10),
        Figure("accuracy", 0.5, 0.4, math.nan, n=10),
    ],
)
def test_nan_is_an_error_and_not_green(measured: float | Figure) -> None:
    with pytest.raises(ClipRobustError, match=r"at a=1\.5 is not a number.*cliprobust perturb"):
        Points(lambda parameters: measured)({"a": 1.5})


@pytest.mark.slow
def test_drops_are_paired_and_their_points_are_minus_the_drop(tmp_path: Path) -> None:
    clip = Evaluation(RunConfig(("reference",), cache_dir=tmp_path), "reference")
    clean = clip.on("clean", limit=24)
    drops = Drops(clip, clean, registry.get("contrast"))
    parameters = {"gain": 0.1}
    view = drops.view(parameters)
    assert view.condition == Condition("clean", (Step("contrast", None, (("gain", 0.1),)),), 24)
    assert view is clip.on("clean", "contrast", limit=24, gain=0.1)
    drop = drops.figure(parameters)
    assert drop.value == pytest.approx(clean.correct.mean() - view.correct.mean())
    assert drop.value > 0.2
    plain = drops.points()(parameters)
    assert (plain.value, plain.low, plain.high) == (-drop.value,) * 3
    known = drops.points(0.8)(parameters)
    ends = interval_at(drop, 0.8)
    assert (known.value, known.low, known.high) == (-drop.value, -ends.high, -ends.low)
    assert known.low < known.value < known.high
    # Conditions of what is found: the samples' own, under the searched name.
    found = searched_condition(clean, "contrast", over=[view])
    assert found == Condition("clean", limit=24, over=(view.condition,), label="contrast")
    assert (found.perturbation, found.severity) == ("contrast", None)
    with pytest.raises(ClipRobustError, match=r"as they are, not from clean, contrast\(gain=0.1\)"):
        require_clean(view)
    require_clean(clean)


def test_the_reproduction_is_a_command_that_the_parser_takes() -> None:
    files = [Path("my tests/conftest.py"), Path("more.py")]
    line = reproduction("made_up", {"blur": 0.1 + 0.2, "keep": 1.0}, 7, load=files)
    words = shlex.split(line)
    assert words[:2] == ["cliprobust", "perturb"]
    parsed = cli.build_parser().parse_args(words[1:])
    assert dict(parsed.settings) == {"blur": 0.1 + 0.2, "keep": 1.0}
    assert parsed.load == files
    assert (words[2], parsed.out) == ("IMAGE", Path("worst-case"))
    assert parsed.perturbation == ["made_up"]
    assert parsed.seed == 7
    embedded = reproduction("made_up", {}, 0, image="--embedded clean-00012")
    assert cli.build_parser().parse_args(embedded.split()[1:]).embedded == ["clean-00012"]


def test_settings_are_short_in_messages() -> None:
    assert settings_text({"gain": 8.600000000000001, "lift": 0.06}) == "gain=8.6, lift=0.06"
