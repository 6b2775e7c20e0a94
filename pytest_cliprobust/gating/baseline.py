"""Baselines: an earlier run, for bounds on the change.

A recorded baseline (``thresholds.baseline.safetensors``, beside the threshold file) holds the figures of
the run that was recorded and what they are functions of, by sample, so that a later run is compared sample
by sample. It is safetensors with a JSON header: numbers and texts, nothing that is ever executed. The JSON
report of an earlier run serves, too; it has no outcomes by sample, so the comparison is unpaired.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.figures.compact import compact, unpacked, widened
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.outcomes import Column, Outcomes, not_known
from pytest_cliprobust.files import not_written, replace_file, shown_path
from pytest_cliprobust.gating.measurement import Measurement

#: Version of the recorded form.
SCHEMA = 1

#: Where the header stands among the metadata of the file.
_MARK = "pytest-cliprobust baseline"

#: What follows the stem of a threshold file.
SUFFIX = ".baseline.safetensors"

#: What a provenance knows by model.
_BY_MODEL = ("precision", "weights", "templates", "preprocessing")

#: Details of a figure without which its interval cannot be made at another level.
_NEEDED = ("trials", "lost", "gained", "positives", "negatives")

#: Those that reports show beside a later run's: what was answered, of the first samples of an accuracy.
_SHOWN = ("answers",)


@dataclass(frozen=True)
class Provenance:
    """What else decides a figure, beside the model: told in words where it differs.

    Attributes:
        profile: of the run.
        seed: of the run.
        precision: of the forward passes, by model.
        weights: digest, by model.
        templates: digest of prompts and class texts, by model.
        data: digest, by data set.
        perturbations: version, by perturbation.
        preprocessing: all settings as JSON, by model; of a user's own encoder nothing is known.
    """

    profile: str = ""
    seed: int = 0
    precision: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    perturbations: Mapping[str, str] = field(default_factory=dict)
    preprocessing: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in vars(self).items()
        }

    def renamed(self, model: str, name: str) -> Provenance:
        """Return the same with what it knows of ``model`` under another name."""
        told: dict[str, Any] = {
            key: {name if one == model else one: text for one, text in getattr(self, key).items()}
            for key in _BY_MODEL
        }
        return replace(self, **told)

    def covers(self, earlier: Provenance) -> bool:
        """Return whether whatever decided the figures of an earlier run is the same here."""
        return replace(self, perturbations={}) == replace(earlier, perturbations={}) and all(
            self.perturbations.get(name) == version
            for name, version in earlier.perturbations.items()
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Provenance:
        """Return what :meth:`as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: ``data`` is something else.
        """
        tables = ("precision", "weights", "templates", "data", "perturbations")
        later = {"preprocessing": {}, **data}
        return cls(
            profile=str(data["profile"]),
            seed=int(data["seed"]),
            **{
                name: {str(k): str(v) for k, v in later[name].items()}
                for name in (*tables, "preprocessing")
            },
        )


@dataclass(frozen=True)
class Anchor:
    """A figure as it was when it was first recorded: drift is told against it.

    Attributes:
        value: the figure.
        written: the day, ``2026-11-26``.
    """

    value: float
    written: str


@dataclass(frozen=True)
class Baseline:
    """An earlier run.

    Attributes:
        source: the file, as messages show it.
        figures: by (key without the model, model).
        provenance: what else decided them; None if the file does not say.
        older: the same of figures that were recorded before the rest, which stayed as they were when others
            were recorded anew; by the keys of ``figures``.
        current: of this run, for :meth:`why_not`.
        within: the other model where this is no earlier run but another model of the same one; else empty.
        anchors: the figure as it was first recorded, by key without the model; where several models were
            recorded, by key with it.
        accepted: by the same keys, when and why it was recorded anew.
    """

    source: str
    figures: Mapping[tuple[str, str], Figure]
    provenance: Provenance | None = None
    current: Provenance | None = None
    anchors: Mapping[str, Anchor] = field(default_factory=dict)
    accepted: Mapping[str, str] = field(default_factory=dict)
    older: Mapping[tuple[str, str], Provenance] = field(default_factory=dict)
    within: str = ""

    @property
    def models(self) -> tuple[str, ...]:
        """The models that were recorded."""
        return tuple(dict.fromkeys(model for _, model in self.figures))

    def model_for(self, model: str, asked: str | None = None) -> str | None:
        """Return the model that ``model`` is compared with; None if that is not clear.

        The one that was asked for, else the model itself, else the only one that was recorded.
        """
        models = self.models
        if self.within:
            asked = self.within
        if asked is not None:
            return asked if asked in models else None
        if model in models:
            return model
        return models[0] if len(models) == 1 else None

    def find(self, measurement: Measurement, asked: str | None = None) -> Figure | None:
        """Return the earlier figure of a measurement; ``asked``: the policy's model for it."""
        model = self.model_for(measurement.model, asked)
        return None if model is None else self.figures.get((bare_key(measurement), model))

    def missing(self, measurement: Measurement, asked: str | None = None) -> str:
        """Return why there is no earlier figure of a measurement."""
        if self.within:
            return (
                f"{self.within} has no figure for {bare_key(measurement)} in this run: its test was left "
                "out, or gave none"
            )
        if self.model_for(measurement.model, asked) is None:
            names = ", ".join(self.models) or "no model"
            wanted = asked or measurement.model
            return (
                f"baseline {self.source} is of {names}, not of {wanted}; name one of them as "
                "baseline_model in [policy]"
            )
        return f"baseline {self.source} has no figure for {bare_key(measurement)}; record it anew"

    @property
    def named(self) -> str:
        """The file, with the models that it holds if they are several."""
        if len(self.models) < 2:
            return self.source
        return f"{self.source} (of {len(self.models)} models: {', '.join(self.models)})"

    def anchor_of(self, measurement: Measurement, asked: str | None = None) -> Anchor | None:
        """Return the figure as it was first recorded, None if that is not known."""
        return self.anchors.get(self._first_key(measurement, asked))

    def acceptance_of(self, measurement: Measurement, asked: str | None = None) -> str:
        """Return when and why a figure was recorded anew; empty if it was not."""
        return self.accepted.get(self._first_key(measurement, asked), "")

    def _first_key(self, measurement: Measurement, asked: str | None) -> str:
        return first_key(
            bare_key(measurement), self.model_for(measurement.model, asked), self.models
        )

    def measurements(self, model: str, asked: str | None = None) -> list[Measurement]:
        """Return what was recorded, as measurements of ``model``."""
        source = self.model_for(model, asked)
        return [
            Measurement(key.split("/", 1)[0], model, figure)
            for (key, name), figure in self.figures.items()
            if name == source
        ]

    def provenance_of(
        self, measurement: Measurement, asked: str | None = None
    ) -> Provenance | None:
        """Return what else decided the earlier figure of a measurement; None if that is not known."""
        model = self.model_for(measurement.model, asked)
        if model is None:
            return None
        return self.older.get((bare_key(measurement), model), self.provenance)

    def same_model(self, measurement: Measurement, asked: str | None = None) -> bool:
        """Return whether the earlier figure is known to be this model's: weights, precision, and prompts."""
        model, source = measurement.model, self.model_for(measurement.model, asked)
        then, now = self.provenance_of(measurement, asked), self.current
        if then is None or now is None or source is None or not then.weights.get(source):
            return False
        return all(
            recorded.get(source) == own.get(model)
            for recorded, own in (
                (then.weights, now.weights),
                (then.precision, now.precision),
                (then.templates, now.templates),
            )
        )

    def why_not(self, measurement: Measurement, asked: str | None = None) -> str:
        """Return why a figure cannot be compared sample by sample: a perturbation has changed."""
        earlier, current = self.provenance_of(measurement, asked), self.current
        if earlier is None or current is None:
            return ""
        for name in perturbations_of(measurement.condition):
            then = earlier.perturbations.get(name)
            now = current.perturbations.get(name)
            if then is not None and now is not None and then != now:
                return f"{name} has changed since (version {then} then, {now} now)"
        return ""

    def differences(self, model: str, asked: str | None = None) -> list[str]:
        """Return what differs from the recorded run beside the model, one line each.

        Where some figures were recorded before the rest, it is said of how many a line is true.
        """
        source = self.model_for(model, asked)
        if source is None or self.provenance is None or self.current is None:
            return []
        told: dict[str, int] = {}
        made = [self.older.get(key, self.provenance) for key in self.figures if key[1] == source]
        runs = [(then, made.count(then)) for i, then in enumerate(made) if then not in made[:i]]
        for then, count in runs:
            for line in apart(then, self.current, source, model):
                told[line] = told.get(line, 0) + count
        return [
            line if count == len(made) else f"{line} ({count} of {len(made)} figures)"
            for line, count in told.items()
        ]


def apart(
    then: Provenance,
    now: Provenance,
    source: str,
    model: str,
    said: str = "recorded with",
) -> list[str]:
    """Return what differs between two runs, of which one has ``source`` and the other ``model``.

    ``said``: the words in front of what the earlier one has.
    """
    lines = []
    if then.profile != now.profile:
        lines.append(f"profile {now.profile}, {said} {then.profile}")
    if then.seed != now.seed:
        lines.append(f"seed {now.seed}, {said} {then.seed}")
    if then.precision.get(source) != now.precision.get(model):
        lines.append(f"precision {now.precision.get(model)}, {said} {then.precision.get(source)}")
    lines += _settings_apart(then.preprocessing.get(source), now.preprocessing.get(model), said)
    if then.templates.get(source) != now.templates.get(model):
        lines.append("other prompts or class texts than those recorded")
    lines += [
        f"data set {name} is another than the recorded one, or another part of it; samples that both "
        "have are compared"
        for name, digest in now.data.items()
        # Another profile has another number of samples, and is told already.
        if then.profile == now.profile and then.data.get(name, digest) != digest
    ]
    lines += [
        f"{name} is version {version}, {said} {then.perturbations[name]}"
        for name, version in now.perturbations.items()
        if then.perturbations.get(name, version) != version
    ]
    return lines


def _settings_apart(then: str | None, now: str | None, said: str) -> list[str]:
    """Return a line for each setting of the preprocessing that differs, as far as both runs say them."""
    try:
        before, after = (json.loads(text or "{}") for text in (then, now))
    except ValueError:
        return []
    if not before or not after or not isinstance(before, dict) or not isinstance(after, dict):
        return []
    return [
        f"preprocessing: {name} is {after.get(name)}, {said} {before.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def perturbations_of(condition: Condition) -> list[str]:
    """Return the perturbations that a condition is made of, also those that it is over."""
    names = [step.perturbation for step in condition.steps]
    for inner in condition.over:
        names += perturbations_of(inner)
    return list(dict.fromkeys(names))


def bare_key(measurement: Measurement) -> str:
    """Return the key without the model."""
    return measurement.key.removesuffix(f"/{measurement.model}")


def first_key(bare: str, model: str | None, models: Collection[str]) -> str:
    """Return under which key the first recording of a figure is kept: with its model if there are several.

    Args:
        bare: the key without the model.
        model: of the figure.
        models: all that the baseline holds.
    """
    return bare if model is None or len(models) < 2 else f"{bare}/{model}"


def beside(thresholds: Path) -> Path:
    """Return where the baseline of a threshold file lies."""
    return thresholds.with_name(thresholds.stem + SUFFIX)


# --- Writing -----------------------------------------------------------------------------------------


def write_baseline(
    path: Path,
    measurements: Iterable[Measurement],
    provenance: Provenance,
    *,
    anchors: Mapping[str, Anchor] | None = None,
    accepted: Mapping[str, str] | None = None,
    older: Mapping[tuple[str, str], Provenance] | None = None,
) -> int:
    """Write what a run measured, with all outcomes by sample, and return the size in bytes.

    Columns and samples that several figures share are written once. ``anchors``, ``accepted`` and ``older``
    are those of :class:`Baseline`.

    Raises:
        ClipRobustError: the file cannot be written, or two figures have one key.
    """
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {}
    names: dict[tuple[str, bytes], str] = {}

    def put(array: NDArray[Any]) -> str:
        """Store an array under the name that equal ones share."""
        mark = (f"{array.dtype}{array.shape}", array.tobytes())
        if mark not in names:
            names[mark] = str(len(names))
            tensors[names[mark]] = array
        return names[mark]

    entries, seen = [], set()
    before: list[Provenance] = []
    for measurement in measurements:
        if measurement.key in seen:
            raise ClipRobustError(f"{measurement.key} was measured twice; nothing was recorded")
        seen.add(measurement.key)
        entry = _entry(measurement, put)
        earlier = (older or {}).get((bare_key(measurement), measurement.model))
        if earlier is not None:
            before += [] if earlier in before else [earlier]
            entry["older"] = before.index(earlier)
        entries.append(entry)
    # safetensors 0.4 cannot read what it writes of no tensors at all.
    kept = tensors or {"nothing": np.zeros(1, dtype=np.uint8)}
    header = {
        "schema": SCHEMA,
        "complete": True,
        "digest": _digest(kept),
        "provenance": provenance.as_dict(),
        "older": [one.as_dict() for one in before],
        "figures": entries,
        "anchors": {key: [one.value, one.written] for key, one in (anchors or {}).items()},
        "accepted": dict(accepted or {}),
    }
    text = json.dumps(header, allow_nan=False, separators=(",", ":"))
    content = save(kept, metadata={_MARK: text})
    try:
        replace_file(path, content, durable=True)
    except OSError as error:
        raise not_written(f"{shown_path(path)}: cannot be written", error) from None
    return len(content)


def _digest(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return a hex digest of arrays and their names: a bit that flips is an answer that changes."""
    hasher = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        array = tensors[name]
        hasher.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()


def _entry(measurement: Measurement, put: Callable[[NDArray[Any]], str]) -> dict[str, Any]:
    figure = measurement.figure
    data = figure.as_dict()
    data["details"] = {k: v for k, v in figure.details.items() if k in (*_NEEDED, *_SHOWN)}
    entry = {"suite": measurement.suite, "model": measurement.model, "figure": data}
    outcomes = figure.outcomes
    if outcomes is None or outcomes.keys is None:
        return entry
    if not all(math.isfinite(x) for values in outcomes.parameters.values() for x in values):
        return entry  # a loss relative to an accuracy of 0: there is nothing to compare
    try:
        columns = {name: _column(column, put) for name, column in outcomes.columns.items()}
    except TypeError:
        return entry  # texts, say: such outcomes are not compared
    keys = outcomes.keys
    entry["outcomes"] = {
        "columns": columns,
        "parameters": {name: [float(x) for x in v] for name, v in outcomes.parameters.items()},
        "fitted_on": outcomes.fitted_on,
        "keys": {
            "ids": put(_texts(keys.ids)),
            "units": put(_texts(keys.units)),
            "digests": put(_texts(keys.digests)) if keys.digests else None,
            "kind": keys.kind,
        },
    }
    return entry


def _column(column: Column, put: Callable[[NDArray[Any]], str]) -> dict[str, Any]:
    """Return where a column is stored: booleans as bits, numbers as short as they can be."""
    short = compact(column)
    name = "bits" if short.dtype == np.bool_ else "numbers"
    return {
        name: put(np.packbits(short) if name == "bits" else np.ascontiguousarray(short)),
        "shape": list(short.shape),
    }


def _texts(texts: tuple[str, ...]) -> NDArray[np.uint8]:
    """Return texts as the bytes of a JSON list."""
    return np.frombuffer(json.dumps(texts, ensure_ascii=False).encode(), dtype=np.uint8)


# --- Reading -----------------------------------------------------------------------------------------


def load_baseline(path: str | Path) -> Baseline:
    """Read a recorded baseline, or the JSON report of an earlier run.

    Raises:
        ClipRobustError: the file is missing, incomplete, of another schema, holds a key twice, or is
            something else.
    """
    path = Path(path)
    shown = str(shown_path(path))
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ClipRobustError(
            f"{shown}: there is no such file, so no baseline; --clip-record writes one beside the threshold "
            "file"
        ) from None
    except OSError as error:
        raise ClipRobustError(f"{shown}: cannot be read: {error.strerror}") from None
    if content.startswith(_POINTER):
        raise ClipRobustError(
            f"{shown}: a pointer of Git LFS stands in place of the file: git lfs pull"
        )
    reader = _from_tensors if _is_tensors(content) else _from_report
    try:
        return reader(content, shown)
    except _NOT_OURS as error:
        raise ClipRobustError(
            f"{shown}: not a baseline as this version writes it ({brief(error)}); take it back from "
            "version control, or record it anew with the model of before"
        ) from None


#: How a file begins that Git LFS has not fetched.
_POINTER = b"version https://git-lfs"

#: What reading a file raises that holds something else.
_NOT_OURS = (
    *(KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError),
    *(RecursionError, MemoryError),
)


def _is_tensors(content: bytes) -> bool:
    """Return whether a file is safetensors: the length of a JSON header, then the header."""
    return content[8:9] == b"{" and _header_size(content) <= len(content) - 8


def _header_size(content: bytes) -> int:
    return int.from_bytes(content[:8], "little")


def _from_report(content: bytes, shown: str) -> Baseline:
    """Read a JSON report, whose figures have no outcomes."""
    data = json.loads(content)
    entries = data.get("measurements") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise ClipRobustError(f"{shown}: not a JSON report of a run: it has no 'measurements' list")
    if data.get("complete") is False:
        raise ClipRobustError(
            f"{shown}: that run did not come to its end, so it is no baseline; run it again"
        )
    measurements = (_checked(Measurement.from_dict, entry) for entry in entries)
    return Baseline(shown, _unique(measurements, shown))


def _checked(reader: Callable[..., Measurement], *data: Any) -> Measurement:
    """Return what a reader makes of data; parts that do not fit together are a mistake of the file."""
    try:
        return reader(*data)
    except ClipRobustError as error:
        raise ValueError(str(error)) from None


def _from_tensors(content: bytes, shown: str) -> Baseline:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    metadata = json.loads(content[8 : 8 + _header_size(content)]).get("__metadata__", {})
    if _MARK not in metadata:
        raise ValueError("it is safetensors of something else")
    header = json.loads(metadata[_MARK])
    if header["schema"] != SCHEMA:
        raise ClipRobustError(
            f"{shown}: a baseline of schema {header['schema']}, and this version reads {SCHEMA}; record "
            "it anew"
        )
    if header["complete"] is not True:
        raise ClipRobustError(f"{shown}: the recorded run did not come to its end; record it anew")
    # Baselines from before it was kept have none.
    if header.get("digest") not in (None, _digest(tensors)):
        raise ClipRobustError(
            f"{shown}: damaged: the outcomes in it are not those that were recorded; take it back from "
            "version control"
        )
    known: dict[str, SampleKeys] = {}
    measurements = [_checked(_measurement, e, tensors, known) for e in header["figures"]]
    # Baselines from before these were kept have none.
    before = [Provenance.from_dict(one) for one in header.get("older", ())]
    return Baseline(
        shown,
        _unique(measurements, shown),
        Provenance.from_dict(header["provenance"]),
        anchors={str(k): Anchor(float(v), str(day)) for k, (v, day) in header["anchors"].items()},
        accepted={str(k): str(v) for k, v in header["accepted"].items()},
        older={
            (bare_key(one), one.model): before[int(entry["older"])]
            for one, entry in zip(measurements, header["figures"], strict=True)
            if "older" in entry
        },
    )


def _measurement(
    entry: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    known: dict[str, SampleKeys],
) -> Measurement:
    measurement = Measurement.from_dict(entry)
    stored = entry.get("outcomes")
    if stored is None:
        return measurement
    if not stored["columns"]:
        raise ValueError("outcomes without columns")
    outcomes = Outcomes(
        {name: _loaded(place, tensors) for name, place in stored["columns"].items()},
        not_known,
        parameters={k: [float(x) for x in v] for k, v in stored["parameters"].items()},
        keys=_keys(stored["keys"], tensors, known),
        # Baselines from before this was kept do not say.
        fitted_on=str(stored.get("fitted_on", "")),
    )
    figure = replace(measurement.figure, outcomes=outcomes).measured_on(measurement.condition)
    return replace(measurement, figure=figure)


def _loaded(place: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Column:
    shape = tuple(int(size) for size in place["shape"])
    if "bits" in place:
        return unpacked(tensors[place["bits"]], shape)
    return widened(tensors[place["numbers"]].reshape(shape))


def _keys(
    place: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], known: dict[str, SampleKeys]
) -> SampleKeys:
    mark = json.dumps(place, sort_keys=True)
    if mark not in known:
        ids, units, digests = (
            () if place[name] is None else _read_texts(tensors[place[name]])
            for name in ("ids", "units", "digests")
        )
        known[mark] = SampleKeys(ids, units, digests, str(place["kind"]))
    return known[mark]


def _read_texts(array: NDArray[Any]) -> tuple[str, ...]:
    return tuple(str(text) for text in json.loads(array.tobytes()))


def _unique(measurements: Iterable[Measurement], shown: str) -> dict[tuple[str, str], Figure]:
    figures: dict[tuple[str, str], Figure] = {}
    for measurement in measurements:
        key = (bare_key(measurement), measurement.model)
        if key in figures:
            raise ClipRobustError(f"{shown}: holds {measurement.key} twice; record it anew")
        figures[key] = measurement.figure
    return figures
