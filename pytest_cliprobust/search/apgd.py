"""Adversarial lower bound: what accuracy is left against an attacker who knows the model.

PGD (Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks") and APGD
(Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", algorithm 1) on the image, in the domain before the model's preprocessing.
Both are pure functions of images and a loss; each sample keeps its own step size, its own best
iterate and its own random start, so that samples do not influence each other beyond what the model's
own arithmetic does.

Attacks with few steps bound the true robust accuracy from above and the plain accuracy from below;
"lower bound" means that no fixed perturbation of the same strength is expected to do worse.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError, NotRun, did_you_mean
from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.filters import working_dtype
from pytest_cliprobust.targets.base import Target

Norm = Literal["linf", "l2"]
#: From images (B, 3, H, W) to the loss (B,) that the attack climbs; or to a pair (loss, score), where
#: the score (B,) decides which iterate is kept.
Loss = Callable[[Tensor], "Tensor | tuple[Tensor, Tensor]"]
#: From features (B, D), L2-normalised, to logits (B, C).
Head = Callable[[Tensor], Tensor]

_MOMENTUM = 0.75  # alpha of APGD's algorithm 1
_SUCCESS_RATE = 0.75  # rho of APGD's condition 1


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy (B,) of logits (B, C) against labels (B,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (B,): the largest wrong logit minus the true one; positive where the model errs."""
    true = logits.gather(1, labels[:, None])[:, 0]
    wrong = logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    return wrong - true


