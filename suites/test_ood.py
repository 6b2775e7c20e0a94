"""Out-of-distribution detection: near and far OOD apart; ID is the positive class throughout."""

from __future__ import annotations

import pytest

from pytest_cliprobust.properties import ood

SCORES = {
    "mcm": lambda clip, dataset: ood.mcm(clip.cosines(dataset)),
    "msp": lambda clip, dataset: ood.msp(clip.logits(dataset)),
    "max_logit": lambda clip, dataset: ood.max_logit(clip.logits(dataset)),
    "energy": lambda clip, dataset: ood.energy(clip.logits(dataset)),
}


@pytest.mark.usefixtures("needs_embedded")
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("dataset", ["near_ood", "far_ood"])
def test_detection(clip, check, dataset, score):
    measure = SCORES[score]
    figures = ood.detection_figures(
        measure(clip, "clean"), measure(clip, dataset), score, bootstrap=clip.bootstrap
    )
    check(figures, dataset=dataset)
