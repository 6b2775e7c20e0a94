"""What a suite works with: data sets, features, logits and labels of one model under test.

The ``clip`` fixture is an :class:`Evaluation`. A suite asks it for what it needs; everything is loaded
or computed at the first request, kept for the session, and features are cached on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import open_clip
import PIL
from torch import Tensor

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.depth.loading import load_depth_source
from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.datasets.roles import ROLES, provider_of
from pytest_cliprobust.datasets.skipping import Skipped, unreadable, without
from pytest_cliprobust.datasets.subset import whole_of
from pytest_cliprobust.engine import head
from pytest_cliprobust.engine.config import RunConfig as RunConfig
from pytest_cliprobust.engine.encoding import DEFAULT_BATCH_SIZE, Encoder, Progress, silent
from pytest_cliprobust.engine.local import local_mcm
from pytest_cliprobust.engine.multimodal import Interviewer
from pytest_cliprobust.engine.negatives import Negatives, mined
from pytest_cliprobust.engine.probe import PICTURES, rounding_of
from pytest_cliprobust.engine.view import Classifier, View
from pytest_cliprobust.errors import ClipRobustError, NotRun, one_line
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.condition import CLEAN, Condition, Step
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.samples import Samples
from pytest_cliprobust.perturbations import lettering
from pytest_cliprobust.properties import calibration
from pytest_cliprobust.targets.base import Layer, Target, TargetInfo
from pytest_cliprobust.targets.bundled_multimodal import NAME as BUNDLED_LMM
from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.targets.multimodal_loading import load_multimodal
from pytest_cliprobust.targets.planted import SWAPPED, planted, swapped

NOISE_SAMPLES = 64
NOISE_CHUNK = 8
"""Numerical noise is measured on so many samples, by forward passes of another size."""

NOISE_CEILING = {"fp32": 0.02, "fp16": 0.05, "bf16": 0.15}
"""Numerical noise of a share or probability above which a run stops.

