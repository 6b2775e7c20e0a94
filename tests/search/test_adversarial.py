"""Figures of a model under APGD."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from search_helpers import GivingWay, Things

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.base import Batch
from pytest_cliprobust.engine.encoding import Encoder, to_float
from pytest_cliprobust.engine.evaluation import Evaluation, RunConfig
from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.search import adversarial as module
from pytest_cliprobust.search.adversarial import adversarial_of
from pytest_cliprobust.search.apgd import AdversarialResult, adversarial_accuracy


@pytest.mark.slow
def test_figures_under_attack_are_filed_cached_and_those_of_the_attack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = Evaluation(RunConfig(("reference",), cache_dir=tmp_path, seed=3), "reference")
    monkeypatch.setattr(module, "ATTACK_BATCH", 4)
    clean = clip.on("clean", limit=6)  # two batches, the second one short
    results: list[AdversarialResult] = []

    def spy(*arguments: Any, **named: Any) -> AdversarialResult:
        results.append(adversarial_accuracy(*arguments, **named))
        return results[-1]

    monkeypatch.setattr(module, "adversarial_accuracy", spy)
    accuracy, drop = adversarial_of(clip, clean, epsilon=4 / 255, steps=2)
    assert [len(result.clean) for result in results] == [4, 2]
    before = torch.cat([result.clean for result in results]).numpy()
    robust = torch.cat([result.robust for result in results]).numpy()
    assert (before == clean.correct).all()
    assert (accuracy.metric, accuracy.value, accuracy.n) == ("accuracy", robust.mean(), 6)
    assert (drop.metric, drop.n) == ("accuracy_drop", 6)
    assert drop.value == pytest.approx(before.mean() - robust.mean())
    assert drop.value > 0
    assert accuracy.condition == drop.condition == Condition("clean", limit=6, label="apgd")

    # The random start comes from the sample's id and the run's seed.
    data = clean.data
    alone = adversarial_accuracy(
        clip.target,
        clip.classifier.weights.float(),
        to_float(data.load(range(4, 6)).images),
        torch.tensor(data.labels[4:6]),
        epsilon=4 / 255,
        steps=2,
        seeds=registry.sample_seeds(data.ids[4:6], "apgd", 3),
    )
    torch.testing.assert_close(alone.images, results[1].images)

    # Computed once; another radius or number of steps is another attack.
    assert adversarial_of(clip, clean, epsilon=4 / 255, steps=2) == (accuracy, drop)
    assert len(results) == 2
    few = clip.on("clean", limit=1)
    for number, (epsilon, steps) in enumerate([(0.0, 1), (0.0, 2), (1e-6, 1)], start=3):
        unharmed, none = adversarial_of(clip, few, epsilon=epsilon, steps=steps)
        assert len(results) == number
        assert (unharmed.value, none.value) == (few.correct.mean(), 0.0)
    with pytest.raises(ClipRobustError, match="starts from samples as they are"):
        adversarial_of(clip, clip.on("clean", "fog", 1, limit=1), epsilon=0.1, steps=1)


class Loaded(Things):
    """Things with pictures: the number of each in all of its pixels."""

    def load(self, indices: Sequence[int]) -> Batch:
        rows = list(indices)
        images = torch.tensor(rows, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
        return Batch(tuple(self.ids[row] for row in rows), images)


def test_an_attack_is_given_all_samples_and_kept_by_all_that_decides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, attacks, told = Loaded(6), [], []
    classifier = SimpleNamespace(weights=torch.eye(3, dtype=torch.float64))
    target = SimpleNamespace(device=torch.device("cpu"), info=SimpleNamespace(digest="d"))
    encoder: Any = SimpleNamespace(
        cache=FeatureCache(tmp_path),
        precision="fp32",
        progress=lambda *said: told.append(said),
        alike=lambda data, size: Encoder.alike(encoder, data, size),
    )
    clip: Any = SimpleNamespace(
        target=target, encoder=encoder, classifier=classifier, config=SimpleNamespace(seed=3)
    )

    def attack(
        model: Any, head: Any, images: Any, labels: Any, **options: Any
    ) -> AdversarialResult:
        attacks.append((model, head.dtype, images[:, 0, 0, 0].tolist(), labels.tolist(), options))
        return AdversarialResult(labels != 2, labels == 0, images, torch.zeros(len(labels)))

    monkeypatch.setattr(module, "adversarial_accuracy", attack)
    monkeypatch.setattr(module, "ATTACK_BATCH", 4)
    clean = GivingWay([2.0] * 6).on(data, limit=6)
    accuracy, drop = adversarial_of(clip, clean, epsilon=0.1, steps=2)
    assert [len(seen[2]) for seen in attacks] == [4, 2]
    assert all(seen[0] is target and seen[1] == torch.float32 for seen in attacks)
    assert [pixel for seen in attacks for pixel in seen[2]] == pytest.approx(
        [row / 255 for row in range(6)]
    )
    assert [label for seen in attacks for label in seen[3]] == [0, 1, 2, 0, 1, 2]
    seeds = torch.cat([seen[4].pop("seeds") for seen in attacks])
    assert torch.equal(seeds, registry.sample_seeds(data.ids, "apgd", 3))
    assert [seen[4] for seen in attacks] == [{"epsilon": 0.1, "steps": 2}] * 2
    assert told == [("clean · apgd", 4, 6), ("clean · apgd", 6, 6)]
    assert (accuracy.n, drop.n) == (6, 6)
    assert (accuracy.value, drop.value) == pytest.approx((2 / 6, 4 / 6 - 2 / 6))

    def attacked(**options: Any) -> bool:
        before = len(attacks)
        adversarial_of(clip, clean, **{"epsilon": 0.1, "steps": 2, **options})
        return len(attacks) > before

    assert not attacked()
    assert attacked(steps=3)
    assert attacked(epsilon=0.2)
    for holder, name, value in (
        (target.info, "digest", "e"),
        (encoder, "precision", "bf16"),
        (clip.config, "seed", 4),
        (data, "digest", "other"),
        (classifier, "weights", 2 * classifier.weights),
    ):
        monkeypatch.setattr(holder, name, value)
        assert attacked(), name
        assert not attacked(), name


@pytest.mark.slow
def test_an_attack_backs_off_where_memory_runs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = Evaluation(RunConfig(("reference",), cache_dir=tmp_path), "reference")
    clean = clip.on("clean", limit=6)
    assert clean.correct.shape == (6,)
    sizes: list[int] = []
    room = 2

    def attack(target: Any, head: Any, images: Any, labels: Any, **_: Any) -> AdversarialResult:
        sizes.append(len(images))
        if len(images) > room:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")
        right = labels >= 0
        return AdversarialResult(right, right, images, torch.zeros(len(labels)))

    monkeypatch.setattr(module, "adversarial_accuracy", attack)
    monkeypatch.setattr(module, "ATTACK_BATCH", 8)
    accuracy, _ = adversarial_of(clip, clean, epsilon=0.1, steps=1)
    assert accuracy.value == 1.0
    # All rows are of one size; a run with more memory does not take them for its own.
    assert sizes == [6, 4, 2, 2, 2]
    assert any("2 images attacked at a time" in note for note in clip.encoder.notes)
    before, room = len(sizes), 100
    adversarial_of(clip, clean, epsilon=0.1, steps=1)
    assert sizes[before:] == [6]
    room = 0
    monkeypatch.setattr(module, "ATTACK_BATCH", 1)
    with pytest.raises(Unavailable, match="out of memory on cpu with a single image"):
        adversarial_of(clip, clean, epsilon=0.2, steps=1)


def test_what_was_attacked_in_smaller_batches_is_filed_under_their_size() -> None:
    """A run with more memory does not take it for its own; the usual size needs no word."""
    keys: list[dict[str, Any]] = []
    sizes: list[int] = []

    def attack(size: int) -> Any:
        sizes.append(size)
        if size > 2:
            raise torch.OutOfMemoryError("no room")
        return "made"

    def get_or_compute(key: dict[str, Any], compute: Any) -> Any:
        keys.append(key)
        return compute()

    encoder: Any = SimpleNamespace(
        cache=SimpleNamespace(get_or_compute=get_or_compute), halved=lambda size, what: size // 2
    )
    found: Any = module._backing_off(encoder, {"kind": "apgd"}, attack)
    usual = module.ATTACK_BATCH
    assert (found, sizes[0], sizes[-1]) == ("made", usual, 2)
    assert [key.get("batch", usual) for key in keys] == sizes
    assert "batch" not in keys[0]
