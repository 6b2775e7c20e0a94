"""Typographic attack (Goh et al. 2021): is an image taken for the class whose name is written on it?"""

from __future__ import annotations

import numpy as np

from pytest_cliprobust.figures.arrays import Ints
from pytest_cliprobust.figures.bootstrap import proportion_figure
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.samples import Samples, shared


@register_metric(
    "attack_success",
    higher_is_better=False,
    meaning="share of images decided for the class whose name is on them",
)
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
