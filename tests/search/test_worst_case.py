"""The worst-case search and the robustness frontier, on functions whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.perturbations.registry import Perturbation
from pytest_cliprobust.search.worst_case import (
    Evaluations,
    at_strength,
    reproduction,
    robustness_frontier,
    worst_case,
)


def perturbation(**envelope: tuple[float, float]) -> Perturbation:
    return Perturbation(
        name="made_up", function=lambda images: images, family="t", envelope=envelope
    )


TWO = perturbation(blur=(0.0, 4.0), keep=(1.0, 0.2))


def severity(p: Mapping[str, float]) -> float:
    """How strong the parameters are: 0 at the mildest corner, 2 at the strongest."""
    return p["blur"] / 4 + (1 - p["keep"]) / 0.8


def test_strength_meets_both_ends_exactly_and_turns_round_descending_ranges() -> None:
    assert at_strength(TWO, 0) == {"blur": 0.0, "keep": 1.0}
    assert at_strength(TWO, 1) == {"blur": 4.0, "keep": 0.2}
    assert at_strength(TWO, 0.25)["keep"] == pytest.approx(0.8)
    assert at_strength(TWO, {"blur": 1.0, "keep": 0.0}) == {"blur": 4.0, "keep": 1.0}
    with pytest.raises(ClipRobustError, match="between 0 and 1"):
        at_strength(TWO, 1.5)


def test_a_bound_that_holds_everywhere() -> None:
    result = worst_case(TWO, lambda p: 0.9 - 0.1 * severity(p), 0.6)
    assert result.holds
    assert result.conclusive
    assert result.mildest_failure is None
    assert result.worst.value == pytest.approx(0.7)  # the strongest corner is always looked at
    assert result.worst.parameters == {"blur": 4.0, "keep": 0.2}
    assert "holds" in result.message
    assert "\n" not in result.message


def test_a_failure_is_shrunk_to_the_mildest() -> None:
    result = worst_case(TWO, lambda p: 0.9 - 0.2 * severity(p), 0.65, max_evaluations=200)
    assert not result.holds
    assert result.mildest_failure is not None
    assert result.mildest_failure.high < 0.65
    strengths = result.mildest_strengths
    total = strengths["blur"] + strengths["keep"]
    # It breaks beyond a total of 1.25: the found point is within a step or two of that line.
    assert 1.25 < total <= 1.25 + 2 / 256
    assert result.worst.value == pytest.approx(0.5)
    assert f"--set blur={result.mildest_failure.parameters['blur']!r}" in result.reproduction
    assert "--perturbation made_up" in result.message


def test_a_failure_in_the_middle_of_the_envelope_is_found() -> None:
    def valley(p: Mapping[str, float]) -> float:
        # Both corners are fine; the accuracy dips around blur 2.6, keep 0.5.
        away = (p["blur"] / 4 - 0.65) ** 2 + ((1 - p["keep"]) / 0.8 - 0.625) ** 2
        return 0.9 - 0.5 * math.exp(-away / 0.08)

    result = worst_case(TWO, valley, 0.5, seed=2, max_examples=60)
    assert not result.holds
    assert result.mildest_failure is not None
    assert result.mildest_failure.value < 0.5
    assert result.worst.value <= result.mildest_failure.value
    # No single step back of either parameter still fails.
    for name in TWO.envelope:
        milder = dict(result.mildest_strengths)
        milder[name] -= 1 / 256
        assert valley(at_strength(TWO, milder)) >= 0.5


def test_a_failure_at_the_strongest_corner_alone_is_found_and_kept() -> None:
    def corner(p: Mapping[str, float]) -> float:
        return 0.1 if severity(p) > 1.999 else 0.9

    result = worst_case(TWO, corner, 0.5, max_examples=5)
    assert not result.holds
    assert result.mildest_strengths == {"blur": 1.0, "keep": 1.0}


def test_equal_seeds_give_equal_searches() -> None:
    def run(seed: int):
        asked: list[tuple[float, float]] = []

        def evaluate(p: Mapping[str, float]) -> float:
            asked.append((p["blur"], p["keep"]))
            return 0.9 - 0.2 * severity(p)

        return worst_case(TWO, evaluate, 0.65, seed=seed), asked

    first, second, other = run(1), run(1), run(2)
    assert first == second
    assert first[1] != other[1]
    assert len(set(first[1])) == len(first[1]) == first[0].evaluations  # never asked twice


def test_the_search_does_not_touch_the_global_random_state() -> None:
    import random

    random.seed(3)
    torch.manual_seed(3)
    expected = random.random(), torch.rand(1)
    random.seed(3)
    torch.manual_seed(3)
    worst_case(TWO, lambda p: 0.9 - 0.2 * severity(p), 0.65, max_examples=5)
    assert (random.random(), torch.rand(1)) == expected


def test_the_budget_is_kept_and_reported() -> None:
    evaluations = Evaluations(lambda p: 0.9 - 0.1 * severity(p))
    result = worst_case(TWO, evaluations, 0.5, max_examples=200, max_evaluations=10)
    assert result.exhausted
    assert result.evaluations == evaluations.calls == 10
    failing = worst_case(
        TWO, lambda p: 0.9 - 0.2 * severity(p), 0.65, max_examples=200, max_evaluations=6
    )
    assert not failing.holds
    assert failing.evaluations <= 12
    assert failing.mildest_failure is not None
    assert failing.mildest_failure.value < 0.65


def figure(value: float, half: float) -> Figure:
    return Figure("accuracy", value, value - half, value + half, n=100)


def test_with_intervals_only_a_whole_interval_below_fails() -> None:
    def evaluate(p: Mapping[str, float]) -> Figure:
        return figure(0.9 - 0.1 * severity(p), 0.05)

    doubtful = worst_case(TWO, evaluate, 0.72)
    assert doubtful.holds
    assert not doubtful.conclusive
    assert "inconclusive" in doubtful.message
    assert not worst_case(TWO, evaluate, 0.76).holds
    assert worst_case(TWO, evaluate, 0.64).conclusive


def test_the_picture_hook_gets_the_telling_parameters(tmp_path: Path) -> None:
    asked = []

    def picture(p: Mapping[str, float]) -> Path:
        asked.append(dict(p))
        return tmp_path / "x.png"

    failing = worst_case(TWO, lambda p: 0.9 - 0.2 * severity(p), 0.65, picture=picture)
    holding = worst_case(TWO, lambda p: 0.9, 0.65, picture=picture)
    assert failing.mildest_failure is not None
    assert asked == [failing.mildest_failure.parameters, holding.worst.parameters]
    assert failing.picture == tmp_path / "x.png"


def test_nan_is_an_error_and_not_green() -> None:
    with pytest.raises(ClipRobustError, match="not a number"):
        worst_case(TWO, lambda p: math.nan, 0.5)
    with pytest.raises(ClipRobustError, match=r"not a number.*cliprobust perturb"):
        worst_case(TWO, lambda p: math.nan if 0 < p["blur"] < 4 else 0.9, 0.5)
    with pytest.raises(ClipRobustError, match="not a number"):
        robustness_frontier(TWO, lambda p: math.nan, 0.5)


def test_mistakes_name_culprit_and_remedy() -> None:
    with pytest.raises(ClipRobustError, match="'made_up' has no envelope"):
        worst_case(perturbation(), lambda p: 1.0, 0.5)
    with pytest.raises(ClipRobustError, match="'made_up' has no envelope"):
        robustness_frontier(perturbation(), lambda p: 1.0, 0.5)
    with pytest.raises(ClipRobustError, match="at least 2"):
        worst_case(TWO, lambda p: 1.0, 0.5, max_evaluations=1)
    with pytest.raises(ClipRobustError, match="tolerance"):
        robustness_frontier(TWO, lambda p: 1.0, 0.5, tolerance=0.0)


def test_the_frontier_brackets_the_known_strength() -> None:
    evaluations = Evaluations(lambda p: 0.9 - 0.2 * severity(p))
    result = robustness_frontier(TWO, evaluations, 0.65, tolerance=1 / 128)
    assert result.strength == result.bracket[0] <= 0.625 < result.bracket[1]
    assert result.bracket[1] - result.bracket[0] <= 1 / 128
    assert result.monotone
    assert result.parameters == at_strength(TWO, result.strength)
    assert result.evaluations == evaluations.calls == len(result.curve)
    assert "holds up to strength 0.62" in result.message
    again = robustness_frontier(TWO, evaluations, 0.65, tolerance=1 / 128)
    assert again.evaluations == 0  # all known


def test_a_bound_that_always_or_never_holds() -> None:
    always = robustness_frontier(TWO, lambda p: 0.9 - 0.1 * severity(p), 0.5)
    assert always.strength == 1.0
    assert always.bracket == (1.0, 1.0)
    assert "strongest end" in always.message
    never = robustness_frontier(TWO, lambda p: 0.4, 0.5)
    assert never.strength is None
    assert never.bracket == (0.0, 0.0)
    assert "fails even at the mildest end" in never.message


def test_a_curve_that_recovers_is_reported_and_the_first_failure_counts() -> None:
    def dip(p: Mapping[str, float]) -> float:
        return 0.9 - 0.5 * math.exp(-(((p["blur"] / 4) - 0.4) ** 2) / 0.01)

    with pytest.warns(UserWarning, match="made_up: not monotone: fails at strength"):
        result = robustness_frontier(TWO, dip, 0.7)
    assert not result.monotone
    assert result.strength is not None
    assert result.strength < 0.4
    assert "holds again" in result.message


def test_a_rise_within_the_noise_is_no_warning(recwarn) -> None:
    values = {0.0: 0.8, 0.2: 0.78, 0.4: 0.79, 0.6: 0.75, 0.8: 0.74, 1.0: 0.7}
    one = perturbation(x=(0.0, 1.0))

    def evaluate(half: float):
        return lambda p: figure(values[round(p["x"], 6)], half)

    noisy = robustness_frontier(one, evaluate(0.02), 0.5)
    assert noisy.monotone
    assert not recwarn.list
    with pytest.warns(UserWarning, match="accuracy rises from 0.78 at strength 0.2"):
        exact = robustness_frontier(one, evaluate(0.0), 0.5)
    assert exact.strength == 1.0
    assert not exact.monotone


def test_a_starting_point_is_looked_at_first() -> None:
    def dip(p: Mapping[str, float]) -> float:
        # So narrow that a short search does not come across it.
        near = abs(p["blur"] / 4 - 0.63) < 0.004 and abs((1 - p["keep"]) / 0.8 - 0.41) < 0.004
        return 0.1 if near else 0.9

    assert worst_case(TWO, dip, 0.5, max_examples=3).holds
    found = worst_case(
        TWO, dip, 0.5, max_examples=3, resolution=100, start=[{"blur": 0.63, "keep": 0.41}]
    )
    assert found.mildest_strengths == {"blur": 0.63, "keep": 0.41}
    assert found.worst_strengths == {"blur": 0.63, "keep": 0.41}


def test_of_equally_bad_points_the_mildest_is_the_worst() -> None:
    found = worst_case(TWO, lambda p: 0.4, -math.inf, max_examples=5)
    assert found.worst_strengths == {"blur": 0.0, "keep": 0.0}
    assert found.holds
    assert found.conclusive


def test_holding_again_within_the_noise_is_no_warning(recwarn) -> None:
    values = {0.0: 0.8, 0.25: 0.68, 0.5: 0.71, 0.75: 0.6, 1.0: 0.5}
    one = perturbation(x=(0.0, 1.0))

    def evaluate(half: float):
        return lambda p: figure(values.get(p["x"], 0.69), half)

    noisy = robustness_frontier(one, evaluate(0.05), 0.7, grid=4, tolerance=0.25)
    assert noisy.monotone
    assert not recwarn.list
    assert noisy.strength == 0.0  # the first failure still counts
    with pytest.warns(UserWarning, match="fails at strength 0.25 and holds again at 0.5"):
        robustness_frontier(one, evaluate(0.0), 0.7, grid=4, tolerance=0.25)


def test_the_reproduction_is_a_command_that_the_parser_takes() -> None:
    import shlex

    from pytest_cliprobust import cli

    line = reproduction(
        "made_up", {"blur": 0.1 + 0.2, "keep": 1.0}, 7, load=[Path("my tests/conftest.py")]
    )
    words = shlex.split(line)
    assert words[:2] == ["cliprobust", "perturb"]
    parsed = cli.build_parser().parse_args(words[1:])
    assert dict(parsed.settings) == {"blur": 0.1 + 0.2, "keep": 1.0}
    assert parsed.load == [Path("my tests/conftest.py")]
    assert parsed.perturbation == ["made_up"]
    assert parsed.seed == 7
    embedded = reproduction("made_up", {}, 0, image="--embedded clean-00012")
    assert cli.build_parser().parse_args(embedded.split()[1:]).embedded == ["clean-00012"]
