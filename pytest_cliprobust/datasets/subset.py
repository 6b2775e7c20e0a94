"""Some samples of a data set, as a data set of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pytest_cliprobust.datasets.base import Batch, Dataset, PairBatch, PairedDataset
from pytest_cliprobust.errors import ClipRobustError, NotRun

#: What a data set has as a whole, and a part of it has as well.
OF_THE_WHOLE = (
    *("phrases", "templates", "negative_phrases", "texts", "class_keys", "head_rows", "restricted"),
    *("own_templates", "own_texts", "own_classes", "subgroups", "root", "has_depth", "task"),
)


class Subset:
    """The samples of ``whole`` at ``rows``, in that order, as a :class:`Dataset`.

    It loads through ``whole``, so that both share what is kept in memory.

    Raises:
        ClipRobustError: no rows, or one outside the data set.
    """

    def __init__(self, whole: Dataset, rows: Sequence[int]) -> None:
        self.whole = whole
        self.rows = tuple(rows)
        if not self.rows or min(self.rows) < 0 or max(self.rows) >= len(whole):
            raise ClipRobustError(
                f"data set {whole.name!r} has {len(whole)} samples, too few for this property; raise "
                "--clip-limit"
            )
        self.name = whole.name
        described = f"{whole.digest}\0{self.rows}"
        self.digest = hashlib.sha256(described.encode()).hexdigest()
        self.ids = tuple(whole.ids[row] for row in self.rows)
        self.labels = tuple(whole.labels[row] for row in self.rows)
        self.class_names = whole.class_names
        units = getattr(whole, "units", whole.ids)
        self.units = tuple(units[row] for row in self.rows)
        self.unit = getattr(whole, "unit", "sample")
        digests = getattr(whole, "sample_digests", ())
        self.sample_digests = tuple(digests[row] for row in self.rows) if digests else ()
        for attribute in OF_THE_WHOLE:
            if hasattr(whole, attribute):
                setattr(self, attribute, getattr(whole, attribute))
        if hasattr(whole, "content"):
            self.content = hashlib.sha256(f"{whole.content}\0{self.rows}".encode()).hexdigest()
        captions, choices = getattr(whole, "captions", ()), getattr(whole, "choices", ())
        self.captions = tuple(captions[row] for row in self.rows) if captions else ()
        self.choices = tuple(choices[row] for row in self.rows) if choices else ()
        further = getattr(whole, "further_labels", ())
        self.further_labels = tuple(further[row] for row in self.rows) if further else ()
        self.groups = {
            name: tuple(column[row] for row in self.rows) for name, column in whole.groups.items()
        }

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)

    def load(self, indices: Sequence[int]) -> Batch:
        """Load the samples at ``indices`` of this subset."""
        return self.whole.load([self.rows[index] for index in indices])


def load_pairs(dataset: Dataset, indices: Sequence[int]) -> PairBatch:
    """Load pairs of a data set, or of one that it is a subset of.

    Raises:
        NotRun: its samples are no pairs.
    """
    if isinstance(dataset, Subset):
        return load_pairs(dataset.whole, [dataset.rows[index] for index in indices])
    if not isinstance(dataset, PairedDataset):
        raise NotRun(f"the samples of data set {dataset.name!r} are no pairs of pictures")
    return dataset.load_pairs(indices)


def whole_of(dataset: Dataset) -> Dataset:
    """Return the data set that a subset is of, or the data set itself."""
    while isinstance(dataset, Subset):
        dataset = dataset.whole
    return dataset
