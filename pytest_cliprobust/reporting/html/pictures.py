"""Pictures of samples, for reports: drawn again where the data are at hand, by id and digest.

The embedded benchmark is always at hand. A user's own data are read again only if they lie where the run
read them; a picture whose content is another than the run's is not shown.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_cliprobust.datasets.roles import EMBEDDED
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition

if TYPE_CHECKING:
    from torch import Tensor

    from pytest_cliprobust.datasets.base import Dataset

#: Side of a picture in pixels, and its quality as JPEG.
SIDE, QUALITY = 128, 78


@dataclass(frozen=True)
class Shown:
    """A sample as it is, and under the condition; data URIs.

    Attributes:
        clean: the picture.
        perturbed: the same under the condition; empty where that is none, or it cannot be drawn here.
    """

    clean: str
    perturbed: str = ""


@dataclass
class Pictures:
    """Where the pictures of a run are drawn from.

    Attributes:
        config: options of the run, as its report has them.
        problems: why pictures are missing, one line each.
    """

    config: Mapping[str, Any]
    problems: dict[str, None] = field(default_factory=dict)
    _sets: dict[str, Dataset | None] = field(default_factory=dict)

    @property
    def why_none(self) -> str:
        """Why no picture can be drawn at all; empty if some can."""
        if self.config.get("data", EMBEDDED) != EMBEDDED:
            return "The run was on data that are not drawn again here."
        return ""

    @cached_property
    def seed(self) -> int:
        """The run's."""
        return int(self.config.get("seed", 0))

    def draws(self, condition: Condition) -> bool:
        """Return whether what a condition does to pictures is known here: a threshold file may define it."""
        from pytest_cliprobust.perturbations import registry

        known = registry.names()
        return all(step.perturbation in known for step in condition.steps)

    def of(self, condition: Condition, samples: Sequence[tuple[str, str]]) -> dict[str, Shown]:
        """Return the pictures of samples (id, digest) under a condition, as far as they can be drawn."""
        name = condition.part_of or condition.dataset
        data = self._data(name)
        if data is None:
            return {}
        place = {identity: row for row, identity in enumerate(data.ids)}
        digests = getattr(data, "sample_digests", ())
        rows = [
            place[identity]
            for identity, digest in samples
            if identity in place and (not digest or digests[place[identity]] == digest)
        ]
        if len(rows) < len(samples):
            self.problems[f"{name}: some samples are others than the run's"] = None
        return self._drawn(data, rows, condition) if rows else {}

    def _data(self, name: str) -> Dataset | None:
        if name not in self._sets:
            self._sets[name] = self._loaded(name)
        return self._sets[name]

    def _loaded(self, name: str) -> Dataset | None:
        from pytest_cliprobust.datasets.embedded import EmbeddedDataset

        if self.why_none:
            self.problems[self.why_none] = None
            return None
        try:
            return EmbeddedDataset(name, profile=str(self.config.get("profile", "standard")))
        except ClipRobustError as error:
            self.problems[str(error)] = None
            return None

    def _drawn(self, data: Dataset, rows: Sequence[int], condition: Condition) -> dict[str, Shown]:
        from pytest_cliprobust.engine.encoding import apply_perturbation, text_writer, to_float
        from pytest_cliprobust.perturbations import registry

        batch = data.load(rows)
        clean = to_float(batch.images)
        changed: Tensor | None = None
        if len(condition.steps) == 1 and not condition.label:
            step = condition.steps[0]
            try:
                perturbation = registry.get(step.perturbation)
                write = text_writer(perturbation, data, self.seed)
                given = batch if write is None else write(batch)
                changed = apply_perturbation(
                    perturbation, clean, given, step.severity, step.settings or None, seed=self.seed
                )
            except ClipRobustError as error:
                self.problems[f"{step.perturbation} is not drawn: {error}"] = None
        return {
            data.ids[row]: Shown(
                data_uri(clean[place]), "" if changed is None else data_uri(changed[place])
            )
            for place, row in enumerate(rows)
        }


def data_uri(image: Tensor, side: int = SIDE) -> str:
    """Return a picture (3, H, W) in [0, 1] as the text of a JPEG of ``side`` pixels at most."""
    from PIL import Image

    values = (image.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(values)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _jpeg(picture)


def file_uri(path: Path, width: int = 900) -> str:
    """Return a picture file as the text of a JPEG of ``width`` pixels at most; empty if there is none."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            picture = file.convert("RGB")
    except (OSError, ValueError):
        return ""
    picture.thumbnail((width, 4 * width), Image.Resampling.LANCZOS)
    return _jpeg(picture)


def _jpeg(picture: Any) -> str:
    content = io.BytesIO()
    picture.save(content, format="JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")
