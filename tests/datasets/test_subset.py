"""Some samples of a data set, as a data set of its own."""

from __future__ import annotations

import pytest
import torch

from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.errors import ClipRobustError


def test_a_subset_is_a_data_set_of_its_own_and_loads_the_same_samples() -> None:
    whole = EmbeddedDataset("clean", limit=9, size=32)
    part = Subset(whole, [7, 2])
    assert part.ids == (whole.ids[7], whole.ids[2])
    assert part.labels == (whole.labels[7], whole.labels[2])
    assert part.groups["style"] == (whole.groups["style"][7], whole.groups["style"][2])
    assert torch.equal(part.load([1]).images, whole.load([2]).images)
    digests = {whole.digest, part.digest, Subset(whole, [2, 7]).digest, Subset(whole, [7]).digest}
    assert len(digests) == 4
    for rows in ([9], [-1], []):
        with pytest.raises(ClipRobustError, match="has 9 samples, too few"):
            Subset(whole, rows)
