"""PGD and APGD on a tiny model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.perturbations import random
from pytest_cliprobust.search import apgd as module
from pytest_cliprobust.targets.base import Target, TargetInfo

CLASSES, DIM = 6, 16


class TinyTarget:
    """A target with a small random network behind a resize and a normalisation."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.info = TargetInfo("tiny", "tiny", "", "0")
        self.device = torch.device("cpu")
        self.image_size = (12, 12)
        self.embed_dim = DIM
        self.logit_scale = 50.0
        self.logit_bias: float | None = None
        self.probability: Literal["softmax", "sigmoid"] = "softmax"
        self.first = nn.Conv2d(3, 8, 3, stride=2)
        self.second = nn.Linear(8 * 25, DIM)
        for parameter in (*self.first.parameters(), *self.second.parameters()):
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3

    def frame(self, image: Tensor, size: int) -> Tensor:
        return image[:, :size, :size]

    def preprocess(self, images: Tensor) -> Tensor:
        small = nn.functional.interpolate(images, self.image_size, mode="bilinear")
        return (small - 0.5) / 0.25

    def encode_image(self, pixels: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(pixels)).flatten(1)
        return nn.functional.normalize(self.second(hidden), dim=1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        raise NotImplementedError

    def dense_features(self, pixels: Tensor) -> Tensor:
        raise NotImplementedError


TARGET = TinyTarget()
HEAD = nn.functional.normalize(
    torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(5)), dim=1
)
IMAGES = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(1))
SEEDS = torch.arange(24) * 101 + 3


def logits(x: Tensor) -> Tensor:
    return TARGET.logit_scale * TARGET.encode_image(TARGET.preprocess(x)) @ HEAD.T


with torch.no_grad():
    LABELS = logits(IMAGES).argmax(1)
    LABELS[::6] = (LABELS[::6] + 1) % CLASSES  # some samples are wrong from the start


def loss(x: Tensor, rows: slice | list[int] = slice(None)) -> Tensor:
    return module.cross_entropy(logits(x), LABELS[rows])


def distance(a: Tensor, b: Tensor, norm: str) -> Tensor:
    delta = (a.double() - b.double()).flatten(1)
    return delta.abs().amax(1) if norm == "linf" else delta.square().sum(1).sqrt()


@pytest.mark.parametrize("attack", [module.pgd, module.apgd])
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 4 / 255), ("l2", 0.5)])
@pytest.mark.parametrize("seeds", [None, SEEDS])
def test_the_result_stays_in_the_ball_and_never_lowers_the_loss(
    attack: Callable[..., Tensor], norm: str, epsilon: float, seeds: Tensor | None
) -> None:
    result = attack(IMAGES, loss, epsilon=epsilon, steps=5, norm=norm, seeds=seeds)
    assert (distance(result, IMAGES, norm) <= epsilon).all()
    assert result.min() >= 0
    assert result.max() <= 1
    with torch.no_grad():
        before, after = loss(IMAGES), loss(result)
    assert (after >= before - 1e-5).all()
    assert (after > before + 1e-3).float().mean() > 0.7
    assert not result.requires_grad


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["linf", "l2"]),
    st.floats(1e-4, 3.0),
    st.integers(0, 2**31),
)
def test_projection_is_exact(norm: str, epsilon: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    origin = torch.rand(3, 3, 7, 5, generator=generator)
    ball = module._ball(origin, epsilon, 1, norm)
    point = ball.project(origin + torch.randn(origin.shape, generator=generator) * 2)
    assert (distance(point, origin, norm) <= epsilon).all()
    assert point.min() >= 0
    assert point.max() <= 1
    start = ball.start(torch.arange(3) + seed)
    assert (distance(start, origin, norm) <= epsilon).all()
    # What lies well inside is not moved.
    inside = origin + (ball.project(origin * 0.5) - origin) * 0.1
    assert torch.allclose(ball.project(inside), inside, atol=1e-6)


def test_linear_loss_reaches_the_known_optimum() -> None:
    images = torch.full((2, 3, 4, 4), 0.5)
    slope = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))

    def linear(x: Tensor) -> Tensor:
        return (x * slope).sum(dim=(1, 2, 3))

    for attack in (module.pgd, module.apgd):
        linf = attack(images, linear, epsilon=0.1, steps=10, norm="linf")
        assert torch.allclose(linf, images + 0.1 * slope.sign(), atol=1e-6)
        l2 = attack(images, linear, epsilon=0.4, steps=10, norm="l2")
        best = images + 0.4 * slope / module.l2_norm(slope)
        assert torch.allclose(l2, best, atol=1e-3)


