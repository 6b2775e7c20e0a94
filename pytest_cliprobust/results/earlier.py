"""An earlier run: its figures, with their outcomes where they were kept, and what else decided them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.gating.baseline import Anchor, Baseline, Provenance, bare_key
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.results.outcomes import from_manifest, unnamed, with_outcomes
from pytest_cliprobust.results.plain import SCHEMA
from pytest_cliprobust.results.record import Evidence


@dataclass(frozen=True)
class Earlier:
    """A run that is over.

    Attributes:
        source: where it comes from, as messages say it: ``run 12``, ``report.json``.
        measurements: by key. Their figures' outcomes have no statistic.
        header: the report without its measurements.
        verdicts: what was said of each, by key.
        directions: by key whether more is better, None where neither is; a metric of a user's own may be
            missing.
        noise: numerical noise by key.
        number: its number in the history; None for a file.
        tags: in the history.
        anchors: the figures of the anchor of its series, by the keys that a baseline has them by.
        tests: node id of the test that measured each, by key.
        evidence: of missed bounds, by key, where their tests gave any.
        older: see :class:`.Baseline`.
    """

    source: str
    measurements: Mapping[str, Measurement]
    header: Mapping[str, Any]
    verdicts: Mapping[str, Mapping[str, Any]]
    directions: Mapping[str, bool | None]
    noise: Mapping[str, float]
    number: int | None = None
    tags: tuple[str, ...] = ()
    anchors: Mapping[str, Anchor] = field(default_factory=dict)
    tests: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    older: Mapping[tuple[str, str], Provenance] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, Figure]:
        """The figures by key."""
        return {key: measurement.figure for key, measurement in self.measurements.items()}

    @property
    def models(self) -> tuple[str, ...]:
        """The models that figures are of."""
        return tuple(dict.fromkeys(m.model for m in self.measurements.values()))

    @property
    def complete(self) -> bool:
        """Whether it came to its end."""
        return bool(self.header.get("complete", True))

    @property
    def named(self) -> bool:
        """Whether its samples go by their names; else by digests of these."""
        return bool(self.header.get("samples", True))

    @property
    def provenance(self) -> Provenance | None:
        """What decides the figures beside the models; None where the run does not say."""
        told = self.header.get("provenance")
        return None if told is None else Provenance.from_dict(told)

    def unnamed(self) -> Earlier:
        """Return the same run with samples that go by digests of their names."""
        if not self.named:
            return self
        measurements = {
            key: replace(m, figure=unnamed(m.figure)) for key, m in self.measurements.items()
        }
        return replace(self, measurements=measurements, header={**self.header, "samples": False})

    def baseline(self) -> Baseline:
        """Return the run as what a session is held against.

        Raises:
            ClipRobustError: it did not come to its end.
        """
        if not self.complete:
            raise ClipRobustError(
                f"{self.source}: that run did not come to its end, so it is no baseline; run it again"
            )
        figures = {(bare_key(m), m.model): m.figure for m in self.measurements.values()}
        return Baseline(
            self.source, figures, self.provenance, anchors=self.anchors, older=self.older
        )


#: What reading a report raises that holds something else.
_NOT_OURS = (KeyError, TypeError, ValueError, AttributeError, ClipRobustError)


@dataclass(frozen=True)
class _Entry:
    """One measurement of a report, with what was said of it."""

    measurement: Measurement
    verdict: Mapping[str, Any]
    noise: float
    test: str
    evidence: Evidence | None
    direction: bool | None
    has_direction: bool  # a metric of a user's own may have none

    @classmethod
    def of(cls, told: Mapping[str, Any], blobs: Mapping[str, bytes]) -> _Entry:
        """Return what an entry of a report says; one of :data:`_NOT_OURS` where it is none."""
        measurement = Measurement.from_dict(told)
        outcomes = from_manifest(told["figure"].get("outcomes"), blobs)
        evidence = told.get("evidence")
        return cls(
            replace(measurement, figure=with_outcomes(measurement.figure, outcomes)),
            dict(told["verdict"]),
            float(told.get("noise_floor", 0.0)),
            str(told.get("test", "")),
            None if evidence is None else Evidence.from_dict(evidence),
            told.get("higher_is_better"),
            "higher_is_better" in told,
        )


def of_document(
    document: Mapping[str, Any],
    blobs: Mapping[str, bytes],
    source: str,
    number: int | None = None,
    tags: tuple[str, ...] = (),
) -> Earlier:
    """Return the run that a report tells of.

    Args:
        document: the report.
        blobs: the arrays that its figures' outcomes name.
        source: as messages say it.
        number: in the history.
        tags: in the history.

    Raises:
        ClipRobustError: a report of a newer version, or one that is broken.
    """
    schema = document.get("schema")
    if not isinstance(schema, int) or not isinstance(document.get("measurements"), list):
        raise ClipRobustError(f"{source}: not a JSON report of a run")
    if schema > SCHEMA:
        raise ClipRobustError(
            f"{source}: a report of schema {schema}, and this version reads {SCHEMA}; update "
            "pytest-cliprobust"
        )
    entries: dict[str, _Entry] = {}
    for position, told in enumerate(document["measurements"]):
        try:
            entry = _Entry.of(told, blobs)
        except _NOT_OURS as error:
            raise ClipRobustError(
                f"{source}: measurement {position} is not as this version writes it "
                f"({type(error).__name__}: {str(error)[:200]}); run it again"
            ) from None
        if entry.measurement.key in entries:
            raise ClipRobustError(f"{source}: holds {entry.measurement.key} twice; run it again")
        entries[entry.measurement.key] = entry
    header = {key: told for key, told in document.items() if key not in ("measurements", "blobs")}
    _check_header(header, source)
    found = Earlier(
        source,
        {key: entry.measurement for key, entry in entries.items()},
        header,
        {key: entry.verdict for key, entry in entries.items()},
        {key: entry.direction for key, entry in entries.items() if entry.has_direction},
        {key: entry.noise for key, entry in entries.items()},
        number,
        tags,
        tests={key: entry.test for key, entry in entries.items()},
        evidence={key: e.evidence for key, e in entries.items() if e.evidence is not None},
    )
    try:
        # It is read later, and must be readable now, while there is a file to name.
        _ = found.provenance
    except _NOT_OURS as error:
        raise _not_ours(source, f"{type(error).__name__}: {str(error)[:200]}") from None
    return found


#: Types of what is read of a header, as ``report.schema.json`` has them; what is not there is not asked for.
_HEADER: dict[str, tuple[type, ...]] = {
    "complete": (bool,),
    "samples": (bool,),
    "exit_status": (int,),
    "because": (list,),
    "notes": (list,),
    "written": (str,),
    "thresholds": (str, type(None)),
    "config": (dict,),
    "models": (dict,),
    "sections": (dict,),
}
_CONFIG: dict[str, tuple[type, ...]] = {
    "seed": (int,),
    "limit": (int, type(None)),
    "data": (str,),
    "profile": (str,),
    "sources": (dict,),
}
_MODEL: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("architecture", "pretrained", "digest", "device", "precision"), (str,)),
    "notes": (list,),
}


def _check_header(header: Mapping[str, Any], source: str) -> None:
    """Return if what is read of a report's header is of the types that this version writes.

    Raises:
        ClipRobustError: it is not; the message names the field.
    """
    _check_types(header, _HEADER, "", source)
    _check_types(header.get("config", {}), _CONFIG, "config.", source)
    sections = header.get("sections", {})
    _check_types(sections, dict.fromkeys(sections, (list,)), "sections.", source)
    for title, suites in sections.items():
        if not all(isinstance(suite, str) for suite in suites):
            raise _not_ours(source, f"sections.{title[:60]} is {suites!r:.60}")
    models = header.get("models", {})
    _check_types(models, dict.fromkeys(models, (dict,)), "models: ", source)
    for name, model in models.items():
        lacking = [field for field in _MODEL if field not in model]
        if lacking:
            raise _not_ours(source, f"models.{name!r:.60} has no {lacking[0]}")
        _check_types(model, _MODEL, f"models.{name!r:.60}.", source)


def _check_types(
    fields: Mapping[str, Any], types: Mapping[str, tuple[type, ...]], place: str, source: str
) -> None:
    for name in types.keys() & fields.keys():
        if not isinstance(fields[name], types[name]):
            raise _not_ours(source, f"{place}{str(name)[:60]} is {fields[name]!r:.60}")


def _not_ours(source: str, why: str) -> ClipRobustError:
    return ClipRobustError(
        f"{source}: its header is not as this version writes it ({why}); run it again"
    )


def of_file(path: Path) -> Earlier:
    """Return the run of a JSON report, or of one that ``cliprobust export`` wrote, with its outcomes.

    Raises:
        ClipRobustError: no such file, or it is something else.
    """
    shown = str(shown_path(path))
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClipRobustError(f"{shown}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ClipRobustError(f"{shown}: not a JSON report: {error}") from None
    if not isinstance(document, dict):
        raise ClipRobustError(f"{shown}: not a JSON report of a run")
    try:
        blobs = {
            str(name): base64.b64decode(text, validate=True)
            for name, text in document.get("blobs", {}).items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise ClipRobustError(f"{shown}: its outcomes are broken: {error}") from None
    return of_document(document, blobs, shown)
