"""Shape bias (Geirhos et al. 2019): which cue decides when shape and texture disagree."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_cliprobust.properties import shape_bias


@pytest.mark.usefixtures("needs_embedded")
def test_shape_bias(clip, check):
    data = clip.dataset("cue_conflict")
    names = sorted({*data.groups["shape_label"], *data.groups["texture_label"]})
    # The sixteen classes of the conflict, in the head's own order of classes.
    groups = [[data.class_names.index(name)] for name in names]
    decisions = shape_bias.group_decisions(np.exp(log_softmax(clip.logits(data))), groups)
    figures = shape_bias.shape_bias_figures(
        decisions,
        [names.index(name) for name in data.groups["shape_label"]],
        [names.index(name) for name in data.groups["texture_label"]],
        names,
        bootstrap=clip.bootstrap,
    )
    check(figures, dataset="cue_conflict")


def log_softmax(logits):
    """Return log-probabilities over all classes, as model-vs-human averages them in groups."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