def test_samples_do_not_influence_each_other() -> None:
    # An elementwise loss has no batch-dependent kernel, so equality is to the bit.
    peak = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(9))

    def near(rows: list[int]) -> Callable[[Tensor], Tensor]:
        target = peak[rows]
        return lambda x: -(x - target).abs().sum(-1).sum(-1).sum(-1)

    everything = list(range(24))
    for attack in (module.pgd, module.apgd):
        for norm, epsilon in (("linf", 0.05), ("l2", 0.8)):
            settings_: dict[str, Any] = {"epsilon": epsilon, "steps": 6, "norm": norm}
            whole = attack(IMAGES, near(everything), seeds=SEEDS, **settings_)
            for rows in ([7], [11, 2, 5]):
                part = attack(IMAGES[rows], near(rows), seeds=SEEDS[rows], **settings_)
                assert torch.equal(part, whole[rows])


def test_seeds_decide_the_random_start() -> None:
    def flat(x: Tensor) -> Tensor:
        return x.sum(dim=(1, 2, 3)) * 0 + torch.arange(len(x))

    ball = module._ball(IMAGES, 0.1, 1, "linf")
    assert torch.equal(ball.start(SEEDS), ball.start(SEEDS))
    assert not torch.equal(ball.start(SEEDS), ball.start(SEEDS + 1))
    # Nothing beats the clean image, so it is kept.
    assert torch.equal(module.pgd(IMAGES, flat, epsilon=0.1, steps=2, seeds=SEEDS), IMAGES)


def test_epsilon_zero_is_the_identity() -> None:
    for attack in (module.pgd, module.apgd):
        assert torch.equal(attack(IMAGES, loss, epsilon=0.0, steps=2, seeds=SEEDS), IMAGES)


def test_apgd_checkpoints_are_those_of_the_paper() -> None:
    # Croce & Hein 2020: 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 of the iterations.
    assert module.checkpoints(100) == (0, 22, 41, 57, 70, 80, 87, 93, 99)
    assert module.checkpoints(10) == (0, 3, 5, 6, 7, 8, 9, 10)


def test_apgd_needs_no_tuned_step() -> None:
    settings_: dict[str, Any] = {"epsilon": 8 / 255, "steps": 20}
    with torch.no_grad():
        auto = loss(module.apgd(IMAGES, loss, **settings_)).mean()
        coarse = loss(module.pgd(IMAGES, loss, step_size=16 / 255, **settings_)).mean()
    assert auto > coarse


