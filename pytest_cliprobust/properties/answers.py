"""What a model answered, sample by sample, for reports: which class was taken for which, how surely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.figures.samples import Samples
from pytest_cliprobust.figures.taken import takes_samples

#: So many samples' answers are kept: a report holds some hundred figures.
MOST = 1000


@dataclass(frozen=True)
class Answer:
    """One top answer.

    Attributes:
        label: name of the right class.
        name: name of the class that was answered.
        probability: of that class among all, in [0, 1].
    """

    label: str
    name: str
    probability: float

    @property
    def right(self) -> bool:
        """Whether the answer is the right class, as far as names tell."""
        return self.label == self.name


@takes_samples
def told_answers(samples: Samples) -> dict[str, Any]:
    """Return the top answers to the first :data:`MOST` samples, JSON-able: what :func:`answers_in` reads.

    The probability is the softmax over the classes, as everywhere in calibration; it is written with three
    digits. Names stand once each. There are none for samples that are answered from another label set than
    their names are of.

    Raises:
        ClipRobustError: a label is no class of the label set.
    """
    labels = np.asarray(samples.labels[:MOST])
    logits = np.asarray(samples.logits[:MOST], dtype=np.float64)
    if not logits.size or logits.shape[1] != len(samples.class_names):
        return {}
    # Classes of equal scores: the one that counted.
    tops = np.where(np.asarray(samples.correct[:MOST]), labels, logits.argmax(axis=1))
    return _packed(logits, tops, labels, samples.class_names)


def _packed(
    logits: ArrayLike, tops: ArrayLike, labels: ArrayLike, names: Sequence[str]
) -> dict[str, Any]:
    scores, chosen, truth = np.asarray(logits), np.asarray(tops), np.asarray(labels)
    highest = scores.max(axis=1)
    shares = 1.0 / np.exp(scores - highest[:, None]).sum(axis=1)
    used = sorted({*chosen.tolist(), *truth.tolist()})
    place = {number: row for row, number in enumerate(used)}
    return {
        "names": [names[number] for number in used],
        "label": [place[number] for number in truth.tolist()],
        "top": [place[number] for number in chosen.tolist()],
        "probability": [round(share, 3) for share in shares.tolist()],
    }


def answers_in(details: Mapping[str, Any]) -> tuple[Answer | None, ...]:
    """Return the answers that a figure's details tell of, by row; none where they tell of none.

    None stands for a sample without a class of the label set.
    """
    told = details.get("answers")
    if not isinstance(told, Mapping):
        return ()
    names, columns = told["names"], (told["label"], told["top"], told["probability"])
    return tuple(
        None if label < 0 or top < 0 else Answer(str(names[label]), str(names[top]), float(share))
        for label, top, share in zip(*columns, strict=True)
    )
