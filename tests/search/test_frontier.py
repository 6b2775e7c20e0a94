"""The robustness frontier on functions whose answer is known, and the figure of a model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import keys_of
from search_helpers import MADE, GivingWay
from torch import Tensor

from pytest_cliprobust.engine.evaluation import Evaluation, RunConfig
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.outcomes import Outcomes, mean
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.perturbations.registry import Perturbation
from pytest_cliprobust.properties import frontier as figures_of_frontier
from pytest_cliprobust.properties.frontier import first_crossing, frontier_strength_figure
from pytest_cliprobust.search import frontier as module
from pytest_cliprobust.search.envelope import Point, Points, at_strength
from pytest_cliprobust.search.frontier import frontier, robustness_frontier

TWO = Perturbation(
    "made_up", lambda images: images, "t", envelope={"blur": (0.0, 4.0), "keep": (1.0, 0.2)}
)
ONE = Perturbation("made_up", lambda images: images, "t", envelope={"x": (0.0, 1.0)})


def severity(p: Mapping[str, float]) -> float:
    """How strong the parameters are: 0 at the mildest corner, 2 at the strongest."""
    return p["blur"] / 4 + (1 - p["keep"]) / 0.8


def curve(values: Mapping[float, float], half: float) -> Points:
    """Points of ONE with given values (0.69 elsewhere) and intervals of a half-width."""

    def evaluate(p: Mapping[str, float]) -> Figure:
        value = values.get(round(p["x"], 6), 0.69)
        return Figure("accuracy", value, value - half, value + half, n=100)

    return Points(evaluate)


# --- The bisection ---------------------------------------------------------------------------------


def test_the_frontier_brackets_the_known_strength() -> None:
    points = Points(lambda p: 0.9 - 0.2 * severity(p))
    result = robustness_frontier(TWO, points, 0.65, tolerance=1 / 128)
    assert result.strength == result.bracket[0] <= 0.625 < result.bracket[1]
    assert 1 / 256 < result.bracket[1] - result.bracket[0] <= 1 / 128
    assert result.warning == ""
    assert result.parameters == at_strength(TWO, result.strength)
    # Six of the grid, and five halvings of the fifth before the first that fails.
    assert points.calls == len(result.curve) == 11
    assert [strength for strength, _ in result.curve] == sorted({s for s, _ in result.curve})
    assert {0.0, 0.2, 0.4, 0.6, 0.8, 1.0} < {strength for strength, _ in result.curve}
    assert robustness_frontier(TWO, points, 0.65, tolerance=1 / 128) == result
    assert points.calls == len(result.curve)  # all known


def test_a_bound_that_always_or_never_holds() -> None:
    always = robustness_frontier(TWO, Points(lambda p: 0.9 - 0.1 * severity(p)), 0.5)
    assert always.strength == 1.0
    assert always.bracket == (1.0, 1.0)
    assert always.parameters == at_strength(TWO, 1)
    never = robustness_frontier(TWO, Points(lambda p: 0.4), 0.5)
    assert never.strength is None
    assert never.bracket == (0.0, 0.0)
    assert never.parameters == at_strength(TWO, 0)
    # The bound itself holds.
    assert robustness_frontier(TWO, Points(lambda p: 0.5), 0.5).strength == 1.0


def test_a_curve_that_recovers_is_told_and_the_first_failure_counts() -> None:
    def dip(p: Mapping[str, float]) -> float:
        return 0.9 - 0.5 * math.exp(-(((p["blur"] / 4) - 0.4) ** 2) / 0.01)

    result = robustness_frontier(TWO, Points(dip), 0.7)
    assert result.warning.startswith("not monotone: fails at strength")
    assert "holds again" in result.warning
    assert result.warning.endswith("the frontier is that of the first failure")
    assert result.strength is not None
    assert result.strength < 0.4


def test_a_rise_within_the_noise_is_not_told() -> None:
    values = {0.0: 0.8, 0.2: 0.78, 0.4: 0.79, 0.6: 0.75, 0.8: 0.74, 1.0: 0.7}
    assert robustness_frontier(ONE, curve(values, 0.02), 0.5).warning == ""
    exact = robustness_frontier(ONE, curve(values, 0.0), 0.5)
    assert exact.strength == 1.0
    assert "accuracy rises by 0.01 from strength 0.2 to 0.4" in exact.warning


def test_holding_again_within_the_noise_is_not_told() -> None:
    values = {0.0: 0.8, 0.25: 0.68, 0.5: 0.71, 0.75: 0.6, 1.0: 0.5}
    noisy = robustness_frontier(ONE, curve(values, 0.05), 0.7, grid=4, tolerance=0.25)
    assert noisy.warning == ""
    assert noisy.strength == 0.0  # the first failure still counts
    exact = robustness_frontier(ONE, curve(values, 0.0), 0.7, grid=4, tolerance=0.25)
    assert "fails at strength 0.25 and holds again at 0.5" in exact.warning


def test_mistakes_name_culprit_and_remedy() -> None:
    bare = Perturbation("made_up", lambda images: images, "t")
    with pytest.raises(ClipRobustError, match="'made_up' has no envelope"):
        robustness_frontier(bare, Points(lambda p: 1.0), 0.5)
    for slip in ({"tolerance": 0.0}, {"tolerance": 1.01}, {"grid": 0}):
        options: dict[str, Any] = slip
        with pytest.raises(ClipRobustError, match="tolerance"):
            robustness_frontier(TWO, Points(lambda p: 1.0), 0.5, **options)
    with pytest.raises(ClipRobustError, match="not a number"):
        robustness_frontier(TWO, Points(lambda p: math.nan), 0.5)


# --- The figure of a model -------------------------------------------------------------------------


def test_the_first_crossing_is_interpolated_and_the_first_counts() -> None:
    strengths = np.array([0.0, 0.25, 0.5, 1.0])
    assert first_crossing(strengths, np.array([0.0, 0.1, 0.3, 0.4]), 0.2) == 0.375
    assert first_crossing(strengths, np.array([0.0, 0.3, 0.1, 0.4]), 0.2) == pytest.approx(1 / 6)
    assert first_crossing(strengths, np.array([0.0, 0.1, 0.2, 0.2]), 0.2) == 1.0
    assert first_crossing(strengths, np.array([0.3, 0.1, 0.2, 0.2]), 0.2) == 0.0


@pytest.mark.parametrize(
    ("where", "expected"), [(0.0, 1.0), (0.2, 2.0), (0.4, 3.0), (0.7, 5.0), (1.0, 7.0), (2.0, 7.0)]
)
def test_what_samples_add_between_two_strengths(where: float, expected: float) -> None:
    columns = np.array([[1.0, 3.0, 7.0], [0.0, 0.0, 0.0]])
    found = figures_of_frontier._at(columns, np.array([0.0, 0.4, 1.0]), where)
    assert found == pytest.approx([expected, 0.0])
    assert figures_of_frontier._at(columns[:, :2], np.array([0.4, 0.4]), where)[0] in (1.0, 3.0)


def found_at(
    strength: float, tolerances: np.ndarray, right: np.ndarray, *, grid: float = 0.0
) -> Figure:
    """Return the frontier of a model whose sample i is right up to its own tolerance."""
    near = strength + np.array([-0.06, -0.03, 0.0, 0.03, 0.06]) + grid
    strengths = np.unique(np.concatenate([np.linspace(0.0, 1.0, 6), near]))
    answers = [right, *(right & (tolerances >= s) for s in strengths)]
    settings = Bootstrap(replicates=100, keys=keys_of(len(right)))
    figure = frontier_strength_figure(strengths, np.stack(answers, axis=1), None, {}, settings)
    return figure.measured_on(Condition("clean"))


def two_models(seed: int, lost: float, n: int = 134) -> tuple[Figure, Figure]:
    """Return the frontiers of two models that are much alike, the second one shorter by ``lost``."""
    rng = np.random.default_rng(seed)
    shared, right = rng.normal(size=n), rng.random(n) < 0.84
    kept = np.where(rng.random(n) < 0.06, rng.random(n) < 0.84, right)
    first, second = (
        0.5 + 0.2 * (0.9 * shared + math.sqrt(1 - 0.81) * rng.normal(size=n)) for _ in range(2)
    )
    # Each is searched at strengths of its own.
    before = found_at(0.5, first, right)
    return before, found_at(0.5 - lost, second - lost, kept, grid=0.011)


def test_the_change_of_a_frontier_is_paired() -> None:
    """It holds the truth, and is a good deal shorter than as if the runs were no pair."""
    held, widths = 0, []
    for seed in range(60):
        before, after = two_models(seed, 0.05)
        change = change_between(after, before)
        assert change.paired
        ends = change.interval(0.95)
        held += ends.low <= -0.05 <= ends.high
        alone = change_between(after, before, why_not="for once").interval(0.95)
        widths.append((ends.high - ends.low) / (alone.high - alone.low))
    assert held >= 54
    assert 0.4 < float(np.mean(widths)) < 0.8


def test_models_that_have_nothing_in_common_gain_nothing_from_pairs() -> None:
    rng = np.random.default_rng(0)
    right = np.ones(4000, dtype=np.bool_)
    figures = [found_at(0.5, 0.5 + 0.2 * rng.normal(size=4000), right) for _ in range(2)]
    paired, alone = (
        change_between(figures[1], figures[0], why_not=why).interval(0.95)
        for why in ("", "for once")
    )
    change = change_between(figures[1], figures[0])
    width = (paired.high - paired.low) / 2.0
    assert change.standard_error == pytest.approx(width / 1.959964, rel=1e-6)
    assert paired.low == pytest.approx(alone.low, abs=0.002)
    assert paired.high == pytest.approx(alone.high, abs=0.002)


def test_a_frontier_that_no_sample_moves_has_no_pair() -> None:
    rng = np.random.default_rng(1)
    right = np.ones(60, dtype=np.bool_)
    moving = found_at(0.5, 0.5 + 0.2 * rng.normal(size=60), right)
    fixed = found_at(0.5, np.full(60, 2.0), right)
    for after, before in ((moving, fixed), (fixed, moving)):
        change = change_between(after, before)
        assert change.paired
        ends, alone = (
            change_between(after, before, why_not=why).interval(0.95) for why in ("", "for once")
        )
        assert (ends.low, ends.high) == pytest.approx((alone.low, alone.high), abs=1e-4)
        assert ends.low < change.difference < ends.high


def test_frontiers_of_one_drawings_scenes_vary_together_as_sums_over_drawings() -> None:
    rng = np.random.default_rng(2)
    sizes = [1, 2, 7, 3, 1, 4]
    units = rng.permutation(np.repeat(np.arange(6), sizes))
    strengths = np.array([0.0, 0.5, 1.0])

    def outcomes(keys: SampleKeys) -> Outcomes:
        answers = rng.random((len(units), 3)) < 0.6
        clean = rng.random(len(units)) < 0.9
        return Outcomes(
            *({"clean": clean, "answers": answers}, mean),
            parameters={"strengths": strengths.tolist()},
            keys=keys,
        )

    def excess(own: Outcomes, column: int, allowed: float | None) -> np.ndarray:
        clean, answers = own["clean"].astype(float), own["answers"][:, column]
        return np.asarray(clean - answers - (clean / 2 if allowed is None else allowed))

    clustered, single = keys_of(len(units), units), keys_of(len(units))
    before, after = outcomes(clustered), outcomes(clustered)
    for allowed in (None, 0.1):
        one, other = excess(before, 1, allowed), excess(after, 2, allowed)
        sums = [
            [float((part - part.mean())[units == unit].sum()) for unit in range(6)]
            for part in (one, other)
        ]
        found = figures_of_frontier._correlation(before, after, (0.5, 1.0), allowed)
        assert found == pytest.approx(np.corrcoef(sums[0], sums[1])[0, 1])
        apart = figures_of_frontier._correlation(
            before.of(single), after.of(single), (0.5, 1.0), allowed
        )
        assert apart == pytest.approx(np.corrcoef(one, other)[0, 1])
    same = figures_of_frontier._correlation(before, before, (0.5, 0.5), None)
    assert same == figures_of_frontier.MOST_SHARED < 1.0


def test_a_frontier_at_the_mildest_end_has_the_design_effect_that_holds_there() -> None:
    """Half of the drawings are lost there whole, and beyond it every other scene of each."""
    units = np.repeat(np.arange(20), 4)
    whole, scattered = units % 2 == 0, np.arange(80) % 2 == 0
    answers = np.stack([np.ones(80, dtype=np.bool_), whole, scattered, scattered], axis=1)
    ids = tuple(map(str, range(80)))
    settings = Bootstrap(keys=SampleKeys(ids, tuple(map(str, units))))
    figure = frontier_strength_figure(np.array([0.0, 0.5, 1.0]), answers, 0.1, {}, settings)
    assert figure.value == 0.0
    assert figure.design_effect == pytest.approx(4.0, rel=0.1)


def test_a_frontier_of_known_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty of twenty-five are right; eight give way beyond 0.3, six more beyond 0.9."""
    clip = GivingWay([-1.0] * 5 + [0.3] * 8 + [0.9] * 6 + [2.0] * 6)
    monkeypatch.setattr(registry, "get", {"made": MADE}.__getitem__)
    verdict: Any = SimpleNamespace(status="fail")
    asked: list[Condition] = []

    def known(condition: Condition) -> float:
        asked.append(condition)
        return 0.08

    found = frontier(clip.any, clip.clean(), "made", allowed=known)
    figure, details = found.figure, found.figure.details
    assert asked == [Condition("clean", limit=25, label="made")]
    # Bisected to a thirty-second, and a quarter of the way from no drop to 0.32.
    assert details["bracket"] == [0.28125, 0.3125]
    assert figure.value == pytest.approx(0.28125 + 0.25 / 32)
    assert (figure.n, details["clean_accuracy"]) == (25, 0.8)
    assert details["allowed_drop"] == 0.08
    assert details["parameters"] == {"amount": 0.28125}
    accuracies = {0.0: 0.8, 0.25: 0.8, 0.28125: 0.8, 0.3125: 0.48, 0.375: 0.48}
    accuracies |= {0.5: 0.48, 0.75: 0.48, 1.0: 0.24}
    curve = {strength: pytest.approx(value) for strength, value in accuracies.items()}
    assert dict(details["curve"]) == curve
    assert figure.condition is not None
    assert [one.steps[0].parameters for one in figure.condition.over] == [
        (("amount", strength),) for strength in accuracies
    ]
    kept, beyond = found.explain(verdict).lines
    assert kept == ("frontier", "a drop of 0.08 is kept up to amount=0.2812")
    assert beyond[0] == "beyond"
    assert beyond[1].startswith("drop 0.320 [")
    assert beyond[1].endswith("] at amount=0.3125")
    assert found.explain(verdict).parameters == {"amount": 0.3125}

    # Half of the accuracy where nobody says: 0.4, a quarter of the way from 0.32 to 0.56 and a third more.
    half = frontier(clip.any, clip.clean(), "made", tolerance=0.25).figure
    assert half.details["bracket"] == [0.75, 1.0]
    assert half.value == pytest.approx(0.75 + 0.25 * (0.4 - 0.32) / 0.24)
    fixed = frontier(clip.any, clip.clean(), "made", allowed=0.4, tolerance=0.25).figure
    assert fixed.value == half.value
    assert (fixed.low, fixed.high) != (half.low, half.high)

    # All of the envelope, or nothing of it.
    whole = frontier(clip.any, clip.clean(), "made", allowed=0.6)
    assert whole.figure.value == 1.0
    assert whole.explain(verdict).parameters == {"amount": 1.0}
    never = frontier(clip.any, clip.clean(), "made", allowed=-0.1)
    assert never.figure.value == 0.0
    first, _ = never.explain(verdict).lines
    assert first == ("frontier", "a drop of -0.1 is broken at the mildest end already")
    assert never.explain(verdict).parameters == {"amount": 0.0}
    assert never.figure.details["parameters"] == {"amount": 0.0}


