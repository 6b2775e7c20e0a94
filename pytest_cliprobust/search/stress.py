"""Worst cases, frontiers and attacks of one model under test: figures, and evidence for a failure.

The searches themselves (:mod:`pytest_cliprobust.search.worst_case`) know parameters and accuracies; here these
come from an :class:`~pytest_cliprobust.engine.evaluation.Evaluation`, so that every point is cached on disk
like any other feature, and is computed once whatever the bounds are.
"""

from __future__ import annotations

import math
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.depth import whole_of
from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import (
    Bootstrap,
    bootstrap_figure,
    proportion_figure,
    resampled_sums,
)
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.statistics import interval_at
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.perturbations.registry import Perturbation
from pytest_cliprobust.properties import accuracy
from pytest_cliprobust.search.worst_case import (
    Evaluations,
    Frontier,
    Parameters,
    WorstCase,
    reproduction,
    robustness_frontier,
    worst_case,
)

if TYPE_CHECKING:
    from pytest_cliprobust.engine.evaluation import Evaluation
    from pytest_cliprobust.gating.verdict import Verdict

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

#: Share of the clean accuracy that a frontier allows to lose where the threshold file says nothing.
ALLOWED_LOSS = 0.5

# Parameters are searched in percent of their envelope.
_RESOLUTION = 100
_SHOWN = 6
_CELL = 128


@dataclass(frozen=True)
class Evidence:
    """What a failure shows beside its figures.

    Attributes:
        lines: (heading, text) pairs for the message, in order.
        parameters: of the perturbation that tells most.
        reproduction: a command that shows it.
        draw: writes the picture of it to a path.
    """

    lines: tuple[tuple[str, str], ...]
    parameters: Mapping[str, float]
    reproduction: str
    draw: Callable[[Path], Path]


@dataclass(frozen=True)
class Stressed:
    """A figure, and how to explain it if it breaks its bound.

    Attributes:
        figure: what was measured.
        explain: called with the verdict of a failure; shrinking happens only then.
    """

    figure: Figure
    explain: Callable[[Verdict], Evidence] = field(repr=False, compare=False)


