"""A run: all records, with the environment, the models, and what was not measured.

Whatever stands behind the verdict (terminal, JSON, Markdown) is made from this, and from nothing else.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pytest_cliprobust import __version__
from pytest_cliprobust.datasets.skipping import Skipped
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.gating.baseline import Baseline, Provenance
from pytest_cliprobust.gating.recording import RecordChange
from pytest_cliprobust.gating.unjudged import Unjudged
from pytest_cliprobust.results.data import DataSummary
from pytest_cliprobust.results.record import Record


def now() -> str:
    """Return the time as reports write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


@dataclass(frozen=True)
class Environment:
    """Where a run took place."""

    python: str
    torch: str
    platform: str

    @classmethod
    def here(cls) -> Environment:
        """Return that of this process."""
        import torch

        return cls(platform.python_version(), torch.__version__, platform.platform())


@dataclass(frozen=True)
class ModelSummary:
    """A model under test, as reports tell of it.

    Attributes:
        name: as the command line named it.
        architecture, pretrained, digest, notes, tags: see
            :class:`~pytest_cliprobust.targets.base.TargetInfo`.
        device, precision: where and how it ran.
        encoded, cached: images that went through the model, and that were in the cache.
        noise: what the size of a forward pass alone changes, (share or probability, nats); None if
            nothing was judged.
        probed: images that went through the model to see whether its features can be trusted.
        weights: hex sha256 of each file that the weights were read from, by the file's name; none where code
            of the user's made them.
    """

    name: str
    architecture: str
    pretrained: str
    digest: str
    notes: tuple[str, ...]
    tags: Mapping[str, str]
    device: str
    precision: str
    encoded: int = 0
    cached: int = 0
    noise: tuple[float, float] | None = None
    probed: int = 0
    weights: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        data = asdict(self)
        data["notes"] = list(self.notes)
        data["images"] = {kind: data.pop(kind) for kind in ("encoded", "cached", "probed")}
        data["noise"] = None if self.noise is None else list(self.noise)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelSummary:
        """Return the summary that :meth:`as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: ``data`` is something else.
        """
        noise = data["noise"]
        return cls(
            **{
                name: str(data[name])
                for name in ("name", "architecture", "pretrained", "digest", "device", "precision")
            },
            notes=tuple(str(note) for note in data["notes"]),
            tags={str(k): str(v) for k, v in data["tags"].items()},
            encoded=int(data["images"]["encoded"]),
            cached=int(data["images"]["cached"]),
            probed=int(data["images"].get("probed", 0)),
            noise=None if noise is None else (float(noise[0]), float(noise[1])),
            weights={str(k): str(v) for k, v in data.get("weights", {}).items()},
        )


@dataclass(frozen=True)
class NotMeasured:
    """A test that measured nothing, or not all, and why."""

    test: str
    suite: str
    reason: str


@dataclass(frozen=True)
class Run:
    """One run of the harness.

    Attributes:
        config: the options.
        records: what was measured and judged, by key.
        models: by name.
        not_run: tests that were skipped.
        missing: tests that did not begin, or did not come to their end.
        not_collected: files whose tests are not known, as they could not be collected.
        planned: number of tests that evaluate a model and were selected.
        unjudged: bounds that no figure met.
        unjudged_fail: whether any of those was asked for, so that the run is not green.
        changes: bounds that recording wrote.
        recording: whether the run recorded.
        notes: what a reader must know beside the figures.
        skipped: what was left out of data sets, as it cannot be read.
        mistakes: the user's, one line each.
        troubles: what the environment lacked, one line each.
        thresholds: the threshold file as messages show it; empty if there is none.
        complete: whether it came to its end, with all its tests.
        partial: whether single tests were picked for it, so that most figures are missing.
        named: whether samples go by their names; else by digests of these, and without pictures.
        provenance: what decides the figures beside the models; None where that is not known.
        exit_status: the exit code.
        ending: the same in a word.
        environment: where it took place.
        baseline: the earlier run that it was held against; None if there was none.
        held_against: what that run is called, as messages have it; empty if there was none.
        kept: where the history has it, as the summary says; empty if it has not.
        began, written: when it began and ended.
        version: of this package.
        data: which data played which role, and the templates.
        lacking: what was required (``--clip-require``) and is missing, one line each.
        logged: where loggers (``--clip-logger``) put it, one line each.
        not_logged: what kept a logger from that, one line each.
        sections: suites that measured anything by the section that their files name, in their order; one that
            names none is left out.
    """

    config: RunConfig
    records: tuple[Record, ...]
    models: Mapping[str, ModelSummary]
    not_run: tuple[NotMeasured, ...] = ()
    missing: tuple[NotMeasured, ...] = ()
    not_collected: tuple[str, ...] = ()
    planned: int = 0
    unjudged: Unjudged = field(default_factory=Unjudged)
    unjudged_fail: bool = False
    changes: tuple[RecordChange, ...] = ()
    recording: bool = False
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    mistakes: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()
    thresholds: str = ""
    complete: bool = True
    partial: bool = False
    named: bool = True
    provenance: Provenance | None = None
    exit_status: int = 0
    ending: str = "passed"
    environment: Environment = field(default_factory=Environment.here)
    baseline: Baseline | None = field(default=None, repr=False)
    held_against: str = ""
    kept: str = ""
    began: str = ""
    written: str = field(default_factory=now)
    version: str = __version__
    data: DataSummary = field(default_factory=DataSummary)
    lacking: tuple[str, ...] = ()
    logged: tuple[str, ...] = ()
    not_logged: tuple[str, ...] = ()
    sections: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def unnamed(self) -> Run:
        """Return the same run with samples that go by digests of their names, and no pictures."""
        records = tuple(record.unnamed() for record in self.records)
        skipped = tuple(one.unnamed() for one in self.skipped)
        return replace(self, records=records, skipped=skipped, named=False)

    @property
    def not_compared(self) -> tuple[Record, ...]:
        """The figures with a bound on a change that nothing could be held against; none while recording."""
        if self.recording:
            return ()
        return tuple(record for record in self.records if record.verdict.not_compared)

    @property
    def judged(self) -> int:
        """How many figures were held against a bound."""
        bounded = sum(record.verdict.status != "unbounded" for record in self.records)
        return bounded - len(self.not_compared)

    @property
    def undecided(self) -> int:
        """How many of those a bound could not decide on, on so few samples."""
        found = sum(record.verdict.status == "inconclusive" for record in self.records)
        return found - len(self.not_compared)

    @property
    def waived(self) -> tuple[Record, ...]:
        """The figures that miss a bound under a waiver."""
        return tuple(record for record in self.records if record.verdict.waiver is not None)

    @property
    def too_many_undecided(self) -> bool:
        """Whether so many are undecided that the policy does not call the run green."""
        policy = self.unjudged.policy
        return not self.recording and policy.too_many(self.undecided, self.judged)

    @property
    def gates_nothing(self) -> bool:
        """Whether no bound judged anything."""
        return not (self.judged or self.not_compared or self.recording)

    @property
    def lacks_a_bound(self) -> bool:
        """Whether it gates nothing although the policy requires bounds."""
        return self.gates_nothing and self.unjudged.policy.require_bound