def at(*numbers: tuple[float, float, float]) -> tuple[tuple[float, Point], ...]:
    """Return points by strength: the value, and how far its interval reaches down and up."""
    return tuple(
        (i / 4, Point({"x": i / 4}, value, value - down, value + up))
        for i, (value, down, up) in enumerate(numbers)
    )


@pytest.mark.parametrize(
    ("points", "said"),
    [
        # An interval that reaches the bound has not failed; nor does one hold again that only reaches it.
        (
            at((0.9, 0, 0), (0.4, 0, 0.1), (0.7, 0, 0)),
            "accuracy rises by 0.3 from strength 0.25 to 0.5",
        ),
        (
            at((0.9, 0, 0), (0.4, 0, 0.0), (0.5, 0, 0)),
            "fails at strength 0.25 and holds again at 0.5",
        ),
        (at((0.9, 0, 0), (0.45, 0, 0.04), (0.51, 0.02, 0)), ""),
        # The first failure is the one that is named.
        (
            at((0.9, 0, 0), (0.4, 0, 0), (0.3, 0, 0), (0.6, 0, 0)),
            "fails at strength 0.25 and holds again at 0.75",
        ),
        # A rise is one from the lowest point so far, beyond its interval, and the first is told.
        (at((0.9, 0, 0), (0.7, 0, 0.05), (0.8, 0.05, 0)), ""),
        (
            at((0.9, 0, 0), (0.7, 0, 0), (0.8, 0, 0), (0.6, 0, 0), (0.85, 0, 0)),
            "accuracy rises by 0.1 from strength 0.25 to 0.5",
        ),
        (at((0.9, 0, 0), (0.7, 0, 0), (0.7, 0, 0)), ""),
    ],
)
def test_what_is_not_monotone(points: tuple[tuple[float, Point], ...], said: str) -> None:
    assert module._not_monotone(points, 0.5) == said


