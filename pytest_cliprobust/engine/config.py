"""The options of a run. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_cliprobust.datasets.sources import Source


@dataclass(frozen=True)
class RunConfig:
    """The options of a run, as the command line and the ini file gave them.

    Attributes:
        models: their names: NAME of ``--clip-model NAME=MODEL``, or what follows from the model.
        pretrained: tag or path for every model, or None for each model's default.
        activation: ``gelu`` or ``quickgelu`` for checkpoints that do not say.
        data: ``embedded``, or the user's own data, as ``--clip-data`` had it; several values are separated by
            blanks.
        sets: the same, read; () where ``data`` is one value that nobody has read yet.
        templates: the user's own prompt templates for the data that plays ``clean``, or ().
        templates_file: the file that they stand in, as messages show it.
        required: roles and suites that must be measured (``--clip-require``).
        device, precision: as for :func:`~pytest_cliprobust.targets.loading.load_target`.
        batch_size: images loaded and perturbed at a time; None: as many as a forward pass takes.
        limit: at most so many samples of each data set, or None.
        cache_dir: folder of the feature cache, or None for the platform's.
        store: whether decoded pictures of large data sets are kept beside the features: ``auto``, ``on`` or
            ``off``.
        profile: ``quick``, ``standard`` or ``full``.
        seed: of perturbations and bootstrap.
        against: the model among ``models`` that the others are compared with; None: an earlier run.
        plant: a known loss that is planted in a copy of each model
            (:mod:`pytest_cliprobust.targets.planted`), to test the gate; None: none.
        lmm: multimodal model that hard choices are asked of: a folder, a hub name, or ``reference`` for the
            bundled one; None: the bundled one where the model under test is its CLIP, else none.
        depth: estimator or folder of depth maps for data without depth of its own, or None.
        bad_data: ``error``, or ``skip`` to leave samples out that cannot be read.
        font: file of the font that class names are written on pictures in; None: one that has the letters.
        sources: what to load for a model, by name, where it is not the name itself.
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
    store: str = "auto"
    profile: str = "standard"
    seed: int = 0
    depth: str | None = None
    lmm: str | None = None
    plant: str | None = None
    bad_data: str = "error"
    font: Path | None = None
    against: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    sets: tuple[Source, ...] = ()
    templates: tuple[str, ...] = ()
    templates_file: str = ""
    required: tuple[str, ...] = ()

    def source(self, model: str) -> str:
        """Return what to load for a model under test."""
        return self.sources.get(model, model)