Rounding moves a cosine by at most some machine epsilons, hence a logit at scale 100 by about 1e-5 (fp32),
0.05 (fp16) and 0.4 (bf16), and a probability by at most a quarter of that: 0, 0.013 and 0.1. A single answer
of the 64 that flips between two classes of equal rank is another 0.016. Measured with the bundled model on a
CPU: 6.5e-7 in fp32, 0 in bf16; an encoder in training mode had 0.5.
"""


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
        model: its name; measurements carry it.
        target: the loaded model.
        encoder: the engine that runs it.
        config: the run's options.
        provider: says which data set plays which role.
        skipped: what was left out of data sets as it cannot be read, by their names; of a data set that
            several limits were asked of, of the largest part.
    """

    def __init__(self, config: RunConfig, model: str, progress: Progress = silent) -> None:
        self.config = config
        self.model = model
        self.target: Target = load_target(
            config.source(model),
            pretrained=config.pretrained,
            device=config.device,
            precision=config.precision,
            activation=config.activation,
        )
        if config.plant is not None:
            self.target = planted(self.target, config.plant)
        if config.source(model) != model:
            with suppress(AttributeError):  # a finished target of the user's may be frozen
                self.target.info = replace(self.target.info, name=model)
        self.encoder = Encoder(
            self.target,
            FeatureCache(config.cache_dir),
            batch_size=config.batch_size or DEFAULT_BATCH_SIZE,
            precision=getattr(self.target, "precision", config.precision),
            seed=config.seed,
            progress=progress,
            font=config.font,
        )
        if config.font is not None:
            lettering.face(1, str(config.font))
        if config.depth is not None:
            self.encoder.depth = load_depth_source(
                config.depth, self.target.device, self.encoder.cache
            )
        self.provider = provider_of(config.data)
        self.skipped: dict[str, Skipped] = {}
        self._checked = False
        self._datasets: dict[tuple[str, int | None], Dataset] = {}
        self._roots: dict[str, Path] = {}
        self._views: WeakValueDictionary[tuple[str, Condition], View] = WeakValueDictionary()

    def on(
        self,
        dataset: str | Dataset,
        perturbation: str | Sequence[str | tuple[str, int | None]] = CLEAN,
        severity: int | None = None,
        *,
        limit: int | None = None,
        **parameters: float,
    ) -> View:
        """Return samples under a condition, as this model sees them.

        Example:
            >>> clip.on("clean")
            >>> clip.on("clean", "fog_3d", 3, limit=134)
            >>> clip.on("clean", ["kornia:RandomGrayscale", ("fog_3d", 3)])
            >>> clip.on("clean", "gaussian_noise", deviation=0.1)

        Args:
            dataset: a role (``"clean"``), a data set by name (``"clipart"``, ``"imagefolder:DIR"``,
                ``"NAME=imagefolder:DIR"``), or
                a data set.
            perturbation: a registered name; or several, applied in this order, each a name or a
                (name, severity) pair.
            severity: 1 to 5, of a single perturbation (0 changes nothing).
            limit: at most so many samples (a prefix that is balanced over the classes); the smaller of
                this and ``--clip-limit`` counts.
            **parameters: of a single perturbation, instead of (or over) those of the severity.

        Raises:
            NotRun: nothing plays the role, or the data lacks what the perturbation needs.
            ClipRobustError: no such data set or perturbation, or settings that contradict each other.
        """
        data = self.dataset(dataset, limit) if isinstance(dataset, str) else dataset
        steps = steps_of(perturbation, severity, parameters)
        condition = Condition(data.name, steps, limit)
        key = (data.digest, condition)
        view = self._views.get(key)
        if view is None:
            view = View(
                condition,
                data,
                lambda: self._features(data, steps),
                lambda: self.classifier,
                seed=self.config.seed,
                text_features=self.text_features,
                matches=lambda layer: self._matches(data, layer),
            )
            self._views[key] = view
        return view

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Return L2-normalised features (M, D) of texts, float32 on the CPU; cached on disk."""
        self.check()
        return self.encoder.text(texts)

    def dataset(self, name: str, limit: int | None = None) -> Dataset:
        """Return the data set that plays a role, or that a name means.

        Args:
            name: a role, a name of the embedded benchmark, or a layout and path.
            limit: at most so many samples; the smaller of this and ``--clip-limit`` counts.

        Raises:
            NotRun: nothing plays the role.
            ClipRobustError: no such data set, or nothing readable in it.
        """
        limits = [n for n in (limit, self.config.limit) if n is not None]
        smallest = min(limits) if limits else None
        source = self.provider.one(name) if name in ROLES else name
        key = (source, smallest)
        if key not in self._datasets:
            data = load_dataset(
                source,
                profile=self.config.profile,
                limit=smallest,
                frame=self.target.frame,
                size=max(self.target.image_size),
            )
            self._check_name(data)
            self._datasets[key] = self._accepted(data, source in self.provider.of("clean"))
        return self._datasets[key]

    def _accepted(self, data: Dataset, is_clean: bool) -> Dataset:
        """Return a data set as it is measured: without what cannot be read, if that is to be left out.

        Args:
            data: as its layout has it, or prepared for its role.
            is_clean: whether its classes are the label set.

        Raises:
            ClipRobustError: its classes are no label set, or it cannot be read.
        """
        if one_line(data.name) != data.name:  # a layout of the user's may call it anything
            data.name = one_line(data.name)
        whole = whole_of(data)
        mistake = getattr(whole, "label_mistake", None) if is_clean else None
        if mistake is not None and not hasattr(data, "texts"):  # texts: somebody gave others
            raise ClipRobustError(f"{data.name}: {mistake}")
        wrong = getattr(whole, "unreadable", None)
        if wrong is not None and self.config.bad_data != "skip":
            raise ClipRobustError(f"{data.name}: {wrong}")
        told = (f"{data.name}: {note}" for note in getattr(whole, "notes", ()))
        self.encoder.notes += [note for note in told if note not in self.encoder.notes]
        return self._readable(data)

    def _readable(self, data: Dataset) -> Dataset:
        """Return a data set without the samples that cannot be read, where they are to be left out.

        Which those are is cached by the content of the data: all of it is read once for that.
        """
        if self.config.bad_data != "skip" or isinstance(whole_of(data), EmbeddedDataset):
            return data

        def tell(done: int, total: int) -> None:
            self.encoder.progress(f"{data.name}, reading", done, total)

        key = {"kind": "unreadable", "data": data.digest, "pillow": PIL.__version__}
        bad = self.encoder.cache.get_or_compute(
            key, lambda: unreadable(data, tell).astype(np.float32)
        )
        kept, skipped = without(data, bad != 0)
        before = self.skipped.get(data.name)
        if skipped is not None and (before is None or before.total < skipped.total):
            self.skipped[data.name] = skipped
        return kept

    def _check_name(self, data: Dataset) -> None:
        """Raise if another folder's data has that name already: their figures would be one.

        Raises:
            ClipRobustError: it has.
        """
        if hasattr(data, "root"):
            root = Path(data.root).resolve()
            other = self._roots.setdefault(data.name, root)
            if other != root:
                raise ClipRobustError(
                    f"two data sets are called {data.name!r}, {other} and {root}: write NAME=PATH for "
                    "one of them"
                )

    def check(self) -> None:
        """Raise, before any figure, if the model's features cannot be trusted; looks once.

        Raises:
            ClipRobustError: see :func:`~pytest_cliprobust.engine.probe.check_target`.
        """
        if not self._checked:
            self.encoder.probe(self.dataset("clean", PICTURES))
            self._checked = True

    def _matches(self, data: Dataset, layer: Layer) -> list[Floats]:
        self.check()
        return self.encoder.matches(data, layer)

    def _features(self, data: Dataset, steps: tuple[Step, ...]) -> Tensor:
        self.check()
        return self.encoder.images(data, steps)

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """What fills the templates, one phrase a class: "an ant" (embedded) or the class name."""
        clean = self.dataset("clean")
        phrases = tuple(getattr(clean, "phrases", clean.class_names))
        return swapped(phrases) if self.config.plant == SWAPPED else phrases

    @cached_property
    def templates(self) -> tuple[Any, ...]:
        """The prompt templates: the data set's own, or OpenAI's 80 for photographs."""
        clean = self.dataset("clean")
        return tuple(getattr(clean, "templates", open_clip.OPENAI_IMAGENET_TEMPLATES))

    @cached_property
    def classifier(self) -> Classifier:
        """The zero-shot head over the label set of ``clean``."""
        self.check()
        return self._classifier(self.templates)

    def _classifier(self, templates: Sequence[head.Template]) -> Classifier:
        weights = head.zero_shot_head(CachedText(self.encoder), self.phrases, templates)
        target = self.target
        return Classifier(weights, target.logit_scale, target.logit_bias, target.probability)

    def under_each_template(self, view: View) -> Iterator[tuple[str, View]]:
        """Yield each prompt template (as text) with a view's samples as it alone answers them.

        One after the other: all heads at once would be large for many templates and classes.
        """
        for template in self.templates:
            yield (
                head.render(template, "{}"),
                view.answered_by(partial(self._classifier, [template])),
            )

    def all_on(self, role: str) -> list[View]:
        """Return the samples of every data set with a role.

        Raises:
            NotRun: nothing plays the role.
        """
        return [self.on(source) for source in self.provider.require(role)]

    @cached_property
    def negatives(self) -> Negatives:
        """The labels, and negative labels mined for them, as NegLabel compares them.

        Raises:
            NotRun: hardly any candidate lies outside the label set.
        """
        self.check()
        return mined(CachedText(self.encoder), self.dataset("clean"), self.phrases)

    def beside_negatives(self, view: Samples) -> tuple[Floats, Floats]:
        """Return cosines of a view's samples to the labels (N, C) and to the negative labels (N, M)."""
        assert isinstance(view, View)
        both = self.negatives.labels, self.negatives.weights
        labels, negative = (
            head.cosine_similarities(view.features, weights, dataset=view.data.name, ids=view.ids)
            for weights in both
        )
        return labels, negative

    def local_mcm(self, view: Samples) -> Floats:
        """Return the local MCM (N,) of a view's samples (:mod:`pytest_cliprobust.engine.local`).

        Raises:
            NotRun: the model gives no patch features in the space of its texts.
        """
        assert isinstance(view, View)
        return local_mcm(self.encoder, view.data, view.condition.steps, self.classifier.weights)

    @cached_property
    def temperature(self) -> calibration.Temperature:
        """The temperature fitted by NLL on the calibration split; held fixed under every shift.

        Raises:
            NotRun: there is no calibration split.
        """
        view = self.on("calibration")
        return calibration.fit_temperature(view.logits, view.labels, view.ids)

    @cached_property
    def multimodal(self) -> Interviewer:
        """The multimodal model that is asked about what this model confuses (``--clip-lmm``).

        Without that option it is the bundled one, which has the reference model's own vision tower.

        Raises:
            NotRun: the option is not given, and the model under test is not the reference.
        """
        name = self.config.lmm
        if name is None:
            if self.config.source(self.model) != BUNDLED_LMM:
                raise NotRun(
                    "needs --clip-lmm MODEL: a multimodal model of transformers (a folder or hub name) "
                    "that carries this model's image encoder"
                )
            name = BUNDLED_LMM
        return Interviewer(
            partial(
                load_multimodal, name, device=self.target.device, precision=self.config.precision
            ),
            self.encoder,
            self.phrases,
            self.config.precision,
        )

    @cached_property
    def noise(self) -> tuple[float, float]:
        """What the size of a forward pass alone changes: (share or probability, nats).

        Matrix kernels sum in another order for another batch size, and mixed precision rounds more
        coarsely. Our passes all have one size, so figures repeat to the last bit; another machine's
        need not. No verdict rests on less than this: see :meth:`noise_floor`.

        Raises:
            ClipRobustError: it is above the precision's ceiling, so that intervals widened by it
                would hide any loss.
        """
        data = self.dataset("clean", NOISE_SAMPLES)
        usual, other = (
            self.classifier.logits(self.classifier.cosines(features, data))
            for features in (
                self.encoder.images(data),
                self.encoder.regrouped(data, NOISE_CHUNK),
            )
        )
        before, after = (head.probabilities(x, self.target.probability) for x in (usual, other))
        flips = float(np.mean(usual.argmax(axis=1) != other.argmax(axis=1)))
        tiny = np.finfo(np.float64).tiny
        nats = np.abs(np.log(np.maximum(before, tiny)) - np.log(np.maximum(after, tiny))).max()
        share = max(flips, float(np.abs(before - after).max()))
        precision = rounding_of(self.target, self.encoder.precision)
        ceiling = NOISE_CEILING.get(precision, max(NOISE_CEILING.values()))
        if not share <= ceiling:
            raise ClipRobustError(
                f"model {self.model!r}: probabilities or answers change by {share:.2g} with the size "
                f"of the forward pass alone, more than the {ceiling:g} that {precision} explains; "
                "rows must not depend on each other, or try --clip-precision fp32"
            )
        return share, float(nats)

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