def test_the_smallest_grid_and_the_widest_bracket() -> None:
    found = robustness_frontier(ONE, curve({0.0: 0.8, 1.0: 0.2}, 0.0), 0.5, grid=1, tolerance=1.0)
    assert (found.bracket, found.strength, len(found.curve)) == ((0.0, 1.0), 0.0, 2)


@pytest.mark.slow
def test_the_frontier_of_a_model_and_what_its_failure_shows(tmp_path: Path) -> None:
    clip = Evaluation(RunConfig(("reference",), cache_dir=tmp_path), "reference")
    clean = clip.on("clean", limit=24)
    verdict: Any = SimpleNamespace(status="fail")
    asked: list[Condition] = []

    def nothing_known(condition: Condition) -> float | None:
        asked.append(condition)
        return None

    found = frontier(clip, clean, "contrast", allowed=nothing_known, tolerance=0.25)
    (condition,) = asked
    assert (condition.dataset, condition.perturbation, condition.severity) == (
        "clean",
        "contrast",
        None,
    )
    half, details = found.figure, found.figure.details
    accuracy = float(clean.correct.mean())
    assert details["allowed_drop"] == accuracy / 2
    assert half == frontier(clip, clean, "contrast", tolerance=0.25).figure
    assert half.condition is not None
    assert (half.condition.dataset, half.condition.label) == ("clean", "contrast")
    assert [view.steps[0].perturbation for view in half.condition.over] == ["contrast"] * 5
    strengths, accuracies = zip(*details["curve"], strict=True)
    assert strengths == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert details["clean_accuracy"] == accuracy
    drops = accuracy - np.array(accuracies)
    assert half.value == first_crossing(np.array(strengths), drops, accuracy / 2)
    assert half.low < half.value < half.high
    (kept, beyond) = found.explain(verdict).lines
    assert kept[1].startswith(f"a drop of {accuracy / 2:.3g} is kept up to gain=")
    assert beyond[0] == "beyond"
    # The first point past the bracket is the one that is shown.
    high = details["bracket"][1]
    assert found.explain(verdict).parameters == at_strength(registry.get("contrast"), high)
    assert beyond[1].startswith(f"drop {drops[strengths.index(high)]:.3f} [")

    # A drop given as a number is the same in every resample; none at all is broken at once.
    given = frontier(clip, clean, "contrast", allowed=accuracy / 2, tolerance=0.25).figure
    assert given.value == half.value
    assert (given.low, given.high) != (half.low, half.high)
    never = frontier(clip, clean, "contrast", allowed=lambda condition: -0.5)
    assert never.figure.value == 0.0
    assert never.explain(verdict).lines[0][1] == (
        "a drop of -0.5 is broken at the mildest end already"
    )
    with pytest.raises(ClipRobustError, match="starts from samples as they are"):
        frontier(clip, clip.on("clean", "fog", 1, limit=24), "contrast")


def recovering(told: Callable[[], None]) -> Perturbation:
    """Black in the middle of its envelope, harmless at its ends."""

    def blink(images: Tensor, *, amount: float) -> Tensor:
        told()
        return images * (abs(amount - 0.5) > 0.2)

    return Perturbation("blink", blink, "mine", envelope={"amount": (0.0, 1.0)})


@pytest.mark.slow
def test_warnings_of_a_users_perturbation_get_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frontier is not monotone, which is told as a note; what others warn of is theirs."""
    made = recovering(lambda: warnings.warn("told by the user's own code", stacklevel=1))
    monkeypatch.setattr(registry, "get", lambda name: made)
    clip = Evaluation(RunConfig(("reference",), cache_dir=tmp_path), "reference")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = frontier(clip, clip.on("clean", limit=12), "blink", tolerance=0.5)
    assert {str(warning.message) for warning in caught} == {"told by the user's own code"}
    assert "accuracy rises by" in found.figure.details["warning"]
    verdict: Any = SimpleNamespace(status="fail")
    assert found.explain(verdict).lines[-1] == ("note", found.figure.details["warning"])