def split(data: Dataset, most: int = 64) -> tuple[Subset, Subset]:
    """Return the samples to search on (a third, at most ``most``) and the others, to confirm on.

    A maximum that is found and measured on the same samples is biased upwards; on samples that the
    search never saw it is not.

    Raises:
        ClipRobustError: fewer than three samples.
    """
    searched = min(most, len(data) // 3)
    return Subset(data, range(searched)), Subset(data, range(searched, len(data)))


class _Drops:
    """The paired accuracy drop of a perturbation on a data set, from its parameters."""

    def __init__(self, clip: Evaluation, data: Dataset, perturbation: Perturbation) -> None:
        self.clip, self.data, self.perturbation = clip, data, perturbation
        self.clean: Bools = clip.correct(data)

    def correct(self, parameters: Parameters) -> Bools:
        return self.clip.correct(self.data, self.perturbation.name, None, limit=None, **parameters)

    def figure(self, parameters: Parameters) -> Figure:
        return accuracy.accuracy_drop_figure(
            self.clean, self.correct(parameters), bootstrap=self.clip.resampling(self.data)
        )

    def minus(self, confidence: float | None = None) -> Evaluations:
        """Return minus the drop, which a search keeps above minus the largest drop allowed.

        With ``confidence`` it comes with its interval at that level.
        """

        def evaluate(parameters: Parameters) -> float | Figure:
            drop = self.figure(parameters)
            if confidence is None:
                return -drop.value
            ends = interval_at(drop, confidence)
            return replace(drop, value=-drop.value, low=-ends.high, high=-ends.low, replicates=())

        return Evaluations(evaluate)


def worst_case_drop(
    clip: Evaluation, name: str, data: Dataset, *, examples: int = 20, searched: int = 64
) -> Stressed:
    """Return the largest accuracy drop in a perturbation's envelope, ``worst_case_drop``.

    Hypothesis climbs on a part of the samples (:func:`split`), and the drop at the worst parameters
    found is then measured on the others. It is a lower bound of the true maximum: nothing promises
    that a search with a budget finds it.

    If the bound is broken, a second search, on the samples that broke it, shrinks to the mildest
    parameters at which the whole interval of the drop still lies beyond the bound.

    Args:
        clip: the model under test.
        name: a registered perturbation with an envelope.
        data: all samples, for both parts.
        examples: test cases that Hypothesis generates.
        searched: most samples to search on.
    """
    perturbation = registry.get(name)
    search_on, confirm_on = split(data, searched)
    found = worst_case(
        perturbation,
        _Drops(clip, search_on, perturbation).minus(),
        -math.inf,
        seed=clip.config.seed,
        max_examples=examples,
        max_evaluations=examples + 2,
        resolution=_RESOLUTION,
    )
    confirm = _Drops(clip, confirm_on, perturbation)
    drop = confirm.figure(found.worst.parameters)
    figure = replace(
        drop,
        metric="worst_case_drop",
        details={
            **drop.details,
            "parameters": dict(found.worst.parameters),
            "strengths": dict(found.worst_strengths),
            "searched_on": len(search_on),
            "drop_while_searching": -found.worst.value,
            "evaluations": found.evaluations,
            "seed": found.seed,
        },
    )

    def explain(verdict: Verdict) -> Evidence:
        worst = ("worst", f"{_drop_text(drop)} at {_settings(found.worst.parameters)}")
        if verdict.kind != "max" or verdict.limit is None or verdict.status != "fail":
            return _evidence(confirm, found.worst.parameters, (worst,))
        shrunk = worst_case(
            perturbation,
            confirm.minus(verdict.confidence),
            -verdict.limit,
            seed=clip.config.seed,
            max_examples=max(examples // 2, 1),
            max_evaluations=2 * examples,
            resolution=_RESOLUTION,
            start=[found.worst_strengths],
        )
        return _mildest(confirm, shrunk, worst)

    return Stressed(figure, explain)


def _mildest(confirm: _Drops, shrunk: WorstCase, worst: tuple[str, str]) -> Evidence:
    failure = shrunk.mildest_failure
    if failure is None:
        return _evidence(confirm, shrunk.worst.parameters, (worst,))
    drop = confirm.figure(failure.parameters)
    share = ", ".join(f"{name} {value:.0%}" for name, value in shrunk.mildest_strengths.items())
    mildest = (
        "mildest",
        f"{_drop_text(drop)} at {_settings(failure.parameters)} ({share} of the envelope), the "
        "mildest that breaks the bound",
    )
    return _evidence(confirm, failure.parameters, (mildest, worst))


def frontier(
    clip: Evaluation,
    name: str,
    data: Dataset,
    *,
    allowed: float | None = None,
    grid: int = 4,
    tolerance: float = 1 / 32,
) -> Stressed:
    """Return the largest strength at which the accuracy drop is still allowed, ``frontier_strength``.

    Strength turns all parameters of the envelope up together, 0 to 1. The figure interpolates
    between the last point that holds and the first that does not; its bootstrap resamples the
    samples and reads the frontier off each resampled curve.

    Args:
        clip: the model under test.
        name: a registered perturbation with an envelope.
        data: the samples.
        allowed: largest accuracy drop that is allowed; None: half of the clean accuracy.
        grid, tolerance: see :func:`~pytest_cliprobust.search.worst_case.robustness_frontier`.
    """
    perturbation = registry.get(name)
    drops = _Drops(clip, data, perturbation)
    limit = ALLOWED_LOSS * float(drops.clean.mean()) if allowed is None else allowed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # told in the figure's details, and in the evidence
        found = robustness_frontier(
            perturbation,
            drops.minus(0.95),
            -limit,
            grid=grid,
            tolerance=tolerance,
            seed=clip.config.seed,
        )
    figure = _frontier_figure(drops, found, allowed, clip.resampling(data))

    def explain(verdict: Verdict) -> Evidence:
        past = next((e for s, e in found.curve if s >= found.bracket[1]), found.curve[-1][1])
        if found.strength is None:
            text = f"a drop of {limit:.3g} is broken at the mildest end already"
        else:
            text = f"a drop of {limit:.3g} is kept up to {_settings(found.parameters)}"
        beyond = f"{_drop_text(drops.figure(past.parameters))} at {_settings(past.parameters)}"
        lines = [("frontier", text), ("beyond", beyond)]
        if found.warning:
            lines.append(("note", found.warning))
        return _evidence(drops, past.parameters, tuple(lines))

    return Stressed(figure, explain)


def _frontier_figure(
    drops: _Drops, found: Frontier, allowed: float | None, bootstrap: Bootstrap
) -> Figure:
    """Return ``frontier_strength`` from the points that the bisection looked at."""
    strengths = np.array([strength for strength, _ in found.curve])
    answers = [drops.clean, *(drops.correct(e.parameters) for _, e in found.curve)]
    columns = np.stack(answers, axis=1).astype(np.float64)
    count = len(columns)
    drawn = resampled_sums(columns, bootstrap) / count
    means = columns.mean(axis=0)

    def crossing(accuracies: Floats) -> float:
        clean, drop = accuracies[0], accuracies[0] - accuracies[1:]
        return first_crossing(strengths, drop, ALLOWED_LOSS * clean if allowed is None else allowed)

    return bootstrap_figure(
        "frontier_strength",
        crossing(means),
        np.array([crossing(row) for row in drawn]),
        count,
        bootstrap,
        bounds=(0.0, 1.0),
        trials=count,
        details={
            "allowed_drop": -found.bound,
            "parameters": dict(found.parameters),
            "bracket": list(found.bracket),
            "curve": np.stack((strengths, means[1:]), axis=1).tolist(),
            "clean_accuracy": float(means[0]),
            "warning": found.warning,
        },
    )


def first_crossing(strengths: Floats, drops: Floats, allowed: float) -> float:
    """Return where the drop first exceeds ``allowed``, linear between points; 1 if it never does.

    Args:
        strengths: (K,) ascending, from 0 to 1.
        drops: (K,) the drop at each.
        allowed: the largest drop that holds.
    """
    beyond = np.flatnonzero(drops > allowed)
    if not len(beyond):
        return 1.0
    index = int(beyond[0])
    if index == 0:
        return 0.0
    before, after = drops[index - 1], drops[index]
    share = (allowed - before) / (after - before)
    return float(strengths[index - 1] + share * (strengths[index] - strengths[index - 1]))


def attack_success(
    clip: Evaluation, data: Dataset, severity: int, name: str = "typographic"
) -> Figure:
    """Return the share of images decided for the class whose name is written on them.

    The details hold the share of the same images, without the writing, decided for that class.
    """
    from pytest_cliprobust.perturbations.typographic import distractors

    written = np.array(distractors(data.ids, data.labels, data.class_names, clip.config.seed))
    clean = clip.logits(data).argmax(axis=1) == written
    hits = clip.logits(data, name, severity).argmax(axis=1) == written
    details = {"without_writing": float(clean.mean())}
    return proportion_figure("attack_success", hits, clip.resampling(data), details)


#: Images attacked at a time: fixed, so that a figure does not depend on --clip-batch-size.
ATTACK_BATCH = 16


def adversarial_figures(
    clip: Evaluation, data: Dataset, *, epsilon: float, steps: int
) -> dict[str, Figure]:
    """Return accuracy and accuracy drop under APGD (DLR loss, L-infinity), cached.

    Args:
        clip: the model under test.
        data: the samples.
        epsilon: radius in pixel values in [0, 1].
        steps: steps of the attack.

    Raises:
        ClipRobustError: the model gives no gradient.
    """
    import torch

    from pytest_cliprobust.engine.encoding import to_float
    from pytest_cliprobust.search.apgd import adversarial_accuracy

    target, encoder = clip.target, clip.encoder
    weights = clip.head

    def attack() -> npt.NDArray[np.float32]:
        parts = []
        head = weights.to(target.device, torch.float32)
        for start in range(0, len(data), ATTACK_BATCH):
            rows = range(start, min(start + ATTACK_BATCH, len(data)))
            images = to_float(data.load(rows).images.to(target.device))
            result = adversarial_accuracy(
                target,
                head,
                images,
                torch.tensor([data.labels[row] for row in rows], device=target.device),
                epsilon=epsilon,
                steps=steps,
                seeds=registry.sample_seeds(
                    tuple(data.ids[row] for row in rows), "apgd", clip.config.seed
                ).to(target.device),
            )
            parts.append(torch.stack((result.clean, result.robust)).float().cpu().numpy())
            encoder.progress(f"{data.name} · apgd", rows.stop, len(data))
        return np.concatenate(parts, axis=1)

    key: dict[str, Any] = {
        "kind": "apgd",
        "version": 1,
        "target": target.info.digest,
        "precision": encoder.precision,
        "device": target.device.type,
        "data": data.digest,
        "head": _digest(weights.numpy()),
        "epsilon": epsilon,
        "steps": steps,
        "seed": clip.config.seed,
    }
    clean, robust = encoder.cache.get_or_compute(key, attack) > 0.5
    bootstrap = clip.resampling(data)
    return {
        "accuracy": accuracy.accuracy_figure(robust, bootstrap=bootstrap),
        "accuracy_drop": accuracy.accuracy_drop_figure(clean, robust, bootstrap=bootstrap),
    }


def _digest(array: npt.NDArray[Any]) -> str:
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


# --- Evidence --------------------------------------------------------------------------------------


def _settings(parameters: Parameters) -> str:
    return ", ".join(f"{name}={value:.4g}" for name, value in parameters.items())


def _drop_text(drop: Figure) -> str:
    return f"drop {drop.value:.3f} [{drop.low:.3f}, {drop.high:.3f}]"


def _evidence(
    drops: _Drops, parameters: Parameters, lines: tuple[tuple[str, str], ...]
) -> Evidence:
    clip, data, perturbation = drops.clip, drops.data, drops.perturbation
    after = drops.correct(parameters)
    # What the perturbation broke first, then what was wrong before, then what survived.
    order = np.lexsort((np.arange(len(after)), after, ~drops.clean))
    rows = [int(row) for row in order[:_SHOWN]]
    command = reproduction(
        perturbation.name,
        parameters,
        clip.config.seed,
        image=image_argument(clip, data, rows[0]),
        load=[] if perturbation.origin is None else [shown_path(perturbation.origin)],
    )

    def draw(path: Path) -> Path:
        return draw_before_after(clip, data, rows, perturbation, parameters, path)

    return Evidence(lines, dict(parameters), command, draw)


def image_argument(clip: Evaluation, data: Dataset, row: int) -> str:
    """Return what ``cliprobust perturb`` calls a sample of a data set, quoted for a shell.

    ``IMAGE`` for a data set of a user's own making, which no command line can name.
    """
    whole, name = whole_of(data), data.ids[row]
    root = getattr(whole, "root", None)
    if isinstance(whole, EmbeddedDataset):
        if name.startswith(f"{whole.name}-"):
            return f"--embedded {name}"
        root = f"embedded:{whole.name}"
    if root is None:
        return "IMAGE"
    words = ["--clip-data", str(root), "--sample", name]
    if clip.config.depth is not None and not getattr(whole, "has_depth", False):
        words += ["--clip-depth", clip.config.depth]
    return shlex.join(words)


def draw_before_after(
    clip: Evaluation,
    data: Dataset,
    rows: Sequence[int],
    perturbation: Perturbation,
    parameters: Parameters,
    path: Path,
) -> Path:
    """Write a picture of some samples before and after a perturbation, with what the model sees.

    Raises:
        ClipRobustError: the picture cannot be written.
    """
    from pytest_cliprobust.perturbations.contact_sheet import Row, contact_sheet

    before, after = clip.encoder.pictures(data, rows, perturbation, parameters=parameters)
    named = [data.class_names[int(label)] for label in data.labels]
    answers = [
        clip.logits(data).argmax(axis=1),
        clip.logits(data, perturbation.name, None, limit=None, **parameters).argmax(axis=1),
    ]

    def captions(predicted: npt.NDArray[np.int64]) -> tuple[str, ...]:
        return tuple(
            "right"
            if predicted[row] == data.labels[row]
            else f"taken for {data.class_names[int(predicted[row])]}"
            for row in rows
        )

    sheet = contact_sheet(
        [
            Row("before", before, captions(answers[0])),
            Row("after", after, captions(answers[1]), note=_settings(parameters)),
        ],
        [named[row] for row in rows],
        title=f"{perturbation.name}, {_settings(parameters)}",
        cell=_CELL,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, optimize=True)
    except OSError as error:
        raise ClipRobustError(
            f"cannot write the picture {str(path)!r}: {error.strerror or error}"
        ) from None
    return path