def steps_of(
    perturbation: str | Sequence[str | tuple[str, int | None]],
    severity: int | None = None,
    parameters: Mapping[str, float] | None = None,
) -> tuple[Step, ...]:
    """Return the steps that the arguments of :meth:`Evaluation.on` mean.

    Raises:
        ClipRobustError: a severity or parameters beside several perturbations or none, or something
            else in place of a step.
    """
    settings = tuple(sorted((parameters or {}).items()))
    if severity is not None and not isinstance(severity, int):
        raise ClipRobustError(f"a severity is a whole number, not {severity!r}")
    if isinstance(perturbation, tuple) and any(isinstance(item, int) for item in perturbation):
        raise ClipRobustError(
            f"{perturbation!r} is one step: write a name and a severity without brackets, and several "
            "steps as a list of pairs, [('fog_3d', 3), …]"
        )
    if isinstance(perturbation, str):
        if perturbation != CLEAN:
            return (Step(perturbation, severity, settings),)
        if severity is None and not settings:
            return ()
        raise ClipRobustError("a severity or parameters need a perturbation: name it")
    if severity is not None or settings:
        raise ClipRobustError(
            "several perturbations have severities of their own: write [('fog_3d', 3), …]"
        )
    if not isinstance(perturbation, Iterable):
        raise ClipRobustError(f"a perturbation is a name or a list of steps, not {perturbation!r}")
    return tuple(map(_step, perturbation))


def _step(item: str | tuple[str, int | None]) -> Step:
    if isinstance(item, str):
        return Step(item)
    match item:
        case (str(name), int() | None as severity):
            return Step(name, severity)
    raise ClipRobustError(
        f"a step is a perturbation's name or a pair such as ('fog_3d', 3), not {item!r}"
    )
