"""Recording a run: bounds into the threshold file, outcomes by sample into the baseline beside it."""

from __future__ import annotations

import contextlib
import fnmatch
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import ClipRobustError, counted, first_of
from pytest_cliprobust.files import replace_file, shown_path
from pytest_cliprobust.gating.baseline import (
    Anchor,
    Baseline,
    Provenance,
    bare_key,
    beside,
    first_key,
    write_baseline,
)
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.recording import RecordChange, record
from pytest_cliprobust.plugin.comparing import used
from pytest_cliprobust.results.record import Record

#: So many figures are named in a line.
_NAMED = 3

#: In place of globs: the figures that a bound is for already.
GATED = "gated"


@dataclass(frozen=True)
class Recorder:
    """What recording needs to know.

    Attributes:
        path: the threshold file.
        config: the run's options.
        earlier: the baseline beside the file so far, None if there is none.
        figures: globs of the keys, without the model, that are recorded; empty: all; ``gated``: those
            that a bound is for already.
        because: why a change of these figures is accepted; empty if that was not said.
    """

    path: Path
    config: RunConfig
    earlier: Baseline | None = None
    figures: tuple[str, ...] = ()
    because: str = ""

    def chosen(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that are to be recorded.

        Raises:
            ClipRobustError: a glob that no figure of the run has.
        """
        if self.figures == (GATED,):
            return [one for one in records if one.rule is not None]
        for pattern in self.figures:
            if not any(fnmatch.fnmatchcase(bare_key(r.measurement), pattern) for r in records):
                keys = sorted({bare_key(r.measurement) for r in records})
                raise ClipRobustError(
                    f"--clip-figures {pattern}: no figure of this run is called so; there are "
                    f"{first_of(keys, _NAMED)}"
                )
        return [
            r
            for r in records
            if not self.figures
            or any(fnmatch.fnmatchcase(bare_key(r.measurement), p) for p in self.figures)
        ]

    def write(
        self, records: Sequence[Record], provenance: Provenance, classes: Callable[[str], int]
    ) -> tuple[tuple[RecordChange, ...], list[str]]:
        """Write both files, and return the changes of bounds and what else there is to say.

        Figures that this run did not measure stay as they were recorded. Where the baseline cannot be
        written, the threshold file stays as it was: its margins would be held against something else.

        Raises:
            ClipRobustError: a file cannot be written, or would be wrong.
        """
        chosen = self.chosen(records)
        measurements = [one.measurement for one in chosen]
        before = self.path.read_bytes() if self.path.is_file() else None
        changes = record(
            self.path,
            measurements,
            profile=self.config.profile,
            # With one model its name is left out, so that the gate fits the next release.
            generic=("profile", "model") if len(self.config.models) == 1 else ("profile",),
            noise={one.key: one.noise_floor for one in chosen},
            classes=classes(self.config.models[0]),
        )
        kept = self._kept(measurements)
        path = beside(self.path)
        models = tuple(dict.fromkeys(one.model for one in [*measurements, *kept]))
        try:
            size = write_baseline(
                path,
                [*measurements, *kept],
                used(provenance, [*measurements, *kept]),
                anchors=self._anchors(measurements, models),
                accepted=self._accepted(measurements, models),
                older=self._older(kept, provenance),
            )
        except ClipRobustError:
            _restore(self.path, before)
            raise
        held = f" of {len(models)} models ({', '.join(models)})" if len(models) > 1 else ""
        told = [
            f"baseline written: {shown_path(path)}{held}, {counted(len(measurements), 'figure')} by sample, "
            f"{_shown_size(size)}; commit it beside the threshold file"
        ]
        if kept:
            stay = "stays as it was" if len(kept) == 1 else "stay as they were"
            told.append(
                f"{counted(len(kept), 'figure')} of {shown_path(path)} {stay} recorded before"
            )
        reasons = self._told_reasons(measurements)
        return tuple(changes), [*self._loosened(changes, measurements), *reasons, *told]

    def _told_reasons(self, measurements: Sequence[Measurement]) -> list[str]:
        """Return a line for each figure that is accepted as it is now, with what it was, and why."""
        if not self.because or self.earlier is None:
            return []
        name_of = self._names({one.model for one in measurements if one.model})
        before = {
            (key, name_of.get(model, model)): figure.value
            for (key, model), figure in self.earlier.figures.items()
        }
        moved = [
            f"{key} {then:.4g} → {one.figure.value:.4g}"
            for one in measurements
            if (then := before.get((key := bare_key(one), one.model), one.figure.value))
            != one.figure.value
        ]
        told = first_of(moved, _NAMED) if moved else "no figure that was recorded has changed"
        return [f"accepted, because: {self.because}: {told}"]

    def _loosened(
        self, changes: Sequence[RecordChange], measurements: Sequence[Measurement]
    ) -> list[str]:
        """Return the line that tells of bounds that are looser for want of samples; none without any."""
        if self.earlier is None:
            return []
        before = {key: figure.n for (key, _), figure in self.earlier.figures.items()}
        now = {one.key: (one.figure.n, before.get(bare_key(one), 0)) for one in measurements}
        found = {one.key: now[one.key] for one in changes if one.looser and one.key in now}
        fewer = {key: (n, old) for key, (n, old) in found.items() if n < old}
        if not fewer:
            return []
        key, (n, old) = next(iter(fewer.items()))
        limit = "without --clip-limit" if self.config.limit is not None else "on as many samples"
        return [
            f"{len(fewer)} of the bounds are looser than before, as they were recorded on fewer samples "
            f"({n:,}, were {old:,}: {key}); record {limit} to keep them as strict"
        ]

    def _kept(self, measurements: Sequence[Measurement]) -> list[Measurement]:
        """Return what was recorded before and is not measured now."""
        if self.earlier is None:
            return []
        new = {(bare_key(one), one.model) for one in measurements}
        name_of = self._names({one.model for one in measurements})
        kept = []
        for (key, model), figure in self.earlier.figures.items():
            name = name_of.get(model, model)
            if (key, name) not in new:
                kept.append(Measurement(key.split("/", 1)[0], name, figure))
        return kept

    def _names(self, models: Collection[str]) -> dict[str, str]:
        """Return what models of the earlier baseline are called now: one release follows another."""
        if self.earlier is None or len(models) != 1 or len(self.earlier.models) != 1:
            return {}
        return {self.earlier.models[0]: next(iter(models))}

    def _older(
        self, kept: Sequence[Measurement], provenance: Provenance
    ) -> dict[tuple[str, str], Provenance]:
        """Return what decided the figures that stay, where it is not what decides those of this run."""
        if self.earlier is None or self.earlier.provenance is None:
            return {}
        then = {new: old for old, new in self._names({one.model for one in kept}).items()}
        found = {}
        for one in kept:
            old = then.get(one.model, one.model)
            made = self.earlier.older.get((bare_key(one), old), self.earlier.provenance)
            if not provenance.covers(made := made.renamed(old, one.model)):
                found[bare_key(one), one.model] = made
        return found

    def _anchors(
        self, measurements: Sequence[Measurement], models: Sequence[str]
    ) -> dict[str, Anchor]:
        """Return the first recording of each figure, which stays whatever is recorded later."""
        today = time.strftime("%Y-%m-%d")
        fresh = {
            first_key(bare_key(one), one.model, models): Anchor(one.figure.value, today)
            for one in measurements
        }
        return fresh | self._as_before("anchors", models)

    def _accepted(
        self, measurements: Sequence[Measurement], models: Sequence[str]
    ) -> dict[str, str]:
        """Return why figures were recorded anew, by key."""
        before: dict[str, str] = self._as_before("accepted", models)
        if not self.because:
            return before
        reason = f"{time.strftime('%Y-%m-%d')}: {self.because}"
        return before | {first_key(bare_key(m), m.model, models): reason for m in measurements}

    def _as_before(
        self, table: Literal["anchors", "accepted"], models: Sequence[str]
    ) -> dict[str, Any]:
        """Return a table of the earlier baseline, by the keys that one of these models has."""
        if self.earlier is None:
            return {}
        then = self.earlier.models
        kept = dict(getattr(self.earlier, table))
        if len(then) != 1:
            return kept
        return {first_key(key, then[0], models): value for key, value in kept.items()}


def _restore(path: Path, content: bytes | None) -> None:
    """Make a file what it was, as far as that can be done; None: it was not there."""
    with contextlib.suppress(OSError):
        if content is None:
            path.unlink()
        else:
            replace_file(path, content, durable=True)


def _shown_size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.0f} kB"
