"""Words on images: which samples get which, and only where a perturbation asks for them."""

from __future__ import annotations

import torch

from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.engine.encoding import text_writer
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.perturbations.typographic import distractors, render_text


def test_text_is_written_on_any_data_set_and_only_where_asked_for() -> None:
    data = EmbeddedDataset("clean", limit=6, size=32)
    assert text_writer(registry.get("brightness"), data, 0) is None
    write = text_writer(registry.get("typographic"), data, 0)
    assert write is not None
    batch = write(data.load([4, 1]))
    chosen = distractors(data.ids, data.labels, data.class_names, 0)
    assert all(chosen[i] != data.labels[i] for i in range(6))
    expected = render_text(data.class_names)[[chosen[4], chosen[1]]]
    assert torch.equal(batch.extras["text"], expected)
