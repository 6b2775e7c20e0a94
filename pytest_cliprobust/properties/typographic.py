"""Typographic attack (Goh et al. 2021): is an image taken for the class whose name is written on it?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pytest_cliprobust.errors import ClipRobustError, NotRun, did_you_mean
from pytest_cliprobust.figures.arrays import Ints
from pytest_cliprobust.figures.bootstrap import proportion_figure
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.samples import Samples, shared
from pytest_cliprobust.figures.taken import takes_samples
from pytest_cliprobust.properties.compositional import choice_figure

#: The column that names the class whose name is on a picture.
WRITTEN = "written_label"

#: The column that says how the word came there (SCAM's photographs are there with it and without).
VARIANT = "variant"


@takes_samples
def written_success(samples: Samples) -> Figure:
    """Return ``attack_success`` of pictures that were written on before anybody perturbed them (SCAM).

    The column ``written_label`` names the class whose name stands on each; pictures without one (the column
    is empty) are left out. Wilson's interval.

    Raises:
        NotRun: the data has no such column, or nothing is written on any picture.
        ClipRobustError: what is written is no class of the label set.
    """
    rows, words = _written(samples)
    # Classes may share a name; whichever of them is answered, the writing was believed.
    names = np.asarray(samples.class_names, dtype=object)
    answers = samples.logits[rows].argmax(axis=1)
    hits = np.asarray(names[answers] == words, dtype=np.bool_)
    figure = proportion_figure("attack_success", hits, samples.bootstrap.subset(rows))
    return figure.measured_on(samples.condition)


@takes_samples
def label_over_word(samples: Samples) -> Figure:
    """Return ``caption_choice_accuracy`` between a picture's own class and the one whose name is on it.

    The share of pictures that are nearer to the prompts of their own class: SCAM's accuracy (Westerhoff et
    al. 2025), with a chance of one half. Pictures without a label or without a name on them are left out.

    Raises:
        NotRun: the data has no column ``written_label``, or no such picture.
        ClipRobustError: what is written is no class of the label set.
    """
    rows, written = _written(samples)
    kept = samples.labels[rows] >= 0
    if not kept.any():
        raise NotRun(f"{samples.condition} has no picture with a label and a name written on it")
    rows, written = rows[kept], written[kept]
    names = np.asarray(samples.class_names, dtype=object)
    pairs = [
        (samples.cosines[row, samples.labels[row]], samples.cosines[row, names == word].max())
        for row, word in zip(rows, written, strict=True)
    ]
    figure = choice_figure(pairs, bootstrap=samples.bootstrap.subset(rows))
    return figure.measured_on(samples.condition)


def _written(samples: Samples) -> tuple[Ints, npt.NDArray[np.object_]]:
    """Return the rows (M,) of pictures with a class's name on them, and these names.

    Raises:
        NotRun: the data has no such column, or nothing is written on any picture.
        ClipRobustError: what is written is no class of the label set.
    """
    column = samples.groups.get(WRITTEN, ())
    rows = np.array([row for row, name in enumerate(column) if name], dtype=np.int64)
    if not len(rows):
        raise NotRun(
            f"{samples.condition} does not say which class's name is written on its pictures (column "
            f"{WRITTEN!r})"
        )
    words = np.asarray(column, dtype=object)[rows]
    unknown = sorted(set(words) - set(samples.class_names))
    if unknown:
        raise ClipRobustError(
            f"{samples.condition}: {unknown[0]!r} is written on a picture and is no class of the label "
            f"set.{did_you_mean(unknown[0], samples.class_names)}"
        )
    return rows, words


@register_metric(
    "attack_success",
    higher_is_better=False,
    meaning="share of images decided for the class whose name is on them",
)
@takes_samples
def attack_success(clean: Samples, written: Samples) -> Figure:
    """Return ``attack_success``, the share of images decided for the class whose name is on them.

    Wilson's interval. The details hold ``without_writing``, the share of the same images, without the
    writing, decided for that class.

    Args:
        clean: the samples as they are.
        written: the same under the perturbation ``typographic``.

    Raises:
        ClipRobustError: no sample is in both.
    """
    # Here, not above: the table of metrics imports this folder, and must not need torch.
    from pytest_cliprobust.perturbations.typographic import distractors

    labels = [int(label) for label in written.labels]
    chosen = distractors(written.ids, labels, written.class_names, written.bootstrap.seed)
    words: Ints = np.array(chosen, dtype=np.int64)
    common = shared(written, clean)
    after, before = common.rows
    hits = written.logits[after].argmax(axis=1) == words[after]
    without = clean.logits[before].argmax(axis=1) == words[after]
    figure = proportion_figure(
        "attack_success", hits, common.bootstrap, {"without_writing": float(without.mean())}
    )
    return figure.measured_on(written.condition)
