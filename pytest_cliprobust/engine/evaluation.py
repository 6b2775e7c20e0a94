"""What a suite works with: data sets, features, logits and labels of one model under test.

The ``clip`` fixture is an :class:`Evaluation`. A suite asks it for what it needs; everything is loaded
or computed at the first request, kept for the session, and features are cached on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
from torch import Tensor

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.depth import load_depth_source
from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.engine import head
from pytest_cliprobust.engine.encoding import DEFAULT_BATCH_SIZE, Encoder, Progress, silent
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.statistics import samples_digest
from pytest_cliprobust.properties import calibration
from pytest_cliprobust.targets.base import Target, TargetInfo
from pytest_cliprobust.targets.loading import load_target

NOISE_SAMPLES = 64
NOISE_CHUNK = 8
"""Numerical noise is measured on so many samples, by forward passes of another size."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RunConfig:
    """The options of a run, as the command line and the ini file gave them.

    Attributes:
        models: names as given to ``--clip-model``.
        pretrained: tag or path for every model, or None for each model's default.
        activation: ``gelu`` or ``quickgelu`` for checkpoints that do not say.
        data: ``embedded`` or the path of the user's own ImageFolder, which replaces ``clean``.
        device, precision: as for :func:`~pytest_cliprobust.targets.loading.load_target`.
        batch_size: images loaded and perturbed at a time; None: 32.
        limit: at most so many samples of each data set, or None.
        cache_dir: folder of the feature cache, or None for the platform's.
        profile: ``quick``, ``standard`` or ``full``.
        seed: of perturbations and bootstrap.
        depth: estimator or folder of depth maps for data without depth of its own, or None.
    """

    models: tuple[str, ...]
    pretrained: str | None = None
    activation: str | None = None
    data: str = "embedded"
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    limit: int | None = None
    cache_dir: Path | None = None
    profile: str = "standard"
    seed: int = 0
    depth: str | None = None


class CachedText:
    """A target's text tower behind the feature cache, for :mod:`pytest_cliprobust.engine.head`."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.info: TargetInfo = encoder.target.info

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return L2-normalised float32 features (N, D) on the CPU."""
        return self._encoder.text(texts)


