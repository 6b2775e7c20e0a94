"""Out-of-distribution detection: near and far OOD apart; ID is the positive class throughout.

Full-spectrum: pictures of the classes under a natural shift count as ID. Under corruption: ID and OOD
pictures are corrupted alike.
"""

from __future__ import annotations

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import ood

SECTION = "Safety", 2

#: The scores of full-spectrum and corrupted detection: the best known one, and the one that does best here.
FEW = ("mcm", "max_logit")

#: Corruptions of ID and OOD pictures alike, each at severity 3.
NAMES = {
    "quick": ["iso_noise"],
    "standard": ["iso_noise", "fog_3d"],
    "full": ["iso_noise", "fog_3d", "motion_blur", "jpeg_compression", "low_light"],
}
SEVERITY = 3

#: Samples of each set whose patches are looked at, or that are corrupted, by profile.
SAMPLES = {"quick": 32, "standard": 134, "full": None}

scores = pytest.mark.parametrize("score", ood.SCORES)
banks = pytest.mark.parametrize("score", ["knn", "mahalanobis"])


@scores
def test_near_ood(clip: Evaluation, gate: Gate, near_ood: str, score: str) -> None:
    gate(ood.detection(clip.on("clean"), clip.on(near_ood), [score]))


@scores
def test_far_ood(clip: Evaluation, gate: Gate, far_ood: str, score: str) -> None:
    gate(ood.detection(clip.on("clean"), clip.on(far_ood), [score]))


def test_near_ood_by_negative_labels(clip: Evaluation, gate: Gate, near_ood: str) -> None:
    score = ood.neglabel_score(clip.beside_negatives)
    gate(ood.detection(clip.on("clean"), clip.on(near_ood), score))


def test_far_ood_by_negative_labels(clip: Evaluation, gate: Gate, far_ood: str) -> None:
    score = ood.neglabel_score(clip.beside_negatives)
    gate(ood.detection(clip.on("clean"), clip.on(far_ood), score))


def test_near_ood_by_patches(
    clip: Evaluation, gate: Gate, near_ood: str, limit: int | None
) -> None:
    inside, outside = (clip.on(name, limit=limit) for name in ("clean", near_ood))
    gate(ood.detection(inside, outside, ood.gl_mcm_score(clip.local_mcm)))


def test_far_ood_by_patches(clip: Evaluation, gate: Gate, far_ood: str, limit: int | None) -> None:
    inside, outside = (clip.on(name, limit=limit) for name in ("clean", far_ood))
    gate(ood.detection(inside, outside, ood.gl_mcm_score(clip.local_mcm)))


@banks
def test_near_ood_by_bank(
    clip: Evaluation, gate: Gate, near_ood: str, calibration: str, score: str
) -> None:
    """Against a bank that shares no unit with what is judged."""
    clean, bank = clip.on("clean"), clip.on(calibration)
    mine, stored = ood.apart(clean, bank)
    scores = {score: ood.bank_scores(bank.take(stored))[score]}
    gate(ood.detection(clean.take(mine), clip.on(near_ood), scores))


@banks
def test_far_ood_by_bank(
    clip: Evaluation, gate: Gate, far_ood: str, calibration: str, score: str
) -> None:
    clean, bank = clip.on("clean"), clip.on(calibration)
    mine, stored = ood.apart(clean, bank)
    scores = {score: ood.bank_scores(bank.take(stored))[score]}
    gate(ood.detection(clean.take(mine), clip.on(far_ood), scores))


def test_near_ood_full_spectrum(clip: Evaluation, gate: Gate, near_ood: str) -> None:
    known = [clip.on("clean"), *clip.all_on("shift")]
    gate(ood.full_spectrum(known, clip.on(near_ood), FEW))


def test_far_ood_full_spectrum(clip: Evaluation, gate: Gate, far_ood: str) -> None:
    known = [clip.on("clean"), *clip.all_on("shift")]
    gate(ood.full_spectrum(known, clip.on(far_ood), FEW))


def test_near_ood_corrupted(
    clip: Evaluation, gate: Gate, near_ood: str, name: str, limit: int | None
) -> None:
    inside, outside = (clip.on(data, name, SEVERITY, limit=limit) for data in ("clean", near_ood))
    gate(ood.detection(inside, outside, FEW))


def test_far_ood_corrupted(
    clip: Evaluation, gate: Gate, far_ood: str, name: str, limit: int | None
) -> None:
    inside, outside = (clip.on(data, name, SEVERITY, limit=limit) for data in ("clean", far_ood))
    gate(ood.detection(inside, outside, FEW))
