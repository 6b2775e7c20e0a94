"""What a run with a model keeps: loaded models, the threshold file, all records; and the run at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.gating.baseline import load_baseline
from pytest_cliprobust.gating.reading import load_thresholds
from pytest_cliprobust.gating.recording import RecordChange, record
from pytest_cliprobust.gating.rules import matches
from pytest_cliprobust.gating.thresholds import ThresholdFile
from pytest_cliprobust.gating.unjudged import Chosen, Unjudged, fails, find_unjudged
from pytest_cliprobust.gating.vocabulary import known_metrics
from pytest_cliprobust.plugin.ledger import Ledger, suite_of_file
from pytest_cliprobust.plugin.options import (
    PROFILES,
    given_models,
    reports_of,
    run_config,
    value_of,
)
from pytest_cliprobust.plugin.progress import ProgressLine
from pytest_cliprobust.plugin.suites import PREFIX, installed, shipped, suites_folder
from pytest_cliprobust.reporting import files
from pytest_cliprobust.reporting.header import header_lines
from pytest_cliprobust.results.journal import Journal
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import ModelSummary, NotMeasured, Run

SHOWN = 1e-4
"""Numerical noise of a share or probability that the summary mentions: more than last digits."""


class Session:
    """The state of a run.

    Attributes:
        config: the run's options.
        name_of: the names of the models under test, by what the user wrote.
        is_worker: whether this process is a worker of pytest-xdist, which reports to another.
        ledger: what became of each test, in the process that reports.
        mistakes: the user's, one line each, beside those of tests.
        troubles: what the environment lacks, one line each, beside what tests lacked.
        died: workers of pytest-xdist that ended without a word.
        known_suites: names of the shipped suites and of those collected.
        collected: number of tests.
        needed: whether any of them evaluates a model.
        deselected: ids of the tests that were left out, by suite.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.pytest_config = config
        self.config = run_config(config)
        # Once: what a path is called must not change when a test changes the working directory.
        self.name_of = {text: name for name, text in given_models(config).items()}
        self.is_worker = hasattr(config, "workerinput")
        self.recording = bool(config.getoption("--clip-record"))
        # Listing tests measures nothing, and must not replace a report that did.
        self.reports = [] if config.option.collectonly else reports_of(config)
        self.threshold_path = self._threshold_path()
        self.progress = ProgressLine(config)
        self.ledger = Ledger()
        self.mistakes: list[str] = []
        self.troubles: list[str] = []
        self.died: list[str] = []
        self.known_suites: tuple[str, ...] = shipped()
        self.collected = 0
        self.needed = False
        self.deselected: dict[str, list[str]] = {}
        self.journal: Journal | None = None
        self._evaluations: dict[str, Evaluation] = {}
        self._noise: dict[str, tuple[float, float]] = {}
        self._told: list[Mapping[str, Any]] = []

    # --- At the start ------------------------------------------------------------------------------

    def evaluation(self, model: str) -> Evaluation:
        """Return the evaluation of ``model``, loading the model at the first request."""
        if model not in self._evaluations:
            self._evaluations[model] = Evaluation(self.config, model, self.progress)
        return self._evaluations[model]

    def start(self) -> None:
        """Load the models and the threshold file, so that mistakes show before any test runs.

        Raises:
            Unavailable: the environment lacks something that they need.
            ClipRobustError: a mistake in an option, a model, the data or the threshold file.
        """
        for path in self.reports:
            files.check(path)
        for model in self.config.models:
            self.evaluation(model)
        if self.config.data != "embedded":
            self.evaluation(self.config.models[0]).dataset("clean")
        self.thresholds.register_perturbations()
        _ = self.baseline
        if not self._reports_for_workers:
            for model in self.config.models:
                self.evaluation(model).check()

    def open_journal(self) -> None:
        """Start to write down what is measured, where a report was asked for."""
        if self.reports and not self.is_worker and self.journal is None:
            self.journal = Journal(self.reports[0])

    def _threshold_path(self) -> Path | None:
        named = value_of(self.pytest_config, "thresholds")
        if named:
            return Path(named)
        own = (self.pytest_config.invocation_params.dir, self.pytest_config.rootpath)
        theirs = suites_folder() if installed() else suites_folder().parent
        # The package's own file is for reading: recording makes or changes one of the user's own.
        for folder in own if self.recording else (*own, theirs):
            path = folder / "thresholds.toml"
            if path.is_file():
                return path
        return own[0] / "thresholds.toml" if self.recording else None

    @cached_property
    def thresholds(self) -> ThresholdFile:
        """The threshold file; an empty one if there is none.

        Raises:
            ClipRobustError: any mistake in it, with its line.
        """
        path, profile = self.threshold_path, self.config.profile
        if path is None or (self.recording and not path.is_file()):
            return ThresholdFile(profile=profile)
        if self._reports_for_workers:
            # Only the workers import the suites, and know what these register: they check the names.
            return load_thresholds(path, profile=profile, known_metrics=("*",))
        return load_thresholds(path, profile=profile, **self._vocabularies())

    @property
    def _reports_for_workers(self) -> bool:
        return not self.is_worker and self.pytest_config.pluginmanager.hasplugin("dsession")

    def _vocabularies(self) -> dict[str, Any]:
        """Return the names that a rule may select, by argument of ``load_thresholds``."""
        import open_clip

        from pytest_cliprobust.datasets import embedded
        from pytest_cliprobust.datasets.registry import LAYOUTS
        from pytest_cliprobust.perturbations import registry
        from pytest_cliprobust.targets.registry import TARGETS

        architectures = open_clip.list_models()
        layouts = (f"{layout}:*" for layout in LAYOUTS)
        return {
            "known_suites": self.known_suites,
            "other_suites": self._suites_beside(),
            "known_metrics": known_metrics(),
            "known_datasets": (*embedded.names(), "clean:*", *layouts),
            # Also with parameters of their own, and several in a row.
            "known_perturbations": (
                *registry.names(),
                *(f"{name}(*" for name in registry.names()),
                *("kornia:*", "*+*", "all_*", "apgd"),
            ),
            "models": (
                *self.config.models,
                "reference",
                *architectures,
                *(f"{name}/*" for name in architectures),
                *(f"{prefix}*" for prefix in TARGETS if prefix.endswith(":")),
            ),
            "known_profiles": PROFILES,
        }

    def _suites_beside(self) -> set[str]:
        """Return the suites that lie beside the threshold file or where pytest was called."""
        config = self.pytest_config
        folders = {config.rootpath, config.invocation_params.dir}
        folders |= {self.threshold_path.resolve().parent} if self.threshold_path else set()
        files = (
            f
            for folder in folders
            for p in (f"{PREFIX}*.py", f"*/{PREFIX}*.py")
            for f in folder.glob(p)
        )
        return {file.stem.removeprefix(PREFIX) for file in files}

    @cached_property
    def baseline(self) -> dict[str, Figure] | None:
        """The figures that the policy's baseline holds, by key."""
        path = self.thresholds.policy.baseline
        return None if path is None else load_baseline(path)

    def header(self) -> list[str]:
        """Return the lines that say what is under test, on what."""
        notes = self.journal.notes if self.journal else []
        return header_lines(self.config, self.models(), self._shown_thresholds, notes)

    @property
    def _shown_thresholds(self) -> str:
        return str(shown_path(self.threshold_path)) if self.threshold_path else ""

    # --- While tests run ---------------------------------------------------------------------------

    def noise_floor(self, model: str, metric: str) -> float:
        """Return the numerical noise below which no figure of ``metric`` decides anything."""
        evaluation = self.evaluation(model)
        floor = evaluation.noise_floor(metric)
        self._noise[model] = evaluation.noise
        return floor

    def classes(self, model: str) -> int:
        """Return the number of classes that a model chooses from."""
        return len(self.evaluation(model).phrases)

    @property
    def records(self) -> list[Record]:
        """What was measured and judged, in the process that reports."""
        return self.ledger.records

    def take(self, report: pytest.TestReport) -> None:
        """Keep what became of a test, and write down what it measured."""
        planned = getattr(report, "clip_plan", None)
        if planned:
            self.ledger.plan(planned["tests"])
            self.deselected.update(planned["deselected"])
        records = self.ledger.take(report)
        if self.journal is not None and records:
            try:
                self.journal.add(records)
            except ClipRobustError as error:
                self.note(error)  # once; the report at the end may find room again

    def note(self, error: ClipRobustError) -> None:
        """Keep an error that did not end the run at once."""
        told = self.troubles if isinstance(error, Unavailable) else self.mistakes
        told.append(str(error))

    def planned(self) -> dict[str, Any]:
        """Return which tests a worker was given and which not, as plain data: it may die at any of them."""
        return {"tests": self.ledger.planned, "deselected": self.deselected}

    def models(self) -> dict[str, ModelSummary]:
        """Return the models under test: those loaded here, and what the workers did with theirs."""
        found = {name: self._summary(name, e) for name, e in self._evaluations.items()}
        for told in self._told:
            for data in told["models"]:
                theirs = ModelSummary.from_dict(data)
                mine = found.get(theirs.name)
                found[theirs.name] = theirs if mine is None else _joined(mine, theirs)
        return {name: found[name] for name in self.config.models if name in found}

    def _summary(self, name: str, evaluation: Evaluation) -> ModelSummary:
        info, encoder = evaluation.target.info, evaluation.encoder
        return ModelSummary(
            name=name,
            architecture=info.architecture,
            pretrained=info.pretrained,
            digest=info.digest,
            notes=info.notes,
            tags=info.tags,
            device=str(evaluation.target.device),
            precision=encoder.precision,
            encoded=encoder.forwarded,
            cached=encoder.cached,
            probed=encoder.probed,
            noise=self._noise.get(name),
        )

    @property
    def evaluated(self) -> bool:
        """Whether any test of this run evaluates a model."""
        return self.needed or bool(self.ledger.suites)

    @property
    def has_news(self) -> bool:
        """Whether there is anything that a report would tell."""
        told = self.mistakes or self.troubles or self.died or self.ledger.not_collected
        return self.evaluated or bool(told)

    def notes(self) -> tuple[str, ...]:
        """Return what a reader of the summary must know beside the figures."""
        own = [note for e in self._evaluations.values() for note in e.encoder.notes]
        own += [
            _noise_note(name, *noise) for name, noise in self._noise.items() if noise[0] > SHOWN
        ]
        own += [
            f"worker {name} died: how many images it encoded is not known" for name in self.died
        ]
        theirs = [str(note) for told in self._told for note in told["notes"]]
        return tuple(dict.fromkeys([*own, *theirs]))

    # --- From worker to controller -----------------------------------------------------------------

    def tell(self) -> dict[str, Any]:
        """Return what a worker has to say at its end, as plain data."""
        return {
            "mistakes": self.mistakes,
            "troubles": self.troubles,
            "notes": list(self.notes()),
            "models": [model.as_dict() for model in self.models().values()],
            "collected": self.collected,
            "deselected": self.deselected,
        }

    def listen(self, told: Mapping[str, Any]) -> None:
        """Take over what a worker has said."""
        self._told.append(told)
        self.mistakes += map(str, told["mistakes"])
        self.troubles += map(str, told["troubles"])
        self.collected = max(self.collected, int(told["collected"]))
        self.deselected.update(told.get("deselected", {}))

    # --- At the end --------------------------------------------------------------------------------

    def unjudged(self, *, by_id: bool = False, loaded: bool = True) -> Unjudged:
        """Return the bounds that this run did not judge.

        ``by_id``: single tests were named, and those of the same files that were not are unknown.
        ``loaded``: whether model and data are there to be asked.

        Raises:
            ClipRobustError: the threshold file changed during the run, or cannot be read.
        """
        records, ledger = self.records, self.ledger
        cut = by_suite(ledger.missing())
        for file in ledger.not_collected:
            cut.setdefault(suite_of_file(file), []).append(file)
        suites = ledger.suites | set(cut)
        if not suites:
            return Unjudged(policy=self.thresholds.policy)
        used = [record.rule for record in records if record.rule]
        used += [name for record in records for name in record.also_used]
        return find_unjudged(
            self.thresholds,
            used=used,
            suites_run=suites,
            suites_broken=ledger.broken,
            models=self.config.models,
            measured=[record.measurement for record in records],
            chosen=Chosen(
                by_suite(ledger.not_run()), self.deselected, suites if by_id else (), cut
            ),
            of_other_profiles=ledger.names,
            **self._known_names(loaded),
        )

    def _known_names(self, loaded: bool) -> dict[str, Any]:
        """Return what tells a slip from another model's or data set's name, for ``find_unjudged``."""
        import open_clip

        from pytest_cliprobust.datasets import embedded

        replaced = self.config.data != "embedded"
        ask = replaced and loaded
        clean = self.evaluation(self.config.models[0]).dataset("clean") if ask else None
        models = {
            name for pair in open_clip.list_pretrained() for name in (pair[0], "/".join(pair))
        }
        return {
            "datasets": [clean.name] if clean else [],
            "known_models": {*models, *open_clip.list_models(), "reference"},
            "own_datasets": embedded.names(),
            "replaced_data": replaced,
        }

    def record(self) -> tuple[RecordChange, ...]:
        """Write bounds from what was measured into the threshold file, and return what changed.

        Raises:
            ClipRobustError: the file cannot be written, or would be wrong.
        """
        if not self.recording or self.threshold_path is None or not self.records:
            return ()
        changes = record(
            self.threshold_path,
            [record.measurement for record in self.records],
            profile=self.config.profile,
            generic=("profile",),
            comparisons=len(self.thresholds.rules) or 1,
            noise={record.key: record.noise_floor for record in self.records},
            classes=self.classes(self.config.models[0]),
        )
        return tuple(changes)

    def run(self, found: Unjudged, *, ended: bool) -> Run:
        """Return the run as a value; ``ended``: whether it came to its end, as far as pytest knows."""
        ledger, missing = self.ledger, tuple(self.ledger.missing())
        return Run(
            config=self.config,
            records=tuple(sorted(self.records, key=lambda record: record.key)),
            models=self.models(),
            not_run=tuple(ledger.not_run()),
            missing=missing,
            not_collected=tuple(ledger.not_collected),
            planned=len(ledger.planned),
            unjudged=found,
            unjudged_fail=fails(found, found.policy),
            recording=self.recording,
            notes=self.notes(),
            mistakes=tuple(dict.fromkeys([*self.mistakes, *ledger.mistakes()])),
            troubles=tuple(
                dict.fromkeys([*self.troubles, *ledger.troubles(), *self._lacked(found)])
            ),
            thresholds=self._shown_thresholds,
            complete=ended and not (missing or ledger.not_collected),
        )

    def _lacked(self, found: Unjudged) -> list[str]:
        """Return what the environment lacked for tests that bounds wait for."""
        if not found.skipped or found.policy.skipped != "fail":
            return []
        waiting = [
            suite
            for suite in self.ledger.suites
            if any(matches(rule.selectors.get("suite", ()), suite) for rule in found.skipped)
        ]
        return self.ledger.lacking(waiting)

    def abandon(self) -> None:
        """Leave the journal: that of a run that measured nothing goes, but for an earlier one's figures."""
        if self.journal is not None:
            self.journal.leave()
            if not self.records:
                self.journal.close(())

    def write(self, run: Run) -> list[ClipRobustError]:
        """Write the reports, and return what keeps any of them from being written.

        The journal goes once all are, as its figures are in them.
        """
        errors = []
        for path in self.reports:
            try:
                files.write(path, run)
            except ClipRobustError as error:
                errors.append(error)
        if self.journal is not None and not errors:
            self.journal.close([record.key for record in run.records])
        return errors


def _noise_note(name: str, share: float, nats: float) -> str:
    return (
        f"numerical noise of {name}: {share:.2g} of a share or probability, {nats:.2g} nats (the size "
        "of a forward pass changes as much); intervals are widened by it before they are judged"
    )


def by_suite(entries: Iterable[NotMeasured]) -> dict[str, list[str]]:
    """Return the ids of tests by suite."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        found.setdefault(entry.suite, []).append(entry.test)
    return found


def _joined(mine: ModelSummary, theirs: ModelSummary) -> ModelSummary:
    """Return a model's summary with the work of another process added."""
    return replace(
        mine,
        encoded=mine.encoded + theirs.encoded,
        cached=mine.cached + theirs.cached,
        probed=mine.probed + theirs.probed,
        noise=theirs.noise or mine.noise,
    )
