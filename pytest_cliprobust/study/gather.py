"""From runs to a table: models with their cards, and their figures by property."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_cliprobust.errors import ClipRobustError, counted
from pytest_cliprobust.figures.condition import CLEAN
from pytest_cliprobust.gating.baseline import bare_key
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.results.earlier import Earlier
from pytest_cliprobust.study.cards import Card, card_of


@dataclass(frozen=True)
class Entry:
    """A model under one set of prompts.

    Attributes:
        model: its name in the run.
        prompts: a short name of the prompts and class texts.
        card: what it is.
        measurements: by property: the key of a figure without the model.
        runs: by property the run that its figure comes from.
    """

    model: str
    prompts: str
    card: Card
    measurements: Mapping[str, Measurement]
    runs: Mapping[str, Earlier] = field(repr=False, compare=False)

    def value(self, key: str) -> float:
        """Return the figure of a property; NaN without one."""
        found = self.measurements.get(key)
        return float("nan") if found is None else found.figure.value


@dataclass(frozen=True)
class Table:
    """What a study is made of.

    Attributes:
        entries: the models, in the order of the runs.
        id_accuracy: the property that is accuracy on ID data.
        notes: what a reader must know of it.
    """

    entries: tuple[Entry, ...]
    id_accuracy: str
    notes: tuple[str, ...] = ()

    @property
    def properties(self) -> tuple[str, ...]:
        """The properties of any model, in the order of the runs."""
        return tuple(dict.fromkeys(key for entry in self.entries for key in entry.measurements))


def gathered(
    runs: Iterable[Earlier],
    cards: Mapping[str, Mapping[str, Any]] | None = None,
    id_accuracy: str | None = None,
) -> Table:
    """Return the table of ``runs``.

    A model that several runs have counts once: later figures take the place of earlier ones. Under other
    prompts it counts again.

    Args:
        runs: each with one model or several.
        cards: the user's facts, see :func:`.cards.read_cards`.
        id_accuracy: the property that is accuracy on ID data; None: that of the accuracy suite.

    Raises:
        ClipRobustError: fewer than two models, two models of one name, or no accuracy on ID data.
    """
    entries: dict[tuple[str, str], Entry] = {}
    digests: dict[str, str] = {}
    notes: list[str] = []
    for run in runs:
        if not run.complete:
            notes.append(f"{run.source} did not come to its end: some of its figures are missing")
        for entry in entries_of(run, cards or {}):
            digest = str(_header(run, entry.model).get("digest", ""))
            if digests.setdefault(entry.model, digest) != digest:
                raise ClipRobustError(
                    f"{run.source}: another model than before is called {entry.model!r}; give one of "
                    "them a name with --clip-model NAME=MODEL"
                )
            before = entries.get((entry.model, entry.prompts))
            if before is not None:
                entry = replace(
                    entry,
                    measurements={**before.measurements, **entry.measurements},
                    runs={**before.runs, **entry.runs},
                )
            entries[entry.model, entry.prompts] = entry
    if len({entry.model for entry in entries.values()}) < 2:
        raise ClipRobustError("a study needs the figures of two models at least")
    if unknown := sorted((cards or {}).keys() - digests.keys()):
        notes.append(f"cards for models that no run has: {', '.join(unknown)}")
    table = Table(tuple(entries.values()), id_accuracy or "", tuple(notes))
    if id_accuracy is None:
        table = replace(table, id_accuracy=id_accuracy_in(table))
    elif id_accuracy not in table.properties:
        raise ClipRobustError(f"no run has the property {id_accuracy!r}")
    return replace(table, notes=(*table.notes, *_differences(table)))


def entries_of(run: Earlier, cards: Mapping[str, Mapping[str, Any]]) -> list[Entry]:
    """Return the models of a run."""
    provenance = run.provenance
    prompts = {} if provenance is None else provenance.templates
    by_model: dict[str, dict[str, Measurement]] = {}
    for measurement in run.measurements.values():
        by_model.setdefault(measurement.model, {})[bare_key(measurement)] = measurement
    return [
        Entry(
            model=name,
            prompts=prompts.get(name, "")[:8],
            card=card_of(name, _header(run, name), cards),
            measurements=measurements,
            runs=dict.fromkeys(measurements, run),
        )
        for name, measurements in by_model.items()
    ]


def _header(run: Earlier, model: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = run.header.get("models", {}).get(model, {})
    return found


def id_accuracy_in(table: Table) -> str:
    """Return the property that is accuracy on unperturbed ID data: of the accuracy suite, on most models.

    Raises:
        ClipRobustError: there is none.
    """
    found = Counter(
        key
        for entry in table.entries
        for key, measurement in entry.measurements.items()
        if measurement.metric == "accuracy"
        and measurement.suite == "accuracy"
        and measurement.perturbation == CLEAN
        and not measurement.condition.part_of
    )
    if not found:
        raise ClipRobustError(
            "no run has accuracy on ID data: run the accuracy suite, too, or name a property with --id KEY"
        )
    # Of equally frequent ones the first: the suite measures the clean set before the shifts.
    return max(found, key=lambda key: found[key])


def _differences(table: Table) -> list[str]:
    """Return in words where figures that stand side by side are not of the same samples."""
    notes = []
    runs = {id(run): run for entry in table.entries for run in entry.runs.values()}
    told = [run.provenance for run in runs.values() if run.provenance is not None]
    profiles = {provenance.profile for provenance in told}
    if len(profiles) > 1:
        notes.append(f"the runs have different profiles: {', '.join(sorted(profiles))}")
    data: dict[str, set[str]] = {}
    for provenance in told:
        for name, digest in provenance.data.items():
            data.setdefault(name, set()).add(digest)
    changed = sorted(name for name, digests in data.items() if len(digests) > 1)
    if changed:
        notes.append(f"not the same data in all runs: {', '.join(changed)}")
    sizes = {
        key
        for key in table.properties
        if len({e.measurements[key].figure.n for e in table.entries if key in e.measurements}) > 1
    }
    if sizes:
        rest = counted(len(sizes), "property rests", "properties rest")
        notes.append(f"{rest} on other numbers of samples for some models")
    return notes
