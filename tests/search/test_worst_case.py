"""The worst-case search on functions whose answer is known, and the drop of a model."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from search_helpers import MADE, GivingWay
from torch import Tensor

from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.engine.evaluation import Evaluation, RunConfig
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.perturbations.registry import Perturbation
from pytest_cliprobust.search import worst_case as module
from pytest_cliprobust.search.envelope import Evaluate, Points, at_strength
from pytest_cliprobust.search.worst_case import WorstCase, split, worst_case, worst_case_drop

TWO = Perturbation(
    "made_up", lambda images: images, "t", envelope={"blur": (0.0, 4.0), "keep": (1.0, 0.2)}
)


def severity(p: Mapping[str, float]) -> float:
    """How strong the parameters are: 0 at the mildest corner, 2 at the strongest."""
    return p["blur"] / 4 + (1 - p["keep"]) / 0.8


def falling(slope: float) -> Callable[[Mapping[str, float]], float]:
    return lambda p: 0.9 - slope * severity(p)


def search(evaluate: Evaluate, bound: float, **options: Any) -> WorstCase:
    return worst_case(TWO, Points(evaluate), bound, **options)


# --- The search ------------------------------------------------------------------------------------


def test_a_bound_that_holds_everywhere() -> None:
    result = search(falling(0.1), 0.6)
    assert result.mildest_failure is None
    assert result.mildest_strengths == {}
    assert not result.exhausted
    assert result.worst.value == pytest.approx(0.7)  # the strongest corner is always looked at
    assert result.worst.parameters == {"blur": 4.0, "keep": 0.2}
    assert result.worst_strengths == {"blur": 1.0, "keep": 1.0}


def test_a_failure_is_shrunk_to_the_mildest() -> None:
    result = search(falling(0.2), 0.65, max_evaluations=200)
    assert result.mildest_failure is not None
    assert result.mildest_failure.high < 0.65
    strengths = result.mildest_strengths
    assert result.mildest_failure.parameters == at_strength(TWO, strengths)
    total = strengths["blur"] + strengths["keep"]
    # It breaks beyond a total of 1.25: the found point is within a step or two of that line.
    assert 1.25 < total <= 1.25 + 2 / 256
    assert result.worst.value == pytest.approx(0.5)


def test_a_failure_in_the_middle_of_the_envelope_is_found() -> None:
    def valley(p: Mapping[str, float]) -> float:
        # Both corners are fine; the accuracy dips around blur 2.6, keep 0.5.
        away = (p["blur"] / 4 - 0.65) ** 2 + ((1 - p["keep"]) / 0.8 - 0.625) ** 2
        return 0.9 - 0.5 * math.exp(-away / 0.08)

    result = search(valley, 0.5, seed=2, max_examples=60)
    assert result.mildest_failure is not None
    assert result.mildest_failure.value < 0.5
    assert result.worst.value <= result.mildest_failure.value
    # No single step back of either parameter still fails.
    for name in TWO.envelope:
        milder = dict(result.mildest_strengths)
        milder[name] -= 1 / 256
        assert valley(at_strength(TWO, milder)) >= 0.5


def test_a_failure_at_the_strongest_corner_alone_is_found_and_kept() -> None:
    result = search(lambda p: 0.1 if severity(p) > 1.999 else 0.9, 0.5, max_examples=5)
    assert result.mildest_strengths == {"blur": 1.0, "keep": 1.0}


def test_equal_seeds_give_equal_searches() -> None:
    def run(seed: int) -> tuple[WorstCase, list[tuple[float, float]]]:
        asked: list[tuple[float, float]] = []

        def evaluate(p: Mapping[str, float]) -> float:
            asked.append((p["blur"], p["keep"]))
            return 0.9 - 0.2 * severity(p)

        return search(evaluate, 0.65, seed=seed), asked

    first, second, other = run(1), run(1), run(2)
    assert first == second
    assert first[1] != other[1]
    assert len(set(first[1])) == len(first[1]) == first[0].evaluations  # never asked twice


def test_the_search_does_not_touch_the_global_random_state() -> None:
    random.seed(3)
    torch.manual_seed(3)
    expected = random.random(), torch.rand(1)
    random.seed(3)
    torch.manual_seed(3)
    search(falling(0.2), 0.65, max_examples=5)
    assert (random.random(), torch.rand(1)) == expected


def test_the_budget_is_kept_and_reported() -> None:
    points = Points(falling(0.1))
    points({"blur": 1.0, "keep": 1.0})  # what is known from before is not this search's
    result = worst_case(TWO, points, 0.5, max_examples=200, max_evaluations=10)
    assert result.exhausted
    assert result.evaluations == points.calls - 1 == 10
    failing = search(falling(0.2), 0.65, max_examples=200, max_evaluations=6)
    assert failing.exhausted
    assert failing.evaluations == 12
    assert failing.mildest_failure is not None
    assert failing.mildest_failure.value < 0.65
    again = worst_case(TWO, points, 0.5, max_examples=1, max_evaluations=2)
    assert again.evaluations == 0  # both corners are known
    assert not again.exhausted or again.worst == result.worst


def test_with_intervals_only_a_whole_interval_below_fails() -> None:
    def evaluate(p: Mapping[str, float]) -> Figure:
        value = 0.9 - 0.1 * severity(p)
        return Figure("accuracy", value, value - 0.05, value + 0.05, n=100)

    assert search(evaluate, 0.72).mildest_failure is None
    failure = search(evaluate, 0.76).mildest_failure
    assert failure is not None
    assert failure.high < 0.76


def test_a_starting_point_is_looked_at_first() -> None:
    def dip(p: Mapping[str, float]) -> float:
        # So narrow that a short search does not come across it.
        near = abs(p["blur"] / 4 - 0.63) < 0.004 and abs((1 - p["keep"]) / 0.8 - 0.41) < 0.004
        return 0.1 if near else 0.9

    assert search(dip, 0.5, max_examples=3).mildest_failure is None
    start = [{"blur": 0.63, "keep": 0.41}]
    found = search(dip, 0.5, max_examples=3, resolution=100, start=start)
    assert found.mildest_strengths == {"blur": 0.63, "keep": 0.41}
    assert found.worst_strengths == {"blur": 0.63, "keep": 0.41}


def test_of_equally_bad_points_the_mildest_is_the_worst() -> None:
    found = search(lambda p: 0.4, -math.inf, max_examples=5)
    assert found.worst_strengths == {"blur": 0.0, "keep": 0.0}
    assert found.mildest_failure is None


def test_mistakes_name_culprit_and_remedy() -> None:
    bare = Perturbation("made_up", lambda images: images, "t")
    with pytest.raises(ClipRobustError, match="'made_up' has no envelope"):
        worst_case(bare, Points(lambda p: 1.0), 0.5)
    for budget in ({"max_evaluations": 1}, {"max_examples": 0}, {"resolution": 0}):
        with pytest.raises(ClipRobustError, match="at least 2"):
            search(lambda p: 1.0, 0.5, **budget)
    with pytest.raises(ClipRobustError, match="not a number"):
        search(lambda p: math.nan if 0 < p["blur"] < 4 else 0.9, 0.5)


# --- The drop of a model ---------------------------------------------------------------------------


def test_samples_are_searched_on_or_confirmed_on_but_never_both() -> None:
    whole = EmbeddedDataset("clean", limit=30, size=32)
    search_on, confirm_on = split(whole, 64)
    assert (len(search_on), len(confirm_on)) == (10, 20)
    assert search_on.ids + confirm_on.ids == whole.ids
    assert len(split(whole, 4)[0]) == 4
    assert len(split(EmbeddedDataset("clean", limit=3, size=32))[0]) == 1
    with pytest.raises(ClipRobustError, match="too few for this property"):
        split(EmbeddedDataset("clean", limit=2, size=32))


def verdict(status: str, kind: str, limit: float) -> Any:
    return SimpleNamespace(
        status=status, kind=kind, limit=limit, bound=f"{kind} {limit}", confidence=0.9
    )


def test_the_worst_drop_is_confirmed_on_other_samples_and_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of ten samples that are searched on half give way at 0.3, of twenty others six do at 0.62."""
    limits = [-1.0, *[0.3] * 5, *[2.0] * 4, *[-1.0] * 4, *[0.62] * 6, *[2.0] * 10]
    clip = GivingWay(limits)
    monkeypatch.setattr(registry, "get", {"made": MADE}.__getitem__)
    searches: list[tuple[float, dict[str, Any], Points]] = []

    def spy(perturbation: Perturbation, points: Points, bound: float, **options: Any) -> WorstCase:
        searches.append((bound, options, points))
        return worst_case(perturbation, points, bound, **options)

    monkeypatch.setattr(module, "worst_case", spy)
    found = worst_case_drop(clip.any, clip.clean(), "made", examples=6)
    worst = found.figure.details["parameters"]["amount"]
    # The mildest amount that was looked at beyond 0.3 is as bad as any.
    assert worst == min(amount for amount in clip.asked if amount > 0.3)
    lost = 6 if worst > 0.62 else 0
    assert found.figure.n == 20
    assert found.figure.value == pytest.approx(lost / 20)
    told = {
        "parameters": {"amount": worst},
        "strengths": {"amount": worst},
        "searched_on": 10,
        "drop_while_searching": 0.5,
        "evaluations": searches[0][2].calls,
        "seed": 4,
    }
    assert {name: found.figure.details[name] for name in told} == told
    expected = {"seed": 4, "max_examples": 6, "max_evaluations": 8, "resolution": 100}
    assert searches[0][:2] == (-math.inf, expected)
    over = (Condition("clean", (Step("made", None, (("amount", worst),)),), 30),)
    assert found.figure.condition == Condition("clean", limit=30, over=over, label="made")

    ends = f"drop {found.figure.value:.3f} [{found.figure.low:.3f}, {found.figure.high:.3f}]"
    line = ("worst", f"{ends} at amount={worst:.4g}")
    for other in (
        verdict("inconclusive", "max", 0.0),
        verdict("fail", "min", 0.5),
        verdict("fail", "max_increase", 0.0),
    ):
        shown = found.explain(other)
        assert (shown.lines, shown.parameters) == ((line,), {"amount": worst})
    assert len(searches) == 1
    # The interval of six of twenty lies beyond 0.05, and that of none never does.
    shown = found.explain(verdict("fail", "max", 0.05))
    bound, options, points = searches[1]
    assert (bound, options.pop("start")) == (-0.05, [{"amount": worst}])
    assert options == {"seed": 4, "max_examples": 3, "max_evaluations": 12, "resolution": 100}
    assert points({"amount": 1.0}).high < points({"amount": 1.0}).low + 1
    mildest = shown.parameters["amount"]
    assert 0.62 < mildest <= 0.64
    assert shown.lines[0][0] == "mildest"
    assert shown.lines[0][1].startswith("drop 0.300 [")
    assert shown.lines[0][1].endswith(
        f"at amount={mildest:.4g} (amount {mildest:.0%} of the envelope), the mildest that breaks the "
        "bound"
    )
    assert shown.lines[1] == line
    # A bound that nothing breaks wholly: the worst that was looked at.
    shown = found.explain(verdict("fail", "max", 0.9))
    assert [heading for heading, _ in shown.lines] == ["worst"]
    single = worst_case_drop(clip.any, clip.clean(), "made", examples=1)
    single.explain(verdict("fail", "max", 0.05))
    assert searches[-1][1]["max_examples"] == 1
    assert searches[-1][1]["max_evaluations"] == 2