class Evaluation:
    """Everything that suites ask of one model.

    Attributes:
        model: the name given to ``--clip-model``; measurements carry it.
        target: the loaded model.
        encoder: the engine that runs it.
        config: the run's options.
        bootstrap: settings of all intervals.
    """

    def __init__(self, config: RunConfig, model: str, progress: Progress = silent) -> None:
        self.config = config
        self.model = model
        self.target: Target = load_target(
            model,
            pretrained=config.pretrained,
            device=config.device,
            precision=config.precision,
            activation=config.activation,
        )
        self.encoder = Encoder(
            self.target,
            FeatureCache(config.cache_dir),
            batch_size=config.batch_size or DEFAULT_BATCH_SIZE,
            precision=getattr(self.target, "precision", config.precision),
            seed=config.seed,
            progress=progress,
        )
        if config.depth is not None:
            self.encoder.depth = load_depth_source(
                config.depth, self.target.device, self.encoder.cache
            )
        self.bootstrap = Bootstrap(seed=config.seed)
        self._datasets: dict[tuple[str, int | None], Dataset] = {}

    @property
    def embedded(self) -> bool:
        """Whether the run is on the bundled benchmark."""
        return self.config.data == "embedded"

    def dataset(self, name: str = "clean", limit: int | None = None) -> Dataset:
        """Return a data set by name; ``clean`` is the user's own data if ``--clip-data`` names any.

        Args:
            name: a name of the embedded benchmark, or a layout and path such as ``imagefolder:DIR``.
            limit: at most so many samples (a prefix that is balanced over the classes); the smaller
                of this and ``--clip-limit`` counts.

        Raises:
            ClipRobustError: no such data set, or nothing readable in it.
        """
        limits = [n for n in (limit, self.config.limit) if n is not None]
        smallest = min(limits) if limits else None
        key = (name, smallest)
        if key not in self._datasets:
            source = self.config.data if name == "clean" and not self.embedded else name
            self._datasets[key] = load_dataset(
                source, profile=self.config.profile, limit=smallest, frame=self.target.frame
            )
        return self._datasets[key]

    def measured_on(self, name: str) -> str:
        """Return the data set's name for measurements and bounds.

        The user's own data answers to ``clean``, but a bound for the benchmark's clean set is none for
        it: such figures carry the data's own name, as in ``imagefolder:photos``.
        """
        if self.embedded or name.partition(":")[0] != "clean":
            return name
        return self.dataset("clean").name + name.removeprefix("clean")

    def features(
        self,
        dataset: str | Dataset = "clean",
        perturbation: str = "clean",
        severity: int | None = None,
        *,
        limit: int | None = None,
        **parameters: float,
    ) -> Tensor:
        """Return L2-normalised image features (N, D), float32 on the CPU; cached."""
        data = self.dataset(dataset, limit) if isinstance(dataset, str) else dataset
        return self.encoder.images(data, perturbation, severity, parameters)

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """What fills the templates, one phrase a class: "an ant" (embedded) or the class name."""
        if not self.embedded:
            return self.dataset("clean").class_names
        from pytest_cliprobust.embedded.sprites import load_label_classes

        return tuple(f"{c.article} {c.label}".strip() for c in load_label_classes())

    @cached_property
    def templates(self) -> tuple[Any, ...]:
        """The prompt templates: the benchmark's own, or OpenAI's 80 for ImageNet-like data."""
        if not self.embedded:
            return tuple(open_clip.OPENAI_IMAGENET_TEMPLATES)
        from pytest_cliprobust.embedded.captions import EMBEDDED_TEMPLATES

        return EMBEDDED_TEMPLATES

    @cached_property
    def head(self) -> Tensor:
        """The zero-shot head (C, D), float64, unit rows."""
        return head.zero_shot_head(CachedText(self.encoder), self.phrases, self.templates)

    def cosines(
        self,
        dataset: str | Dataset = "clean",
        perturbation: str = "clean",
        severity: int | None = None,
        *,
        limit: int | None = None,
        **parameters: float,
    ) -> Floats:
        """Return cosine similarities (N, C) to the zero-shot head, float64."""
        data = self.dataset(dataset, limit) if isinstance(dataset, str) else dataset
        features = self.encoder.images(data, perturbation, severity, parameters)
        return head.cosine_similarities(features, self.head, dataset=data.name, ids=data.ids)

    def logits(
        self,
        dataset: str | Dataset = "clean",
        perturbation: str = "clean",
        severity: int | None = None,
        *,
        limit: int | None = None,
        **parameters: float,
    ) -> Floats:
        """Return zero-shot logits (N, C) at the model's logit scale (and bias), float64."""
        cosines = self.cosines(dataset, perturbation, severity, limit=limit, **parameters)
        return head.zero_shot_logits(cosines, self.target.logit_scale, self.target.logit_bias)

    def labels(self, dataset: str | Dataset = "clean", *, limit: int | None = None) -> Ints:
        """Return the class indices (N,) of a data set; -1 where a sample has no class."""
        data = self.dataset(dataset, limit) if isinstance(dataset, str) else dataset
        return np.asarray(data.labels, dtype=np.int64)

    def correct(
        self,
        dataset: str | Dataset = "clean",
        perturbation: str = "clean",
        severity: int | None = None,
        *,
        limit: int | None = None,
        **parameters: float,
    ) -> npt.NDArray[np.bool_]:
        """Return whether the zero-shot top-1 prediction is right (N,), bool."""
        logits = self.logits(dataset, perturbation, severity, limit=limit, **parameters)
        right: npt.NDArray[np.bool_] = logits.argmax(axis=1) == self.labels(dataset, limit=limit)
        return right

    @cached_property
    def temperature(self) -> calibration.Temperature:
        """The temperature fitted by NLL on the calibration split; held fixed under every shift."""
        data = self.dataset("calibration")
        return calibration.fit_temperature(self.logits(data), self.labels(data), data.ids)

    @cached_property
    def noise(self) -> tuple[float, float]:
        """What the size of a forward pass alone changes: (share or probability, nats).

        Matrix kernels sum in another order for another batch size, and mixed precision rounds more
        coarsely. Our passes all have one size, so figures repeat to the last bit; another machine's
        need not. No verdict rests on less than this: see :meth:`noise_floor`.
        """
        data = self.dataset("clean", NOISE_SAMPLES)
        usual, other = (
            head.zero_shot_logits(
                head.cosine_similarities(features, self.head, dataset=data.name, ids=data.ids),
                self.target.logit_scale,
                self.target.logit_bias,
            )
            for features in (
                self.encoder.images(data),
                self.encoder.regrouped(data, NOISE_CHUNK),
            )
        )
        before, after = (head.probabilities(x, self.target.probability) for x in (usual, other))
        flips = float(np.mean(usual.argmax(axis=1) != other.argmax(axis=1)))
        tiny = np.finfo(np.float64).tiny
        nats = np.abs(np.log(np.maximum(before, tiny)) - np.log(np.maximum(after, tiny))).max()
        return max(flips, float(np.abs(before - after).max())), float(nats)

    def noise_floor(self, metric: str) -> float:
        """Return the numerical noise of a figure of ``metric``: intervals are widened by it.

        Shares and probabilities move by at most the largest change of a probability (or the share of
        samples whose prediction flips); log-likelihoods by that of a log-probability. Counts and
        temperatures are left alone.
        """
        known = METRICS.find(metric)
        if known is None:
            return 0.0
        share, nats = self.noise
        if known.unit == "nats":
            return nats
        return share if known.low is not None and known.high is not None else 0.0

    def resampling(self, dataset: Dataset) -> Bootstrap:
        """Return bootstrap settings that know which samples these are, for paired comparisons."""
        return Bootstrap(seed=self.config.seed, samples=samples_digest(dataset.ids))
