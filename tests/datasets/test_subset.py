"""Some samples of a data set, as a data set of its own."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.datasets.subset import Subset, load_pairs, whole_of
from pytest_cliprobust.errors import ClipRobustError, NotRun


def test_a_subset_is_a_data_set_of_its_own_and_loads_the_same_samples() -> None:
    whole = EmbeddedDataset("clean", limit=9, size=32)
    part = Subset(whole, [7, 2])
    assert part.ids == (whole.ids[7], whole.ids[2])
    assert part.labels == (whole.labels[7], whole.labels[2])
    assert part.groups["style"] == (whole.groups["style"][7], whole.groups["style"][2])
    assert torch.equal(part.load([1]).images, whole.load([2]).images)
    digests = {whole.digest, part.digest, Subset(whole, [2, 7]).digest, Subset(whole, [7]).digest}
    assert len(digests) == 4
    assert part.class_names == whole.class_names
    assert part.units == (whole.units[7], whole.units[2])
    assert part.unit == whole.unit == "drawing"
    assert part.sample_digests == (whole.sample_digests[7], whole.sample_digests[2])
    for name in ("phrases", "templates", "negative_phrases", "subgroups", "has_depth"):
        assert getattr(part, name) == getattr(whole, name)
    assert len({whole.content, part.content, Subset(whole, [2, 7]).content}) == 3
    for rows in ([9], [-1], []):
        with pytest.raises(ClipRobustError, match="has 9 samples, too few"):
            Subset(whole, rows)


class Pairs:
    """Three samples with all that a data set may have of each."""

    name, digest, class_names = "made", "d", ("a", "b")
    ids, labels = ("x", "y", "z"), (0, 1, 0)
    groups: ClassVar[dict[str, tuple[str, ...]]] = {"column": ("p", "q", "r")}
    captions = (("c0",), ("c1",), ("c2",))
    choices = ("h0", "h1", "h2")
    further_labels = ((1,), (), (0, 1))
    limits, angle_edges = (5.0,), ()

    def __len__(self) -> int:
        return 3

    def load(self, indices: Any) -> Any:
        return ("loaded", *indices)

    def load_pairs(self, indices: Any) -> Any:
        return ("pairs", *indices)


def test_what_a_data_set_has_of_each_sample_is_taken_along() -> None:
    whole: Any = Pairs()
    part: Any = Subset(whole, [2, 0])
    assert part.captions == (("c2",), ("c0",))
    assert part.choices == ("h2", "h0")
    assert part.further_labels == ((0, 1), (1,))
    assert part.groups == {"column": ("r", "p")}
    assert (part.units, part.unit, part.sample_digests) == (("z", "x"), "sample", ())
    assert not hasattr(part, "content")
    assert part.load([1, 0]) == ("loaded", 0, 2)
    inner = Subset(part, [1])
    assert whole_of(inner) is whole
    pairs: list[Any] = [load_pairs(part, [0, 1]), load_pairs(inner, [0])]
    assert pairs == [("pairs", 2, 0), ("pairs", 0)]
    with pytest.raises(NotRun, match="of data set 'clean' are no pairs of pictures"):
        load_pairs(Subset(EmbeddedDataset("clean", limit=2, size=32), [1]), [0])


def test_pairs_of_what_has_none_are_told() -> None:
    plain: Any = type("Plain", (), {**vars(Pairs), "load_pairs": None, "limits": (5.0,)})()
    del type(plain).load_pairs
    for data in (plain, Subset(plain, [1])):
        with pytest.raises(NotRun, match="samples of data set 'made' are no pairs of pictures"):
            load_pairs(data, [0])