@pytest.mark.parametrize(
    ("start", "broken", "found"),
    [
        # All together first, then one after the other.
        ((8, 4), lambda x, y: x + y >= 6, (4, 2)),
        ((8, 8), lambda x, y: x >= 3, (3, 0)),
        ((8, 8), lambda x, y: y >= 5, (0, 5)),
        ((8, 8), lambda x, y: True, (0, 0)),
        ((8, 8), lambda x, y: (x, y) == (8, 8), (8, 8)),
        ((0, 0), lambda x, y: True, (0, 0)),
        ((0, 7), lambda x, y: y >= 1, (0, 1)),
        # Half way the second is rounded to the even side.
        ((4, 1), lambda x, y: x >= 2 or y >= 1, (2, 0)),
    ],
)
def test_a_failure_is_walked_back_to_the_mildest(
    start: tuple[int, int], broken: Callable[[int, int], bool], found: tuple[int, int]
) -> None:
    asked: list[tuple[int, ...]] = []

    def fails(steps: tuple[int, ...]) -> bool:
        asked.append(steps)
        return broken(*steps)

    assert module._walk_back(start, fails) == found
    # Bisection: no more than the halvings of each range.
    assert len(asked) <= 3 * (max(start) + 1).bit_length() + 2


def test_the_smallest_search_there_is() -> None:
    found = search(falling(0.1), 0.0, max_evaluations=2, max_examples=1, resolution=1)
    assert found.evaluations == 2
    assert found.worst.value == pytest.approx(0.7)


