"""What a suite works with: data sets, features, logits and labels of one model under test.

The ``clip`` fixture is an :class:`Evaluation`. A suite asks it for what it needs; everything is loaded
or computed at the first request, kept for the session, and features are cached on disk.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from numbers import Integral
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import open_clip
import PIL
from torch import Tensor

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.depth.loading import load_depth_source
from pytest_cliprobust.datasets.providers import provider_of
from pytest_cliprobust.datasets.provision import Provision
from pytest_cliprobust.datasets.skipping import Skipped, unreadable
from pytest_cliprobust.datasets.templates import TemplateSummary, digest_of
from pytest_cliprobust.engine import head
from pytest_cliprobust.engine.config import RunConfig as RunConfig
from pytest_cliprobust.engine.encoding import Encoder, Progress, silent, untold
from pytest_cliprobust.engine.local import local_mcm
from pytest_cliprobust.engine.mixing import drawn
from pytest_cliprobust.engine.multimodal import Interviewer
from pytest_cliprobust.engine.negatives import Negatives, mined
from pytest_cliprobust.engine.probe import PICTURES, rounding_of
from pytest_cliprobust.engine.steps import mixed_steps, steps_of
from pytest_cliprobust.engine.store import Stores
from pytest_cliprobust.engine.view import Classifier, MatchesOf, View
from pytest_cliprobust.errors import ClipRobustError, NotRun, shortened
from pytest_cliprobust.figures.arrays import Bools, Floats
from pytest_cliprobust.figures.condition import CLEAN, MIXED, Condition, Step, together
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.samples import Samples
from pytest_cliprobust.perturbations import lettering
from pytest_cliprobust.properties import calibration, captions
from pytest_cliprobust.targets.base import Layer, Target, TargetInfo
from pytest_cliprobust.targets.bundled_multimodal import NAME as BUNDLED_LMM
from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.targets.multimodal_loading import load_multimodal
from pytest_cliprobust.targets.planted import SWAPPED, planted, planted_multimodal, swapped
from pytest_cliprobust.targets.reference import data_folder

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
    """A target's text tower behind the feature cache, for :mod:`pytest_cliprobust.engine.head`.

    Attributes:
        at_once: texts of a call: any number, since the engine makes the passes.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.info: TargetInfo = encoder.target.info
        self.at_once = sys.maxsize

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

    Args:
        config: the options.
        model: its name among them.
        progress: called after each batch.
        tell: is told, in one line, what decoded pictures will take on the disk.
    """

    def __init__(
        self,
        config: RunConfig,
        model: str,
        progress: Progress = silent,
        tell: Callable[[str], None] = untold,
    ) -> None:
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
            batch_size=config.batch_size or 0,
            precision=getattr(self.target, "precision", config.precision),
            seed=config.seed,
            progress=progress,
            font=config.font,
        )
        if config.store != "off":
            folder = self.encoder.cache.root / "pictures"
            self.encoder.stores = Stores(folder, config.store, tell)
        if config.font is not None:
            lettering.face(1, str(config.font))
        if config.depth is not None:
            self.encoder.depth = load_depth_source(
                config.depth, self.target.device, self.encoder.cache
            )
        self.provider = provider_of(config.sets or config.data)
        self._provision = Provision(
            self.provider,
            profile=config.profile,
            frame=self.target.frame,
            size=max(self.target.image_size),
            templates=config.templates,
            unreadable=self._unreadable if config.bad_data == "skip" else None,
            notes=self.encoder.notes,
        )
        self._checked = False
        self._heads: dict[tuple[object, ...], Classifier] = {}
        self._views: WeakValueDictionary[tuple[str, str, Condition], View] = WeakValueDictionary()

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
            ClipRobustError: no such data set or perturbation, settings that contradict each other, or
                something else in place of any of them.
        """
        data = self._asked(dataset, limit)
        steps = steps_of(perturbation, severity, parameters)
        return self._view(
            data,
            Condition(data.name, steps, limit),
            lambda: self._features(data, steps),
            lambda layer: self._matches(data, layer),
        )

    def mixed(
        self,
        dataset: str | Dataset,
        conditions: Sequence[tuple[str, int | None]],
        *,
        name: str,
        limit: int | None = None,
    ) -> View:
        """Return samples each under one of several perturbations, which its id draws.

        A mean over them estimates the mean over all the conditions, with as many samples as there are; see
        :mod:`pytest_cliprobust.engine.mixing`.

        Example:
            >>> clip.mixed("clean", [("fog", 3), ("snow", 3)], name="mixed_weather")

        Args:
            dataset: as for :meth:`on`.
            conditions: (perturbation, severity) pairs, each once; a severity from 1, or None where there
                are none.
            name: of the conditions together, under which figures are filed: ``mixed_…``.
            limit: as for :meth:`on`.

        Raises:
            NotRun, ClipRobustError: as for :meth:`on`; no conditions, one twice, one that changes nothing, or
                another name.
        """
        data = self._asked(dataset, limit)
        if not isinstance(name, str) or not name.startswith(MIXED):
            raise ClipRobustError(
                f"mixed conditions have a name that begins with {MIXED}, as in name='{MIXED}mine', not "
                f"{shortened(name)}"
            )
        every = [Condition(data.name, (step,), limit) for step in mixed_steps(conditions)]
        condition = together(every, name)
        own = drawn(data.ids, [f"{one.perturbation}@{one.severity}" for one in every])
        steps = [one.steps for one in every]

        def features() -> Tensor:
            self.check()
            return self.encoder.mixed(data, steps, own, name)

        return self._view(data, condition, features)

    def _asked(self, dataset: str | Dataset, limit: int | None) -> Dataset:
        """Return the data set that a view is asked of, by name or itself."""
        _check_asked(dataset, limit)
        return self.dataset(dataset, limit) if isinstance(dataset, str) else dataset

    def _view(
        self,
        data: Dataset,
        condition: Condition,
        features: Callable[[], Tensor],
        matches: MatchesOf | None = None,
    ) -> View:
        """Return the view of a data set under a condition, the same one as long as somebody holds it."""
        key = (data.digest, getattr(data, "content", data.digest), condition)
        view = self._views.get(key)
        if view is None:
            view = View(
                condition,
                data,
                features,
                lambda: self.classifier_of(data),
                seed=self.config.seed,
                text_features=self.text_features,
                matches=matches,
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
        return self._provision.dataset(name, min(limits) if limits else None)

    @property
    def skipped(self) -> Mapping[str, Skipped]:
        """What was left out of data sets as it cannot be read, by their names."""
        return self._provision.skipped

    def _unreadable(self, data: Dataset) -> Bools:
        """Return which samples (N,) of a data set cannot be read.

        It is cached by the content of the data: all of it is read once for that.
        """

        def tell(done: int, total: int) -> None:
            self.encoder.progress(f"{data.name}, reading", done, total)

        key = {"kind": "unreadable", "data": data.digest, "pillow": PIL.__version__}
        bad = self.encoder.cache.get_or_compute(
            key, lambda: unreadable(data, tell).astype(np.float32)
        )
        return np.asarray(bad != 0, dtype=np.bool_)

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
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """All texts of each class, the one of :attr:`phrases` first; one each unless the user gave more."""
        further = getattr(self.dataset("clean"), "texts", ())
        if not further or self.config.plant == SWAPPED:
            return tuple((phrase,) for phrase in self.phrases)
        return tuple(further)

    @cached_property
    def templates(self) -> tuple[Any, ...]:
        """The prompt templates: the user's, the data set's own, or OpenAI's 80 for photographs."""
        return _usual_templates(self.dataset("clean"))

    def template_summaries(self) -> dict[str, TemplateSummary]:
        """Return which templates the classes of ``clean`` have, and those of data with its own, by name."""
        clean = self.dataset("clean")
        if not hasattr(clean, "templates"):
            told = "OpenAI's for ImageNet, as none are given"
        elif self.config.templates:
            told = self.config.templates_file
        else:
            told = "the data's own"
        found = {clean.name: _summary(told, self.templates)}
        for source in self.provider.sources.values():
            if source.settings.templates:
                name = self.provider.name_of(source.text)
                found[name] = _summary("given with it", source.settings.templates)
        return found

    @cached_property
    def classifier(self) -> Classifier:
        """The zero-shot head over the label set of ``clean``.

        Raises:
            ClipRobustError: it has a single class, and any answer would be right.
        """
        clean = self.dataset("clean")
        if len(clean.class_names) == 1:
            raise ClipRobustError(
                f"{clean.name} has a single class, {clean.class_names[0]!r}, so that every answer is right; "
                "give data of two classes or more"
            )
        self.check()
        return self._classifier(self.templates)

    def classifier_of(self, data: Dataset) -> Classifier:
        """The zero-shot head for a data set: that of ``clean``, or one of templates or classes of its own.

        Of ``clean``'s classes a part (``head_rows``), or others: those of a task that is measured by itself
        (``own_texts``), or of data that keeps its own (``own_classes``: SCAM's, LAION-C's sixteen).

        Raises:
            ClipRobustError: see :func:`~pytest_cliprobust.engine.head.zero_shot_head`.
        """
        templates, rows = getattr(data, "own_templates", None), getattr(data, "head_rows", None)
        texts = getattr(data, "own_texts", None)
        usual = self.templates if texts is None else _usual_templates(data)
        if texts is None and getattr(data, "own_classes", False):
            texts = data.class_names
        if templates is None and texts is None and rows is None:
            return self.classifier
        key = (templates or usual, texts, rows)
        if key not in self._heads:
            self.check()
            plain = templates is None and texts is None
            whole = self.classifier if plain else self._classifier(key[0], texts)
            part = whole.weights if rows is None else whole.weights[list(rows)]
            self._heads[key] = replace(whole, weights=part)
        return self._heads[key]

    def _classifier(
        self,
        templates: Sequence[head.Template],
        labels: Sequence[str | Sequence[str]] | None = None,
        *,
        distinct: bool = True,
    ) -> Classifier:
        named = self.texts if labels is None else labels
        weights = head.zero_shot_head(CachedText(self.encoder), named, templates, distinct=distinct)
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

    def under_mistyped_names(self, view: View) -> View:
        """Return a view's samples as the head answers them whose class names have a typing mistake each.

        See :func:`~pytest_cliprobust.properties.captions.mistyped_phrases`; the condition says so. Two names
        may be one to a model that knows neither any more (a small vocabulary): that is what a mistake costs,
        and the class that comes first has the pictures of both.
        """
        phrases = captions.mistyped_phrases(self.phrases, self.dataset("clean").class_names)
        return view.answered_by(
            partial(self._classifier, self.templates, phrases, distinct=False),
            captions.CLASS_NAME_TYPOS,
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
        return calibration.fitted_temperature(self.on("calibration"))

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
        load = partial(
            load_multimodal, name, device=self.target.device, precision=self.config.precision
        )
        if self.config.plant is not None:
            load = partial(planted_multimodal, load, self.config.plant)
        other = self._other_encoder(name)
        if other:
            self.encoder.notes.append(
                f"the multimodal model {name} sees through {other}'s image encoder, not {self.model}'s: what "
                "it gains compares two encoders"
            )
        return Interviewer(
            load,
            self.encoder,
            self.phrases,
            self.config.precision,
            sees_through=other,
        )

    def _other_encoder(self, lmm: str) -> str:
        """Return whose image encoder a multimodal model has, where that is known to be another than this one.

        It is known of the bundled one, which has the reference model's; of others nobody says.
        """
        if lmm != BUNDLED_LMM or self.config.source(self.model) == BUNDLED_LMM:
            return ""
        bundled, weights = data_folder(), self.target.info.weights
        if weights and all(path.is_relative_to(bundled) for path in weights):
            return "" if weights[0].is_relative_to(bundled / BUNDLED_LMM) else BUNDLED_LMM
        own = load_target(
            BUNDLED_LMM, device=self.target.device, precision=self.config.precision
        ).info.digest
        return "" if self.target.info.digest == own else BUNDLED_LMM

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


def _check_asked(dataset: object, limit: object) -> None:
    """Refuse what is neither a name nor a data set, and a limit that is no whole number."""
    if not isinstance(dataset, str) and not hasattr(dataset, "load"):
        raise ClipRobustError(
            "clip.on takes a role, the name of a data set or a data set, as in clip.on('clean', 'fog_3d', "
            f"3), not {shortened(dataset)}"
        )
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, Integral)):
        raise ClipRobustError(f"a limit is a whole number of samples, not {shortened(limit)}")


def _usual_templates(data: Dataset) -> tuple[head.Template, ...]:
    """Return the templates of a data set, OpenAI's for ImageNet where it has none."""
    return tuple(getattr(data, "templates", open_clip.OPENAI_IMAGENET_TEMPLATES))


def _summary(name: str, templates: Sequence[head.Template]) -> TemplateSummary:
    return TemplateSummary(
        name, len(templates), digest_of(head.render(template, "x") for template in templates)
    )