def test_dlr_is_invariant_to_scale_and_shift() -> None:
    z = torch.randn(8, 5, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(8) % 5
    value = module.difference_of_logits_ratio(z, labels)
    assert torch.allclose(value, module.difference_of_logits_ratio(z * 7 + 3, labels), atol=1e-4)
    ordered = z.sort(dim=1, descending=True).values
    right = z.argmax(1) == labels
    by_hand = (ordered[:, 1] - ordered[:, 0]) / (ordered[:, 0] - ordered[:, 2])
    assert torch.allclose(value[right], by_hand[right])
    assert (value[~right] > 0).all()
    with pytest.raises(ClipRobustError, match="at least 3 classes"):
        module.difference_of_logits_ratio(z[:, :2], labels % 2)


@pytest.mark.parametrize("attack", ["pgd", "apgd"])
@pytest.mark.parametrize("name", list(module.LOSSES))
def test_adversarial_accuracy_falls_with_epsilon(attack: Literal["pgd", "apgd"], name: str) -> None:
    assert isinstance(TARGET, Target)
    accuracies = []
    for epsilon in (0.0, 2 / 255, 16 / 255):
        result = module.adversarial_accuracy(
            TARGET, HEAD, IMAGES, LABELS, epsilon=epsilon, steps=6, attack=attack, loss=name
        )
        assert torch.equal(result.clean, torch.arange(24) % 6 != 0)
        assert not (result.robust & ~result.clean).any()
        assert (result.distance <= epsilon).all()
        accuracies.append(float(result.robust.float().mean()))
    assert accuracies[0] == pytest.approx(20 / 24)
    assert accuracies[0] > accuracies[1] > accuracies[2]


def test_adversarial_accuracy_works_inside_inference_mode_and_with_a_function_as_head() -> None:
    expected = module.adversarial_accuracy(TARGET, HEAD, IMAGES, LABELS, steps=3, seeds=SEEDS)
    with torch.inference_mode():
        inference_images, head = IMAGES * 1.0, HEAD * 1.0
        result = module.adversarial_accuracy(
            TARGET, head, inference_images, LABELS, steps=3, seeds=SEEDS
        )
    assert torch.equal(result.images, expected.images)
    as_function = module.adversarial_accuracy(
        TARGET, lambda f: TARGET.logit_scale * f @ HEAD.T, IMAGES, LABELS, steps=3, seeds=SEEDS
    )
    assert torch.equal(as_function.robust, expected.robust)
    two = module.adversarial_accuracy(TARGET, HEAD[:2], IMAGES, LABELS % 2, steps=3, norm="l2")
    assert two.robust.shape == (24,)
    assert (two.distance <= 4 / 255 + 1e-6).all()


# --- Step by step ------------------------------------------------------------------------------------


def test_losses_of_known_logits() -> None:
    z = torch.tensor([[1.0, 3.0, 2.0, 0.0], [5.0, 5.0, 5.0, 1.0]])
    labels = torch.tensor([2, 3])
    assert module.margin(z, labels).tolist() == [1.0, 4.0]
    assert module.margin(z, torch.tensor([1, 0])).tolist() == [-1.0, 0.0]
    # Its divisor is the largest less the third logit, and where all three are equal a tiny number.
    ratio = module.difference_of_logits_ratio(z, labels)
    assert ratio.tolist() == pytest.approx([0.5, 4e12])
    expected = [math.log(sum(math.exp(v) for v in row)) - row[0] for row in z.tolist()]
    found = module.cross_entropy(z, torch.tensor([0, 0]))
    assert found.tolist() == pytest.approx(expected)
    assert module.l2_norm(torch.full((2, 3, 2, 2), 0.5)).shape == (2, 1, 1, 1)
    assert module.l2_norm(torch.full((2, 3, 2, 2), 0.5)).flatten().tolist() == pytest.approx(
        [math.sqrt(3.0)] * 2
    )


def test_the_balls_radius_is_smaller_by_rounding_alone() -> None:
    origin = torch.full((1, 3, 4, 4), 0.5)
    for norm, slack in (("linf", 2e-7), ("l2", 5e-6)):
        radius = module._ball(origin, 0.5, 1, norm).radius
        assert 0.5 - slack < radius < 0.5
        assert module._ball(origin, 0.0, 1, norm).radius == 0.0
    point = origin.clone()
    point[0, 0, 0, 0], point[0, 1, 0, 0] = 0.8, 0.45
    box = module._ball(origin, 0.1, 1, "linf").project(point)
    assert box[0, :3, 0, 0].tolist() == pytest.approx([0.6, 0.45, 0.5])
    # Three tenths and a twentieth apart: both are shortened alike.
    sphere = module._ball(origin, 0.1, 1, "l2").project(point)
    share = 0.1 / math.hypot(0.3, 0.05)
    assert sphere[0, :3, 0, 0].tolist() == pytest.approx(
        [0.5 + share * 0.3, 0.5 - share * 0.05, 0.5], abs=1e-5
    )
    slope = torch.zeros(1, 3, 4, 4)
    slope[0, 0, 0, 0], slope[0, 1, 0, 0] = 3.0, -4.0
    up = module._ball(origin, 0.1, 1, "l2").ascend(slope)
    assert up[0, :3, 0, 0].tolist() == pytest.approx([0.6, -0.8, 0.0])
    signs = module._ball(origin, 0.1, 1, "linf").ascend(slope)
    assert signs[0, :3, 0, 0].tolist() == [1.0, -1.0, 0.0]


def test_random_starts_are_uniform_in_the_ball() -> None:
    origin = torch.full((4000, 3, 1, 1), 0.5, dtype=torch.float64)
    seeds = torch.arange(4000)
    box = module._ball(origin, 0.2, 1, "linf").start(seeds) - origin
    assert float(box.abs().max()) == pytest.approx(0.2, abs=0.001)
    assert float(box.abs().mean()) == pytest.approx(0.1, abs=0.002)
    assert float(box.mean()) == pytest.approx(0.0, abs=0.003)
    drawn = random.uniform(seeds, (3, 1, 1), -1.0, 1.0, stream=20, dtype=torch.float64)
    assert torch.allclose(box, 0.2 * drawn, atol=1e-6)  # as drawn from the seeds, not mirrored
    # In three dimensions half of the ball lies within 0.794 of its radius, and the mean is 3/4 of it.
    sphere = module._ball(origin, 0.2, 1, "l2").start(seeds) - origin
    lengths = module.l2_norm(sphere).flatten() / 0.2
    assert float(lengths.max()) == pytest.approx(1.0, abs=0.001)
    assert float(lengths.mean()) == pytest.approx(0.75, abs=0.01)
    directions = random.normal(seeds, (3, 1, 1), stream=20, dtype=torch.float64)
    assert ((sphere > 0) == (directions > 0)).all()
    assert float((lengths < 0.5 ** (1 / 3)).double().mean()) == pytest.approx(0.5, abs=0.02)
    assert sphere.mean(dim=0).flatten().tolist() == pytest.approx([0.0] * 3, abs=0.005)


def seen_by(asked: list[list[float]], peak: Tensor, score: float | None = None) -> module.Loss:
    """Return a loss that falls with the distance from ``peak``, and notes the first channel it is asked at.

    With ``score`` the iterate nearest to that is kept.
    """

    def loss(x: Tensor) -> Any:
        asked.append(x[:, 0, 0, 0].tolist())
        value = -(x - peak).abs().sum(dim=(1, 2, 3))
        return value if score is None else (value, -(x[:, 0, 0, 0] - score).abs())

    return loss


def test_the_steps_of_pgd() -> None:
    images = torch.full((1, 3, 1, 1), 0.5, dtype=torch.float64)
    peak = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64).view(1, 3, 1, 1)
    asked: list[list[float]] = []
    found = module.pgd(images, seen_by(asked, peak), epsilon=0.1, steps=4)
    # Two and a half radii in four steps, and back to the ball: twice the clean image, then each iterate.
    assert [x for (x,) in asked] == pytest.approx([0.5, 0.5, 0.5625, 0.6, 0.6, 0.6])
    assert found.flatten().tolist() == pytest.approx([0.6, 0.4, 0.5])
    asked.clear()
    best = module.pgd(
        images, seen_by(asked, peak, 0.54), epsilon=0.1, steps=3, step_size=0.04
    ).flatten()
    assert [x for (x,) in asked] == pytest.approx([0.5, 0.5, 0.54, 0.58, 0.6])
    assert best.tolist() == pytest.approx([0.54, 0.46, 0.5])
    # The last iterate may be the best one, too.
    last = module.pgd(images, seen_by([], peak, 0.58), epsilon=0.1, steps=2, step_size=0.04)
    assert float(last[0, 0, 0, 0]) == pytest.approx(0.58)