def difference_of_logits_ratio(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the DLR loss (B,) of Croce & Hein 2020, equation 6.

    It does not change when logits are shifted or scaled, hence does not vanish at the large logit
    scale of CLIP as the cross-entropy does. It needs three classes.

    Raises:
        ClipRobustError: fewer than three classes.
    """
    if logits.shape[1] < 3:
        raise ClipRobustError(
            f"the DLR loss needs at least 3 classes, not {logits.shape[1]}; use the cross-entropy"
        )
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2]).clamp(min=1e-12)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "dlr": difference_of_logits_ratio,
    "margin": margin,
}


def l2_norm(x: Tensor) -> Tensor:
    """Return the Euclidean norm of each sample, (B, 1, 1, 1).

    Axis by axis: a sum over all three at once may be split differently for a batch of one.
    """
    return x.square().sum(dim=-1).sum(dim=-1).sum(dim=-1).sqrt()[:, None, None, None]


@dataclass(frozen=True)
class _Ball:
    """The images within ``epsilon`` of ``origin`` that are images: values in [0, 1].

    The radius used is smaller by what rounding may add, so that the distance of what comes out,
    measured exactly, never exceeds ``epsilon``.
    """

    origin: Tensor
    epsilon: float
    norm: Norm

    @property
    def radius(self) -> float:
        unit = torch.finfo(self.origin.dtype).eps
        slack = unit
        if self.norm == "l2":
            count = math.prod(self.origin.shape[1:])
            slack = unit * (math.sqrt(count) + 64 * self.epsilon)
        return max(self.epsilon - slack, 0.0)

    def project(self, x: Tensor) -> Tensor:
        """Return the point of the ball nearest to ``x`` (for L2: of the ball, then of the box)."""
        delta = x - self.origin
        if self.norm == "linf":
            delta = delta.clamp(-self.radius, self.radius)
        else:
            delta = delta * (self.radius / l2_norm(delta).clamp(min=1e-30)).clamp(max=1.0)
        return (self.origin + delta).clamp(0, 1)

    def ascend(self, gradient: Tensor) -> Tensor:
        """Return the direction of steepest ascent of unit length in the ball's norm."""
        if self.norm == "linf":
            return gradient.sign()
        return gradient / l2_norm(gradient).clamp(min=1e-30)

    def start(self, seeds: Tensor) -> Tensor:
        """Return a random point: uniform in the L-infinity ball, or in the L2 ball, then clipped."""
        shape = self.origin.shape[1:]
        if self.norm == "linf":
            noise = random.uniform(
                seeds, shape, -self.radius, self.radius, stream=20, dtype=self.origin.dtype
            )
        else:
            noise = random.normal(seeds, shape, stream=20, dtype=self.origin.dtype)
            share = random.uniform(seeds, (1, 1, 1), stream=21, dtype=self.origin.dtype)
            length = share ** (1 / math.prod(shape)) * self.radius
            noise = noise / l2_norm(noise).clamp(min=1e-30) * length
        return self.project(self.origin + noise)


def _ball(images: Tensor, epsilon: float, steps: int, norm: str) -> _Ball:
    if norm not in ("linf", "l2"):
        raise ClipRobustError(
            f"unknown norm {norm!r}.{did_you_mean(norm, ('linf', 'l2'))} Choose 'linf' or 'l2'"
        )
    if not epsilon >= 0:
        raise ClipRobustError(f"epsilon must be at least 0, not {epsilon!r}")
    if steps < 1:
        raise ClipRobustError(f"an attack needs at least 1 step, not {steps}")
    dtype = working_dtype(images)
    # A tensor made under inference_mode cannot take part in autograd: a copy outside of it can.
    return _Ball(images.detach().to(dtype).clone(), epsilon, "linf" if norm == "linf" else "l2")


def _climb(loss: Loss, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return loss (B,), score (B,) and the loss's gradient (B, 3, H, W) at ``x``."""
    x = x.detach().requires_grad_(True)
    result = loss(x)
    value, score = result if isinstance(result, tuple) else (result, result)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    # A saturated loss may give NaN; that sample then stays where it is, the others are not touched.
    return value.detach(), score.detach(), gradient.nan_to_num(0.0, 0.0, 0.0)


def _score(loss: Loss, x: Tensor) -> Tensor:
    with torch.no_grad():
        result = loss(x)
    return (result[1] if isinstance(result, tuple) else result).detach()


def _choose(better: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(better.reshape(-1, *[1] * (new.dim() - 1)), new, old)


def pgd(
    images: Tensor,
    loss: Loss,
    *,
    epsilon: float,
    steps: int = 10,
    step_size: float | None = None,
    norm: Norm = "linf",
    seeds: Tensor | None = None,
) -> Tensor:
    """Return the iterate of projected gradient ascent with the highest score, for each sample.

    The clean image is one of the candidates, so the score never falls below the clean one.

    Args:
        images: (B, 3, H, W) in [0, 1]; half precision is attacked (and returned) in float32.
        loss: what to climb, per sample; see :data:`Loss`.
        epsilon: radius, in units of pixel values in [0, 1] (4/255, say); for ``"l2"`` the Euclidean
            length over all channels and pixels.
        steps: gradient steps; one forward and backward pass each, and two forward passes besides.
        step_size: length of a step in the same norm; by default 2.5·epsilon/steps (Madry et al.).
        norm: ``"linf"`` or ``"l2"``.
        seeds: (B,) int64 for a random start within the ball; without, it starts at the image.

    Raises:
        ClipRobustError: unknown norm, negative epsilon, no step.
    """
    with torch.inference_mode(False), torch.enable_grad():
        ball = _ball(images, epsilon, steps, norm)
        length = 2.5 * epsilon / steps if step_size is None else step_size
        best, best_score = ball.origin, _score(loss, ball.origin)
        x = ball.origin if seeds is None else ball.start(seeds)
        for _ in range(steps):
            _, score, gradient = _climb(loss, x)
            better = score > best_score
            best, best_score = _choose(better, x, best), torch.where(better, score, best_score)
            x = ball.project(x + length * ball.ascend(gradient)).detach()
        return _choose(_score(loss, x) > best_score, x, best).detach()


def checkpoints(steps: int) -> tuple[int, ...]:
    """Return the iterations at which APGD reconsiders its step (Croce & Hein 2020, section 3.2).

    p₀ = 0, p₁ = 0.22, pⱼ₊₁ = pⱼ + max(pⱼ − pⱼ₋₁ − 0.03, 0.06); wⱼ = ⌈pⱼ·steps⌉.
    """
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return tuple(sorted({math.ceil(round(p * steps, 9)) for p in shares if p <= 1}))


def apgd(
    images: Tensor,
    loss: Loss,
    *,
    epsilon: float,
    steps: int = 20,
    norm: Norm = "linf",
    seeds: Tensor | None = None,
) -> Tensor:
    """Return the iterate of Auto-PGD with the highest score, for each sample.

    Step size 2·epsilon at first, momentum 0.75; at each checkpoint a sample whose loss rose in less
    than 75 % of the steps since the last one, or whose step and best loss both have not changed since
    then, halves its step and goes back to its best iterate. Nothing needs tuning but ``steps``.
    The same arguments, result and errors as :func:`pgd`, without a step size.
    """
    with torch.inference_mode(False), torch.enable_grad():
        ball = _ball(images, epsilon, steps, norm)
        marks = checkpoints(steps)
        best, best_score = ball.origin, _score(loss, ball.origin)
        x = ball.origin if seeds is None else ball.start(seeds)
        value, score, gradient = _climb(loss, x)

        def keep(score: Tensor, x: Tensor) -> None:
            nonlocal best, best_score
            better = score > best_score
            best, best_score = _choose(better, x, best), torch.where(better, score, best_score)

        keep(score, x)
        step = torch.full_like(value, 2 * epsilon)
        peak, peak_value, peak_gradient = x, value, gradient
        peak_at_mark, halved_at_mark = value, torch.zeros_like(value, dtype=torch.bool)
        rises = torch.zeros_like(value)
        previous = x
        for iteration in range(1, steps + 1):
            length = step[:, None, None, None]
            z = ball.project(x + length * ball.ascend(gradient))
            if iteration == 1:
                new = z
            else:
                new = ball.project(x + _MOMENTUM * (z - x) + (1 - _MOMENTUM) * (x - previous))
            previous, x = x, new.detach()
            if iteration == steps:  # the last iterate needs no gradient
                keep(_score(loss, x), x)
                break
            before = value
            value, score, gradient = _climb(loss, x)
            keep(score, x)
            rises = rises + (value > before)
            higher = value > peak_value
            peak = _choose(higher, x, peak)
            peak_gradient = _choose(higher, gradient, peak_gradient)
            peak_value = torch.where(higher, value, peak_value)
            if iteration in marks:
                since = iteration - max(mark for mark in marks if mark < iteration)
                stalled = rises < _SUCCESS_RATE * since
                stuck = ~halved_at_mark & (peak_value <= peak_at_mark)
                halve = stalled | stuck
                step = torch.where(halve, step * 0.5, step)
                # Going back also drops the momentum: there is no previous step to continue.
                x = _choose(halve, peak, x)
                previous = _choose(halve, peak, previous)
                gradient = _choose(halve, peak_gradient, gradient)
                value = torch.where(halve, peak_value, value)
                halved_at_mark, peak_at_mark = halve, peak_value
                rises = torch.zeros_like(rises)
        return best.detach()


@dataclass(frozen=True)
class AdversarialResult:
    """What an attack left.

    Attributes:
        clean: (B,) bool, correct on the image itself.
        robust: (B,) bool, correct on the image and on every iterate of the attack.
        images: (B, 3, H, W), the worst iterates, in [0, 1].
        distance: (B,) float, their distance from the images in the norm of the attack.
    """

    clean: Tensor
    robust: Tensor
    images: Tensor
    distance: Tensor


def adversarial_accuracy(
    target: Target,
    head: Tensor | Head,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float = 4 / 255,
    steps: int = 10,
    norm: Norm = "linf",
    attack: Literal["pgd", "apgd"] = "apgd",
    loss: str = "dlr",
    step_size: float | None = None,
    seeds: Tensor | None = None,
) -> AdversarialResult:
    """Attack a target's zero-shot classification and return which samples withstand.

    The attack climbs ``loss`` and keeps the iterate with the largest margin of a wrong class over the
    true one, through ``target.preprocess`` and ``target.encode_image`` with gradients enabled. On an
    accelerator a step costs about three forward passes; peak memory is that of training at this batch
    size, so batches should be smaller than those of the evaluation.

    Args:
        target: the model.
        head: class weights (C, D), L2-normalised, or a function from features (B, D) to logits (B, C).
            With weights the logits are ``target.logit_scale · features · weightsᵀ`` (a logit bias
            moves all classes alike and is left out).
        images: (B, 3, H, W) floats in [0, 1] on the target's device.
        labels: (B,) int64, 0 to C-1.
        epsilon, steps, norm, step_size, seeds: see :func:`pgd`; ``step_size`` is PGD's alone.
        attack: ``"apgd"`` or ``"pgd"``.
        loss: ``"dlr"`` (with fewer than three classes the margin takes its place),
            ``"cross_entropy"`` or ``"margin"``.

    Raises:
        ClipRobustError: unknown attack, loss or norm.
        NotRun: a target without gradients.
    """
    _check_attack(attack, loss)
    with torch.inference_mode(False), torch.enable_grad():
        images, labels = images.detach().clone(), labels.clone()
        logits = _logits_of(target, head)

        def objective(x: Tensor) -> tuple[Tensor, Tensor]:
            z = logits(x)
            if x.requires_grad and not z.requires_grad:
                raise NotRun(
                    f"target {target.info.name!r} gives no gradient with respect to the image; "
                    "adversarial accuracy needs a differentiable target"
                )
            climb = margin if loss == "dlr" and z.shape[1] < 3 else LOSSES[loss]
            return climb(z, labels), margin(z, labels)

        with torch.no_grad():
            clean = logits(images.to(torch.promote_types(images.dtype, torch.float32))).argmax(1)
        if attack == "apgd":
            adversarial = apgd(
                images, objective, epsilon=epsilon, steps=steps, norm=norm, seeds=seeds
            )
        else:
            adversarial = pgd(
                images,
                objective,
                epsilon=epsilon,
                steps=steps,
                step_size=step_size,
                norm=norm,
                seeds=seeds,
            )
        with torch.no_grad():
            robust = logits(adversarial).argmax(1)
        return AdversarialResult(
            clean=clean == labels,
            robust=(clean == labels) & (robust == labels),
            images=adversarial,
            distance=_length(adversarial - images.to(adversarial.dtype), norm),
        )


def _check_attack(attack: str, loss: str) -> None:
    if loss not in LOSSES:
        raise ClipRobustError(
            f"unknown adversarial loss {loss!r}.{did_you_mean(loss, LOSSES)} "
            f"Choose one of {', '.join(LOSSES)}"
        )
    if attack not in ("pgd", "apgd"):
        raise ClipRobustError(
            f"unknown attack {attack!r}.{did_you_mean(attack, ('pgd', 'apgd'))} "
            "Choose 'apgd' or 'pgd'"
        )


def _logits_of(target: Target, head: Tensor | Head) -> Callable[[Tensor], Tensor]:
    """Return the function from images (B, 3, H, W) to float32 logits (B, C)."""
    weights = head.detach().clone() if isinstance(head, Tensor) else None

    def classified(features: Tensor) -> Tensor:
        if weights is not None:
            return target.logit_scale * features @ weights.to(features.dtype).T
        assert not isinstance(head, Tensor)
        return head(features)

    return lambda x: classified(target.encode_image(target.preprocess(x))).float()


@torch.no_grad()
def _length(delta: Tensor, norm: Norm) -> Tensor:
    """Return the length (B,) of changes (B, 3, H, W)."""
    return delta.abs().flatten(1).amax(dim=1) if norm == "linf" else l2_norm(delta).flatten()
