"""Adversarial lower bound: figures of one model under APGD (:mod:`pytest_cliprobust.search.apgd`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pytest_cliprobust.engine.encoding import Encoder, to_float
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.engine.memory import as_out_of_memory
from pytest_cliprobust.engine.view import View
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.properties import accuracy
from pytest_cliprobust.search.apgd import adversarial_accuracy
from pytest_cliprobust.search.envelope import require_clean, searched_condition

#: What figures are filed under, in place of a perturbation.
NAME = "apgd"

#: Images attacked at a time: fixed, so that a figure does not depend on --clip-batch-size. Halved only where
#: memory runs out, and then a part of the key in the cache.
ATTACK_BATCH = 16


def adversarial_of(
    clip: Evaluation, clean: View, *, epsilon: float, steps: int
) -> tuple[Figure, Figure]:
    """Return accuracy and accuracy drop under APGD (DLR loss, L-infinity), cached.

    Example:
        >>> gate(*adversarial_of(clip, clip.on("clean", limit=64), epsilon=1 / 255, steps=10))

    Args:
        clip: the model under test.
        clean: the samples as they are.
        epsilon: radius in pixel values in [0, 1].
        steps: steps of the attack.

    Raises:
        ClipRobustError: the samples are perturbed already.
        NotRun: the model gives no gradient.
        Unavailable: out of memory with a single image.
    """
    require_clean(clean)
    target, encoder, data = clip.target, clip.encoder, clean.data
    weights = clip.classifier.weights

    def attack(size: int) -> npt.NDArray[np.float32]:
        found = np.empty((2, len(data)), dtype=np.float32)
        head = weights.to(target.device, torch.float32)
        done = 0
        for rows in encoder.alike(data, size):
            images = to_float(data.load(rows).images.to(target.device))
            result = adversarial_accuracy(
                target,
                head,
                images,
                torch.tensor([data.labels[row] for row in rows], device=target.device),
                epsilon=epsilon,
                steps=steps,
                seeds=registry.sample_seeds(
                    tuple(data.ids[row] for row in rows), NAME, clip.config.seed
                ).to(target.device),
            )
            found[:, rows] = torch.stack((result.clean, result.robust)).float().cpu().numpy()
            done += len(rows)
            encoder.progress(f"{data.name} · {NAME}", done, len(data))
        return found

    key: dict[str, Any] = {
        "kind": "apgd",
        "version": 1,
        "target": target.info.digest,
        "precision": encoder.precision,
        "device": target.device.type,
        "data": data.digest,
        "head": hashlib.sha256(np.ascontiguousarray(weights.numpy()).tobytes()).hexdigest(),
        "epsilon": epsilon,
        "steps": steps,
        "seed": clip.config.seed,
    }
    before, robust = _backing_off(encoder, key, attack) > 0.5
    condition = searched_condition(clean, NAME)
    return (
        accuracy.accuracy_figure(robust, bootstrap=clean.bootstrap).measured_on(condition),
        accuracy.accuracy_drop_figure(before, robust, bootstrap=clean.bootstrap).measured_on(
            condition
        ),
    )


def _backing_off(
    encoder: Encoder, key: dict[str, Any], attack: Callable[[int], npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """Return what an attack gives, from the cache or computed; with fewer images at a time where it must.

    Gradients take several times the memory of a forward pass. Everything then begins anew, so that no row
    depends on when memory ran out.
    """
    size = ATTACK_BATCH
    while True:
        sized = key if size == ATTACK_BATCH else {**key, "batch": size}
        try:
            with as_out_of_memory():
                return encoder.cache.get_or_compute(sized, partial(attack, size))
        except torch.OutOfMemoryError:
            size = encoder.halved(size, "images attacked")