def auto_pgd(image: float, peak: float, epsilon: float, steps: int) -> list[float]:
    """Return the iterates of algorithm 1 of Croce & Hein 2020 in one dimension, climbing -|x - peak|."""

    def value(x: float) -> float:
        return -abs(x - peak)

    def slope(x: float) -> float:
        return float(np.sign(peak - x))

    def project(x: float) -> float:
        return min(max(x, image - epsilon, 0.0), image + epsilon, 1.0)

    shares = [0.0, 0.22]
    while shares[-1] <= 1.0:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    marks = [math.ceil(share * steps - 1e-9) for share in shares]
    step = 2.0 * epsilon
    iterates = [image, project(image + step * slope(image))]
    before, x = iterates
    best = max(iterates, key=value)
    rises, last_mark = int(value(x) > value(before)), 0
    step_at_mark, best_at_mark = step, value(image)
    for k in range(1, steps):
        if k in marks[1:]:
            stalled = rises < 0.75 * (k - last_mark)
            stuck = step == step_at_mark and value(best) <= best_at_mark
            step_at_mark, best_at_mark = step, value(best)
            if stalled or stuck:
                step, x = step / 2.0, best
                before = x
            rises, last_mark = 0, k
        ahead = project(x + step * slope(x))
        new = project(x + 0.75 * (ahead - x) + 0.25 * (x - before))
        rises += value(new) > value(x)
        before, x = x, new
        best = max(best, x, key=value)
        iterates.append(x)
    return iterates


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50])
def test_the_steps_of_apgd_are_those_of_its_algorithm(steps: int) -> None:
    rows = [(0.5, 0.55), (0.5, 0.42), (0.3, 0.9), (0.02, 0.0), (0.7, 0.71), (0.4, 0.4)]
    images, peaks = (
        torch.tensor(each, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
        for each in zip(*rows, strict=True)
    )
    asked: list[list[float]] = []
    found = module.apgd(images, seen_by(asked, peaks), epsilon=0.1, steps=steps)
    assert len(asked) == steps + 2  # the clean image twice
    expected = [auto_pgd(image, peak, 0.1, steps) for image, peak in rows]
    np.testing.assert_allclose(np.array(asked[1:]).T, expected, atol=1e-9)
    nearest = [
        min(own, key=lambda x: abs(x - peak)) for own, (_, peak) in zip(expected, rows, strict=True)
    ]
    assert found[:, 0, 0, 0].tolist() == pytest.approx(nearest, abs=1e-9)


def test_a_sample_without_a_gradient_stays_where_it_is() -> None:
    images = torch.full((2, 3, 1, 1), 0.5)

    def broken(x: Tensor) -> Tensor:
        return x.sum(dim=(1, 2, 3)) * torch.tensor([1.0, math.nan])

    for attack in (module.pgd, module.apgd):
        found = attack(images, broken, epsilon=0.1, steps=3)
        assert found[0].flatten().tolist() == pytest.approx([0.6] * 3)
        assert found[1].flatten().tolist() == [0.5] * 3


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_infinite_gradient_moves_nothing_even_where_a_move_would_be_kept(norm: str) -> None:
    images = torch.full((5, 3, 1, 1), 0.5)

    def broken(x: Tensor) -> tuple[Tensor, Tensor]:
        brightness = x.sum(dim=(1, 2, 3))
        factors = torch.tensor([1.0, math.nan, math.inf, -math.inf, -1.0])
        return brightness * factors, (brightness - 1.5).abs()

    for attack in (module.pgd, module.apgd):
        made = attack(images, broken, epsilon=0.1, steps=3, norm=norm)  # type: ignore[arg-type]
        found = made.mean(dim=(1, 2, 3)).tolist()
        reach = 0.1 if norm == "linf" else 0.1 / math.sqrt(3.0)
        assert found == pytest.approx([0.5 + reach, 0.5, 0.5, 0.5, 0.5 - reach], abs=1e-5)


def test_checkpoints_of_few_steps() -> None:
    assert module.checkpoints(1) == (0, 1)
    assert module.checkpoints(20) == (0, 5, 9, 12, 14, 16, 18, 19, 20)


@pytest.mark.parametrize("name", ["dlr", "cross_entropy", "margin"])
def test_the_attack_climbs_the_loss_and_keeps_the_largest_margin(name: str) -> None:
    def objective(x: Tensor) -> tuple[Tensor, Tensor]:
        return module.LOSSES[name](logits(x), LABELS), module.margin(logits(x), LABELS)

    options: dict[str, Any] = {"epsilon": 3 / 255, "steps": 3, "seeds": SEEDS}
    made = module.adversarial_accuracy(TARGET, HEAD, IMAGES, LABELS, loss=name, **options)
    assert torch.allclose(made.images, module.apgd(IMAGES, objective, **options), atol=1e-6)
    assert torch.allclose(made.distance, (made.images - IMAGES).abs().flatten(1).amax(1))
    with torch.no_grad():
        answers = logits(made.images).argmax(1)
    assert torch.equal(made.robust, (answers == LABELS) & made.clean)
    options |= {"norm": "l2", "step_size": 0.01}
    plain = module.adversarial_accuracy(
        TARGET, HEAD, IMAGES, LABELS, loss=name, attack="pgd", **options
    )
    assert torch.allclose(plain.images, module.pgd(IMAGES, objective, **options), atol=1e-6)
    assert torch.allclose(plain.distance, (plain.images - IMAGES).flatten(1).norm(dim=1))


def test_the_margin_takes_the_place_of_the_ratio_below_three_classes() -> None:
    for classes, loss in ((3, module.difference_of_logits_ratio), (2, module.margin)):
        labels = LABELS % classes

        def objective(x: Tensor) -> tuple[Tensor, Tensor]:
            z = logits(x)[:, :classes]  # noqa: B023
            return loss(z, labels), module.margin(z, labels)  # noqa: B023

        options: dict[str, Any] = {"epsilon": 3 / 255, "steps": 4, "norm": "l2"}
        found = module.adversarial_accuracy(TARGET, HEAD[:classes], IMAGES, labels, **options)
        expected = module.apgd(IMAGES, objective, **options)
        assert torch.allclose(found.images, expected, atol=1e-6)


def test_half_precision_is_attacked_in_single() -> None:
    half = IMAGES[:2].half()
    assert module.apgd(half, lambda x: x.sum(dim=(1, 2, 3)), epsilon=0.1, steps=1).dtype == (
        torch.float32
    )


def test_mistakes_name_culprit_and_remedy() -> None:
    class Blocked(TinyTarget):
        def encode_image(self, pixels: Tensor) -> Tensor:
            with torch.no_grad():
                return super().encode_image(pixels)

    def attack(**changes: Any) -> None:
        arguments: dict[str, Any] = {"target": TARGET, "steps": 2} | changes
        target = arguments.pop("target")
        module.adversarial_accuracy(target, HEAD, IMAGES, LABELS, **arguments)

    for changes, message in (
        ({"loss": "dlrr"}, "Did you mean 'dlr'"),
        ({"attack": "pdg"}, "Did you mean 'pgd'"),
        ({"norm": "l3"}, "Did you mean"),
        ({"epsilon": -1.0}, "epsilon must be at least 0"),
        ({"epsilon": math.nan}, "epsilon must be at least 0"),
        ({"steps": 0}, "at least 1 step"),
        ({"target": Blocked()}, "no gradient with respect to the image"),
    ):
        with pytest.raises(ClipRobustError) as caught:
            attack(**changes)
        assert message in str(caught.value)