@pytest.mark.slow
def test_the_worst_drop_of_a_model_is_confirmed_on_other_samples_and_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = Evaluation(RunConfig(("reference",), cache_dir=tmp_path, seed=4), "reference")
    clean = clip.on("clean", limit=36)
    searches: list[dict[str, Any]] = []

    def spy(perturbation: Perturbation, points: Points, bound: float, **options: Any) -> WorstCase:
        result = worst_case(perturbation, points, bound, **options)
        searches.append({"bound": bound, **options, "result": result})
        return result

    monkeypatch.setattr(module, "worst_case", spy)
    found = worst_case_drop(clip, clean, "contrast", examples=4, searched=10)
    figure = found.figure
    (first,) = searches
    assert (first["bound"], first["seed"], first["max_examples"]) == (-math.inf, 4, 4)
    assert (first["max_evaluations"], first["resolution"]) == (6, 100)
    assert (figure.metric, figure.n) == ("worst_case_drop", 26)
    details = figure.details
    gain = details["parameters"]["gain"]
    steps = (Step("contrast", None, (("gain", gain),)),)
    over = (Condition("clean", steps, 36),)
    assert figure.condition == Condition("clean", limit=36, over=over, label="contrast")
    under = clip.on("clean", "contrast", limit=36, gain=gain)
    expected = clean.correct[10:].mean() - under.correct[10:].mean()
    assert figure.value == pytest.approx(expected)
    searched = clean.correct[:10].mean() - under.correct[:10].mean()
    assert details["drop_while_searching"] == pytest.approx(searched)
    assert (details["searched_on"], details["seed"]) == (10, 4)
    assert details["evaluations"] == first["result"].evaluations <= 6

    # Shrinking happens for a broken maximum alone, at the level of the verdict.
    for other in (verdict("inconclusive", "max", -0.99), verdict("fail", "min", 0.5)):
        evidence = found.explain(other)
        assert [heading for heading, _ in evidence.lines] == ["worst"]
        assert evidence.parameters == details["parameters"]
    assert len(searches) == 1
    evidence = found.explain(verdict("fail", "max", -0.99))
    second = searches[1]
    assert (second["bound"], second["seed"], second["max_examples"]) == (0.99, 4, 2)
    assert (second["max_evaluations"], second["start"]) == (8, [details["strengths"]])
    mildest, worst = evidence.lines
    # Every drop breaks this bound, so the mildest end does.
    ((mildest_gain, _),) = [registry.get("contrast").envelope["gain"]]
    assert evidence.parameters == {"gain": mildest_gain}
    assert "(gain 0% of the envelope), the mildest that breaks the bound" in mildest[1]
    assert worst[1].startswith(f"drop {figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}] at")

    # A shrinking that ran out of budget says so.
    monkeypatch.setattr(
        module,
        "worst_case",
        lambda *_, **__: WorstCase(**{**vars(second["result"]), "exhausted": True}),
    )
    tired = found.explain(verdict("fail", "max", -0.99))
    assert [heading for heading, _ in tired.lines] == ["mildest", "worst", "note"]
    # So does one that finds nothing at this level: the worst is shown.
    nothing = WorstCase(**{**vars(second["result"]), "mildest_failure": None})
    monkeypatch.setattr(module, "worst_case", lambda *_, **__: nothing)
    shown = found.explain(verdict("fail", "max", -0.99))
    assert [heading for heading, _ in shown.lines] == ["worst"]
    assert shown.parameters == second["result"].worst.parameters

    with pytest.raises(ClipRobustError, match="starts from samples as they are"):
        worst_case_drop(clip, under, "contrast")


@pytest.mark.slow
def test_warnings_of_a_users_perturbation_get_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def darker(images: Tensor, *, amount: float) -> Tensor:
        warnings.warn(f"told by the user's own code: {amount}", stacklevel=1)
        return images * (1 - amount)

    made = Perturbation("darker", darker, "mine", envelope={"amount": (0.0, 0.5)})
    monkeypatch.setattr(registry, "get", lambda name: made)
    clip = Evaluation(RunConfig(("reference",), cache_dir=tmp_path), "reference")
    with pytest.warns(UserWarning, match="told by the user's own code"):
        worst_case_drop(clip, clip.on("clean", limit=6), "darker", examples=2)
