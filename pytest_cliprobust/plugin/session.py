"""What a run with a model keeps: loaded models, the threshold file, all records; and the run at its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from pytest_cliprobust.datasets.providers import provider_of
from pytest_cliprobust.datasets.roles import EMBEDDED
from pytest_cliprobust.datasets.skipping import Skipped
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.gating.baseline import (
    Baseline,
    Provenance,
    bare_key,
    beside,
    load_baseline,
)
from pytest_cliprobust.gating.family import Family, settled
from pytest_cliprobust.gating.reading import load_thresholds
from pytest_cliprobust.gating.recording import RecordChange
from pytest_cliprobust.gating.rules import matches
from pytest_cliprobust.gating.stale import find_stale
from pytest_cliprobust.gating.thresholds import ThresholdFile
from pytest_cliprobust.gating.unjudged import Chosen, Unjudged, fails, find_unjudged
from pytest_cliprobust.plugin.comparing import (
    check_compared,
    chosen_baseline,
    comparison_lines,
    family_of,
    provenance_of,
    twin_lines,
    why_no_baseline,
)
from pytest_cliprobust.plugin.known import NoSuite, names_elsewhere, suites_in, vocabularies
from pytest_cliprobust.plugin.ledger import Ledger, suite_of_file
from pytest_cliprobust.plugin.options import (
    given_models,
    loggers_of,
    reports_of,
    run_config,
    switched_on,
    value_of,
)
from pytest_cliprobust.plugin.processes import (
    joined_models,
    joined_skipped,
    noise_notes,
    summary_of,
)
from pytest_cliprobust.plugin.progress import ProgressLine
from pytest_cliprobust.plugin.recorder import Recorder
from pytest_cliprobust.plugin.remembering import history_path, keeps_history, remember
from pytest_cliprobust.plugin.required import check_required, missing_required
from pytest_cliprobust.plugin.suites import installed, sections, shipped, suites_folder
from pytest_cliprobust.plugin.writing import check_writing
from pytest_cliprobust.reporting import files
from pytest_cliprobust.reporting.header import header_lines, policy_lines
from pytest_cliprobust.reporting.trackers import check_loggers, hand_over
from pytest_cliprobust.results.data import DataSummary, data_of
from pytest_cliprobust.results.journal import Journal
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import ModelSummary, NotMeasured, Run, now
from pytest_cliprobust.targets.hub import tell_progress_to


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
        internal_error: whether pytest, or a plugin, had an error of its own, in whatever process.
        remarks: what else a reader must know of how the run ended, one line each.
        known_suites: names of the shipped suites and of those collected.
        collected: number of tests.
        needed: whether any of them evaluates a model.
        deselected: ids of the tests that were left out, by suite.
        selected: suites of the tests that will run.
        failed_last: whether only tests that failed last were collected (``--lf``): the others are not known.
        loggers: what the run is handed over to at its end.
        recorded: what recording wrote beside the threshold file, one line each.
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
        self.loggers = loggers_of(config)
        self.named = not switched_on(config, "no-samples")
        self.began = now()
        self.progress = ProgressLine(config)
        self.ledger = Ledger()
        self.mistakes: list[str] = []
        self.troubles: list[str] = []
        self.died: list[str] = []
        self.internal_error = False
        self.remarks: list[str] = []
        self.known_suites: tuple[str, ...] = shipped()
        self.collected = 0
        self.needed = False
        self.deselected: dict[str, list[str]] = {}
        self.failed_last = False
        self._family_of_workers: dict[str, Any] = {}
        self.journal: Journal | None = None
        self._evaluations: dict[str, Evaluation] = {}
        self._noise: dict[str, tuple[float, float]] = {}
        self._told: list[Mapping[str, Any]] = []
        self.selected: set[str] = set()
        self.recorded: list[str] = []

    # --- At the start ------------------------------------------------------------------------------

    def evaluation(self, model: str) -> Evaluation:
        """Return the evaluation of ``model``, loading the model at the first request."""
        if model not in self._evaluations:
            tell_progress_to(self.progress)
            self._evaluations[model] = Evaluation(
                self.config, model, self.progress, self.progress.tell
            )
        return self._evaluations[model]

    def start(self, lacking: Unavailable | None = None) -> None:
        """Load the models and the threshold file, so that mistakes show before any test runs.

        Args:
            lacking: what the environment is known to lack, so that nothing can be loaded.

        Raises:
            Unavailable: ``lacking``, or else the environment lacks something that they need.
            ClipRobustError: a mistake in an option, a model, the data or the threshold file.
        """
        # Where the command line names the model, the process that reports has looked before its workers.
        if not (self.is_worker and self.pytest_config.getoption("--clip-model")):
            check_writing(
                self.reports,
                self.threshold_path if self.recording else None,
                self.history_path if self.keeps_history else None,
            )
            check_loggers(self.loggers)
            self._check_recorded()
        if lacking is not None:
            raise lacking
        if not self._reports_for_workers:  # only the workers know the suites of the user's own
            check_required(self.config.required, self.known_suites)
        for model in self.config.models:
            self.evaluation(model)
        if self.config.data != EMBEDDED:
            first = self.evaluation(self.config.models[0])
            first.provider.check_paths()
            first.dataset("clean")
        if self.config.against is not None and self._reports_for_workers:
            raise ClipRobustError(
                "--clip-against needs both models in one process; leave out -n, or compare two runs "
                "with `cliprobust compare`"
            )
        self.thresholds.register_perturbations()
        check_compared(self.baseline, self.thresholds, self.config.models)
        if not self._reports_for_workers:
            for model in self.config.models:
                self.evaluation(model).check()

    def _check_recorded(self) -> None:
        """Find options that only recording reads: without it, what they accept would stay a loss."""
        for name in ("--clip-figures", "--clip-because"):
            if self.pytest_config.getoption(name) and not self.recording:
                raise ClipRobustError(
                    f"{name} goes with --clip-record: without it nothing is recorded"
                )

    def open_journal(self) -> None:
        """Start to write down what is measured, where a report was asked for."""
        if self.reports and not self.is_worker and self.journal is None:
            check_writing(self.reports[:1])
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
        """Return the names that a rule may select; suites beside the threshold file exist, too."""
        return vocabularies(self.config.models, self.known_suites, suites_in(self._folders))

    @property
    def _folders(self) -> set[Path]:
        """The folders in which, or below which, suites of the user's own lie."""
        config = self.pytest_config
        beside = {self.threshold_path.resolve().parent} if self.threshold_path else set()
        return {config.rootpath, config.invocation_params.dir, *beside}

    @cached_property
    def baseline(self) -> Baseline | None:
        """The earlier run that this one is compared with.

        Raises:
            ClipRobustError: it is missing or broken.
        """
        if self.config.against is not None:
            return None
        if self.recording:
            path = None if self.threshold_path is None else beside(self.threshold_path)
            if path is None or not path.exists():
                return None
            return replace(load_baseline(path), current=self.provenance)
        named = value_of(self.pytest_config, "baseline")
        found = chosen_baseline(named, self.thresholds, self.threshold_path, self.history_path)
        return None if found is None else replace(found, current=self.provenance)

    @cached_property
    def no_baseline(self) -> str:
        """Why bounds on changes are held against nothing, where they are, and what to do."""
        return why_no_baseline(value_of(self.pytest_config, "baseline"), self.threshold_path)

    def baseline_of(self, model: str) -> Baseline | None:
        """Return what a model is compared with: the earlier run, or the other model of this one."""
        other = self.config.against
        if other is None or model == other:
            return self.baseline
        figures = {
            (bare_key(record.measurement), other): record.figure
            for record in self.records
            if record.model == other
        }
        return Baseline(
            f"{other} in this run", figures, self.provenance, self.provenance, within=other
        )

    @cached_property
    def provenance(self) -> Provenance:
        """What decides the figures of this run beside the models."""
        evaluations = {name: self.evaluation(name) for name in self.config.models}
        return provenance_of(self.config, evaluations)

    @cached_property
    def family(self) -> Family:
        """How many bounds the selected tests judge, as far as that is known beforehand."""
        return family_of(
            self.baseline,
            self.thresholds,
            self.config.models,
            self.selected or self.known_suites,
            max(1, self.collected),
        )

    @property
    def _judged_as(self) -> Family:
        """The family in which the figures were judged, by this process or by its workers."""
        if not self._reports_for_workers:
            return self.family
        return Family(**self._family_of_workers)

    def settle(self) -> list[str]:
        """Judge all bounds together at the end of the run, and return the keys of those that fail now."""
        policy = self.thresholds.policy
        judged = [(record.measurement, record.verdict) for record in self.records]
        after = settled(judged, policy, self._judged_as)
        if self.waives:
            pairs = zip(self.records, after, strict=True)
            after = [
                self.thresholds.waived(one.measurement, verdict, one.test) for one, verdict in pairs
            ]
        changed = [
            record.key
            for record, verdict in zip(self.records, after, strict=True)
            if verdict.failed and not record.verdict.failed
        ]
        self.ledger.rejudge({record.key: v for record, v in zip(self.records, after, strict=True)})
        return changed

    def header(self) -> list[str]:
        """Return the lines that say what is under test, on what."""
        notes = self.journal.notes if self.journal else []
        lines = header_lines(
            self.config, self.models(), self._shown_thresholds, notes, self.known_data()
        )
        with contextlib.suppress(ClipRobustError):  # told where the file is read
            lines += policy_lines(self.thresholds.policy)
        return [*lines, *self._comparison()]

    def _comparison(self) -> list[str]:
        """Return what the models are compared with, and what else differs, as far as is known here."""
        if not self._evaluations:
            return []
        # A process whose threshold file is wrong has told so, and runs nothing.
        with contextlib.suppress(ClipRobustError):
            if self.config.against is not None:
                return twin_lines(self.provenance, self.config.models, self.config.against)
            if self.baseline is not None:
                asked = self.thresholds.policy.baseline_model
                return comparison_lines(self.baseline, self.config.models, asked)
            if not self.recording and any(rule.on_change for rule in self.thresholds.rules):
                return [
                    f"clip baseline: none, so bounds on changes are not judged: {self.no_baseline}"
                ]
        return []

    @property
    def _shown_thresholds(self) -> str:
        return str(shown_path(self.threshold_path)) if self.threshold_path else ""

    # --- While tests run ---------------------------------------------------------------------------

    @property
    def waives(self) -> bool:
        """Whether waivers count: not where bounds are recorded, or a known loss is to be seen."""
        return not self.recording and self.config.plant is None

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
            self.failed_last |= planned["failed_last"]
            self._family_of_workers = planned["family"]
        records = self.ledger.take(report)
        if self.journal is not None and records:
            try:
                self.journal.add(records if self.named else [r.unnamed() for r in records])
            except ClipRobustError as error:
                self.note(error)  # once; the report at the end may find room again

    def note(self, error: ClipRobustError) -> None:
        """Keep an error that did not end the run at once."""
        told = self.troubles if isinstance(error, Unavailable) else self.mistakes
        told.append(str(error))

    def planned(self) -> dict[str, Any]:
        """Return which tests a worker was given and which not, as plain data: it may die at any of them."""
        return {
            "tests": self.ledger.planned,
            "deselected": self.deselected,
            "failed_last": self.failed_last,
            "family": asdict(self.family),
        }

    def models(self) -> dict[str, ModelSummary]:
        """Return the models under test: those loaded here, and what the workers did with theirs."""
        loaded = self._evaluations.items()
        own = {name: summary_of(name, one, self._noise.get(name)) for name, one in loaded}
        return joined_models(own, self._told, self.config.models)

    @property
    def evaluated(self) -> bool:
        """Whether any test of this run evaluates a model."""
        return self.needed or bool(self.ledger.suites)

    @property
    def has_news(self) -> bool:
        """Whether there is anything that a report would tell."""
        told = self.mistakes or self.troubles or self.died or self.ledger.not_collected
        return self.evaluated or self.internal_error or bool(told or self.remarks)

    def notes(self) -> tuple[str, ...]:
        """Return what a reader of the summary must know beside the figures."""
        own = [*self.remarks]
        own += [note for e in self._evaluations.values() for note in e.encoder.notes]
        own += noise_notes(self._noise)
        own += [
            f"worker {name} died: how many images it encoded is not known" for name in self.died
        ]
        theirs = [str(note) for told in self._told for note in told.get("notes", ())]
        # Where the header is not printed, or was before any model was known.
        if self.pytest_config.option.verbose < 0 or not self._evaluations:
            theirs += [str(line) for told in self._told for line in told.get("compared", ())]
        return tuple(dict.fromkeys([*own, *theirs]))

    def skipped(self) -> tuple[Skipped, ...]:
        """Return what was left out of each data set, as it cannot be read: of its largest part."""
        own = [one for e in self._evaluations.values() for one in e.skipped.values()]
        return joined_skipped(own, self._told)

    def _mistakes(self) -> list[str]:
        """Return the user's mistakes, and those of tests, each once."""
        too_many = [one.mistake() for one in self.skipped() if one.too_many]
        return list(dict.fromkeys([*self.mistakes, *self.ledger.mistakes(), *too_many]))

    # --- From worker to controller -----------------------------------------------------------------

    def tell(self) -> dict[str, Any]:
        """Return what a worker has to say at its end, as plain data."""
        return {
            "mistakes": self.mistakes,
            "troubles": self.troubles,
            "skipped": [one.as_dict() for one in self.skipped()],
            "notes": list(self.notes()),
            "compared": [line.strip().removeprefix("note: ") for line in self._comparison()],
            "models": [model.as_dict() for model in self.models().values()],
            "collected": self.collected,
            "deselected": self.deselected,
            "failed_last": self.failed_last,
            "provenance": None if (found := self.known_provenance()) is None else found.as_dict(),
            "data": self.known_data().as_dict(),
        }

    def listen(self, told: Mapping[str, Any]) -> None:
        """Take over what a worker has said: all of :meth:`tell`, or what one has that evaluated nothing."""
        self._told.append(told)
        self.mistakes += map(str, told["mistakes"])
        self.troubles += map(str, told.get("troubles", ()))
        self.collected = max(self.collected, int(told["collected"]))
        self.deselected.update(told.get("deselected", {}))
        self.failed_last |= bool(told.get("failed_last", False))

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
        ask = loaded and self.config.data != EMBEDDED
        asked = self.evaluation(self.config.models[0]) if ask else None
        used = [record.rule for record in records if record.rule]
        used += [name for record in records for name in record.also_used]
        about: dict[str, Any] = {
            "suites_run": suites,
            "suites_broken": ledger.broken,
            "models": self.config.models,
            "chosen": Chosen(
                by_suite(ledger.not_run()), self.deselected, suites if by_id else (), cut
            ),
            "of_other_profiles": ledger.declared,
            "why_no_suite": NoSuite(
                {*self.known_suites, *suites, *self.deselected, *ledger.planned.values()},
                self._folders,
            ),
            **names_elsewhere(self.config, asked),
        }
        measured = [record.measurement for record in records]
        found = find_unjudged(self.thresholds, used=used, measured=measured, **about)
        if self.waives:
            judged = [(record.measurement, record.verdict, record.test) for record in records]
            found.stale = find_stale(self.thresholds, judged, **about)
        return found

    def record(self) -> tuple[RecordChange, ...]:
        """Write bounds from what was measured into the threshold file, and return what changed.

        Raises:
            ClipRobustError: the file cannot be written, or would be wrong.
        """
        if not self.recording or self.threshold_path is None or not self.records:
            return ()
        if any(one.too_many for one in self.skipped()):
            self.recorded = ["nothing recorded: too many samples cannot be read"]
            return ()
        changes, self.recorded = self._recorder.write(self.records, self.provenance, self.classes)
        return changes

    @property
    def _recorder(self) -> Recorder:
        assert self.threshold_path is not None
        patterns = value_of(self.pytest_config, "figures") or ""
        return Recorder(
            self.threshold_path,
            self.config,
            self.baseline,
            tuple(filter(None, map(str.strip, patterns.split(",")))),
            value_of(self.pytest_config, "because") or "",
        )

    @property
    def lost_while_recording(self) -> list[str]:
        """Keys of figures that missed the bounds that they had before a recording replaced these."""
        return [
            record.key
            for record in self.records
            if record.verdict.status == "fail" and record.verdict.missed_by is not None
        ]

    def known_provenance(self) -> Provenance | None:
        """Return what decides the figures, from the process that has the models; None if none told."""
        if set(self._evaluations) >= set(self.config.models):
            with contextlib.suppress(ClipRobustError):
                return self.provenance
        told = next((t["provenance"] for t in self._told if t.get("provenance")), None)
        return None if told is None else Provenance.from_dict(told)

    def known_data(self) -> DataSummary:
        """Return which data played which role, from the process that has it."""
        first = next(
            (self._evaluations[m] for m in self.config.models if m in self._evaluations), None
        )
        if first is not None:
            with contextlib.suppress(ClipRobustError):
                return data_of(first)
        told = next((t["data"] for t in self._told if t.get("data")), None)
        return DataSummary() if told is None else DataSummary.from_dict(told)

    def _lacking(self) -> tuple[str, ...]:
        """Return what was required and is missing."""
        if not self.config.required or self.pytest_config.option.collectonly:
            return ()
        provider = provider_of(self.config.sets)
        return tuple(
            missing_required(self.config.required, provider, self.records, self.ledger.not_run())
        )

    def run(self, found: Unjudged, *, ended: bool, partial: bool = False) -> Run:
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
            skipped=self.skipped(),
            mistakes=tuple(self._mistakes()),
            troubles=tuple(
                dict.fromkeys([*self.troubles, *ledger.troubles(), *self._lacked(found)])
            ),
            thresholds=self._shown_thresholds,
            complete=ended and not (missing or ledger.not_collected),
            partial=partial,
            named=True,
            provenance=self.known_provenance() if self.records else None,
            baseline=self._known_baseline(),
            held_against=self._held_against(),
            began=self.began,
            data=self.known_data(),
            lacking=self._lacking(),
            sections=sections({r.measurement.suite for r in self.records}, ledger.sections),
        )

    def _known_baseline(self) -> Baseline | None:
        """Return the earlier run that figures were held against, for the report that draws it beside.

        Read anew, since the process that reports need not have loaded the models that it was read for.
        """
        if not self.records or not any(path.name.endswith(files.BESIDE) for path in self.reports):
            return None
        if self.config.against is not None:
            return self.baseline_of(self.config.models[-1])  # what it is held against comes first
        named = value_of(self.pytest_config, "baseline")
        try:
            return chosen_baseline(named, self.thresholds, self.threshold_path, self.history_path)
        except ClipRobustError:  # told already, and not in the way of the report
            return None

    def _held_against(self) -> str:
        """Return what figures were held against, as messages call it; empty where nothing was compared."""
        if not any(record.verdict.compared for record in self.records):
            return ""
        if self.config.against is not None:
            return f"{self.config.against} in this run"
        named = value_of(self.pytest_config, "baseline")
        try:
            # Known without reading it anew, where this process judged.
            found = self.__dict__.get("baseline") or chosen_baseline(
                named, self.thresholds, self.threshold_path, self.history_path
            )
        except ClipRobustError:  # told already
            return ""
        return "" if found is None else found.source

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
                files.write(path, self._told_of(run))
            except ClipRobustError as error:
                errors.append(error)
        if self.journal is not None and not errors:
            self.journal.close([record.key for record in run.records])
        return errors

    @property
    def history_path(self) -> Path | None:
        """The file that runs are kept in; None if they are not kept."""
        return history_path(self.pytest_config, self.config)

    @property
    def keeps_history(self) -> bool:
        """Whether the user named a file for the history, so that a run is not whole without it."""
        return keeps_history(self.pytest_config, self.config)

    def _told_of(self, run: Run) -> Run:
        """Return a run as it may leave this process: without the names of samples, if so asked."""
        return run if self.named else run.unnamed()

    def remember(self, run: Run) -> Run:
        """Add the run to the history, and return it with where it is, or why it is not there.

        Raises:
            Unavailable: there is no room in the file that the user named for it.
            ClipRobustError: that file cannot be written. Another one is a note.
        """
        return remember(run, self._told_of(run), self.pytest_config)

    def hand_over(self, run: Run) -> tuple[Run, list[Unavailable]]:
        """Hand the run over to the loggers, and return it with where it is, and what went wrong.

        What went wrong is told in the run, too; whether that keeps it from being green, the user says.
        """
        if self.config.plant is not None:
            return run, []
        told = list(hand_over(self._told_of(run), self.loggers, self.reports))
        errors = [one for one in told if isinstance(one, Unavailable)]
        where = tuple(one for one in told if isinstance(one, str))
        return replace(run, logged=where, not_logged=tuple(map(str, errors))), errors

    @property
    def needs_loggers(self) -> bool:
        """Whether a run that could not be handed over is not green."""
        return switched_on(self.pytest_config, "logger-required")


def by_suite(entries: Iterable[NotMeasured]) -> dict[str, list[str]]:
    """Return the ids of tests by suite."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        found.setdefault(entry.suite, []).append(entry.test)
    return found
