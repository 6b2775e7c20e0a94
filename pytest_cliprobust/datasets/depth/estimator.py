"""Depth from a monocular estimator of transformers."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.depth.base import VERSION, Maps, frame_identity, normalise
from pytest_cliprobust.datasets.depth.estimator_loading import load_estimator, read_estimator
from pytest_cliprobust.datasets.framing import keeps_shapes
from pytest_cliprobust.datasets.subset import whole_of
from pytest_cliprobust.errors import ClipRobustError, is_out_of_memory
from pytest_cliprobust.targets.digest import canonical, model_digest
from pytest_cliprobust.targets.hub import hub_folder

CHUNK = 16
"""Images per forward pass of an estimator, always: figures must not depend on the batch size.

Where pictures keep their shapes it is one.
"""


HUB_REMEDY = "give a local folder of the estimator, or of depth maps, as --clip-depth PATH"


class DepthEstimator:
    """A depth-estimation model of transformers, as a :class:`DepthSource`.

    It is shown the image as the model under test is (resized and cropped, before the model's own
    normalisation), so that its maps need no framing. Maps are kept on disk in float32, 200 kB an image of
    224 pixels, in files of :data:`CHUNK` samples, by the digest of weights and processor, the data's digest,
    how its pictures are framed and :data:`VERSION`; a forward pass always has :data:`CHUNK` images, so that
    a map is the same to the last bit whatever the batch size.

    Args:
        name: a folder, or ``owner/repository`` on the model hub.
        device: where it runs.
        cache: where maps are kept; None for the platform's folder.

    Raises:
        ClipRobustError: no such model; not a model that is known to give depth;
            weights missing or damaged.
    """

    def __init__(
        self, name: str, device: torch.device | str = "cpu", cache: FeatureCache | None = None
    ) -> None:
        self.name = name
        self.device = torch.device(device)
        self._cache = cache or FeatureCache()
        folder = Path(name).expanduser()
        if not folder.is_dir():
            folder = hub_folder(name, f"depth estimator {name!r}", HUB_REMEDY)
        config, self.kind = read_estimator(name, folder)
        model, self._processor = load_estimator(name, folder, config)
        self._model = model.to(self.device)
        self.digest = model_digest(
            self._model.state_dict(),
            {"class": type(self._model).__name__, "kind": self.kind, "version": VERSION},
            canonical(self._processor.to_dict()),
            canonical(self._model.config.to_diff_dict()),
        )
        self._recent: dict[tuple[str, str, int], Tensor] = {}
        self._framed: tuple[Dataset, str] | None = None

    def key(self, dataset: Dataset) -> str:
        """Return the estimator's digest; see :class:`DepthSource`. The data's and the model's are there."""
        return self.digest

    def depth(self, dataset: Dataset, ids: Sequence[str]) -> Tensor:
        """Return depth (B, 1, H, W), estimated or from the cache.

        Raises:
            ClipRobustError: an unreadable image, or an estimate that is not finite.
        """
        whole = whole_of(dataset)
        rows = _rows(whole)
        frame = self._frame_of(whole)
        size = _at_once(whole)
        maps = [self._chunk(whole, frame, rows[i] // size)[rows[i] % size] for i in ids]
        return torch.stack(maps)

    def _frame_of(self, dataset: Dataset) -> str:
        """Return how a data set frames its pictures, which is looked at once and not for each batch."""
        if self._framed is None or self._framed[0] is not dataset:
            self._framed = dataset, frame_identity(dataset)
        return self._framed[1]

    def _chunk(self, dataset: Dataset, frame: str, number: int) -> Tensor:
        recent = (dataset.digest, frame, number)
        if recent not in self._recent:
            key = {
                "kind": "depth",
                "estimator": self.digest,
                "data": dataset.digest,
                "frame": frame,
                "chunk": [number, _at_once(dataset)],
                "device": self.device.type,
                "torch": torch.__version__,
            }
            values = self._cache.get_or_compute(key, lambda: self._estimate(dataset, number))
            while len(self._recent) >= 8:
                self._recent.pop(next(iter(self._recent)))
            self._recent[recent] = torch.from_numpy(values)
        return self._recent[recent]

    def _estimate(self, dataset: Dataset, number: int) -> Maps:
        size = _at_once(dataset)
        rows = range(number * size, min((number + 1) * size, len(dataset)))
        images = dataset.load(rows).images
        height, width = images.shape[-2:]
        padded = torch.cat([images, images[-1:].expand(size - len(images), -1, -1, -1)])
        arrays = list(padded.permute(0, 2, 3, 1).contiguous().numpy())
        try:
            with torch.inference_mode():
                inputs = self._processor(images=arrays, return_tensors="pt").to(self.device)
                outputs = self._model(**inputs)
                values = self._at_size(outputs, height, width, size)[: len(images), None].float()
                depth = normalise(values, self.kind).cpu()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ClipRobustError(
                f"depth estimator {self.name!r}: out of memory on {self.device} with {size} images; take a "
                "smaller estimator, or precomputed depth maps"
            ) from None
        bad = ~values.isfinite().flatten(1).all(1)
        if bad.any():
            culprit = dataset.ids[rows[int(bad.nonzero()[0])]]
            raise ClipRobustError(
                f"depth estimator {self.name!r} gives NaN or infinite depth for {culprit!r}; check its "
                "weights"
            )
        result: Maps = depth.numpy()
        return result

    def _at_size(self, outputs: Any, height: int, width: int, count: int) -> Tensor:
        """Return estimates (count, H, W) in the image's frame (without what a processor padded)."""
        process = getattr(self._processor, "post_process_depth_estimation", None)
        if process is not None:
            sizes = [(height, width)] * count
            known = inspect.signature(process).parameters
            more = {"source_sizes": sizes} if "source_sizes" in known else {}
            maps = process(outputs, target_sizes=sizes, **more)
            return torch.stack([one["predicted_depth"].reshape(height, width) for one in maps])
        if self._model.config.model_type in ("zoedepth", "depth_pro"):
            raise ClipRobustError(
                f"depth estimator {self.name!r} needs a newer transformers; upgrade it"
            )
        return torch.nn.functional.interpolate(
            outputs.predicted_depth[:, None], (height, width), mode="bicubic", align_corners=False
        )[:, 0]


def _at_once(dataset: Dataset) -> int:
    """Return how many pictures of a data set go through a pass: they must have one shape."""
    return 1 if keeps_shapes(dataset) else CHUNK


_ROWS: dict[str, dict[str, int]] = {}


def _rows(dataset: Dataset) -> dict[str, int]:
    """Return the row of each id."""
    found = _ROWS.get(dataset.digest)
    if found is None:
        found = {name: row for row, name in enumerate(dataset.ids)}
        _ROWS.clear()
        _ROWS[dataset.digest] = found
    return found
