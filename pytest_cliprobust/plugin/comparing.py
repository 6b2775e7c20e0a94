"""What a session is compared with: which baseline counts, what differs from it, how many bounds it has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.gating.baseline import (
    Baseline,
    Provenance,
    apart,
    beside,
    load_baseline,
    perturbations_of,
)
from pytest_cliprobust.gating.family import Family
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.thresholds import ThresholdFile
from pytest_cliprobust.gating.verdict import NO_BASELINE
from pytest_cliprobust.results.earlier import of_file
from pytest_cliprobust.results.history import earlier_run, is_file, is_reference
from pytest_cliprobust.targets.preprocessing import Preprocessing


def chosen_baseline(
    named: str | None,
    thresholds: ThresholdFile,
    threshold_path: Path | None,
    history: Path | None = None,
) -> Baseline | None:
    """Return the baseline of a run: from the command line, else the policy, else beside the file.

    Args:
        named: what the command line names, None if nothing: a file, or a run of the history (``last``,
            ``tag:NAME``, a number); ``none`` turns the comparison off.
        thresholds: the threshold file.
        threshold_path: where it lies.
        history: the file that runs are kept in.

    Raises:
        ClipRobustError: a baseline that was named is missing or broken, or one beside the file is broken.
    """
    if named == "none":
        return None
    if named is not None:
        if history is None and is_reference(named) and not Path(named).exists():
            raise ClipRobustError(
                f"--clip-baseline {named} is a run of the history, and --clip-history=none keeps none; name "
                "a file, or leave --clip-history=none out"
            )
        if is_file(named) or history is None:
            return _from_file(Path(named))
        if not is_reference(named):
            raise ClipRobustError(
                f"--clip-baseline {named}: no such file, and no run of the history is called so; name a "
                "file, or a run: last, last~1, tag:NAME, anchor or its number (cliprobust history lists them)"
            )
        return earlier_run(named, history).baseline()
    if thresholds.policy.baseline is not None:
        return _from_file(Path(thresholds.policy.baseline))
    if threshold_path is None:
        return None
    path = beside(threshold_path)
    return load_baseline(path) if path.exists() else None


def why_no_baseline(named: str | None, threshold_path: Path | None) -> str:
    """Return why a run has no baseline, and what to do; ``named``: what the command line names."""
    if named == "none":
        return "--clip-baseline=none turned the comparison off; leave it out, or name one"
    if threshold_path is None:
        return NO_BASELINE
    path = shown_path(beside(threshold_path))
    return (
        f"there is no baseline: {path} is missing; commit it beside {threshold_path.name}, name another one "
        "with --clip-baseline, or write one with --clip-record"
    )


def _from_file(path: Path) -> Baseline:
    """Return a recorded baseline, or a JSON report with all that stands in it.

    Raises:
        ClipRobustError: the file is missing, or no baseline.
    """
    if path.suffix == ".json" and path.is_file():
        return of_file(path).baseline()
    return load_baseline(path)


def provenance_of(config: RunConfig, evaluations: Mapping[str, Evaluation]) -> Provenance:
    """Return what decides the figures of a run, beside the models themselves."""
    from pytest_cliprobust.perturbations import registry

    versions = {}
    for name in registry.names():
        known = registry.get(name)
        digest = getattr(known, "source_digest", "")
        versions[name] = f"{known.version}{'+' + digest[:12] if digest else ''}"
    data: dict[str, str] = {}
    for evaluation in evaluations.values():
        clean = evaluation.dataset("clean")
        data[clean.name] = getattr(clean, "content", clean.digest)
    return Provenance(
        profile=config.profile,
        seed=config.seed,
        precision={name: e.encoder.precision for name, e in evaluations.items()},
        weights={name: e.target.info.digest for name, e in evaluations.items()},
        templates={name: _prompts(e) for name, e in evaluations.items()},
        data=data,
        perturbations=versions,
        preprocessing={
            name: preprocessing.identity()
            for name, e in evaluations.items()
            if isinstance(preprocessing := getattr(e.target, "preprocessing", None), Preprocessing)
        },
    )


def _prompts(evaluation: Evaluation) -> str:
    """Return a digest of the class texts and of what the templates make of them."""
    hasher = hashlib.sha256()
    for phrase in evaluation.phrases:
        hasher.update(f"\0{phrase}".encode())
    for template in evaluation.templates:
        text = template("x") if callable(template) else str(template)
        hasher.update(f"\1{text}".encode())
    return hasher.hexdigest()[:24]


def used(provenance: Provenance, measurements: Iterable[Measurement]) -> Provenance:
    """Return the provenance with those perturbations only that the measurements are made of."""
    names = {name for one in measurements for name in perturbations_of(one.condition)}
    return replace(
        provenance,
        perturbations={n: v for n, v in provenance.perturbations.items() if n in names},
    )


def family_of(
    baseline: Baseline | None,
    thresholds: ThresholdFile,
    models: Sequence[str],
    suites: Iterable[str],
    tests: int = 1,
) -> Family:
    """Return how many bounds the selected suites judge, as far as that is known beforehand.

    The baseline knows it where every rule that may judge names what the baseline holds. A rule for whatever
    there is, or for what was not recorded, may judge any number of figures more.
    """
    if baseline is None or not baseline.figures:
        return Family(tests=tests)
    chosen = set(suites)
    found = [
        measurement
        for model in models
        for measurement in baseline.measurements(model, thresholds.policy.baseline_model)
        if measurement.suite in chosen and thresholds.applies(measurement)
    ]
    if not found:
        return Family(tests=tests)
    family = Family.of(found)
    return family.at_least(tests) if thresholds.reaches_beyond(found, models, chosen) else family


def check_compared(
    baseline: Baseline | None, thresholds: ThresholdFile, models: Iterable[str]
) -> None:
    """Refuse a run whose margins have nothing to be held against for one of its models.

    Raises:
        ClipRobustError: the baseline has several models, and it is not said which counts.
    """
    asked = thresholds.policy.baseline_model
    if baseline is None or asked is None:
        return
    if asked not in baseline.models:
        raise ClipRobustError(
            f"{thresholds.policy.where}: baseline_model {asked!r} is not in {baseline.source}, which "
            f"has {', '.join(baseline.models) or 'no model'}"
        )


def comparison_lines(baseline: Baseline, models: Iterable[str], asked: str | None) -> list[str]:
    """Return the lines of the header that say what a run is compared with, and what differs."""
    lines = []
    for model in models:
        source = baseline.model_for(model, asked)
        if source is None:
            names = ", ".join(baseline.models) or "no model"
            lines.append(
                f"clip baseline: {baseline.source} has {names}, none to compare {model} with; say in "
                "[policy] which counts: baseline_model"
            )
            continue
        lines.append(f"clip baseline: {baseline.named}: {model} against {source}")
        lines += _same_weights(baseline, model, source)
        lines += [f"  differs: {line}" for line in baseline.differences(model, asked)]
    return lines


def twin_lines(provenance: Provenance, models: Iterable[str], other: str) -> list[str]:
    """Return the lines of the header that say what a run of two models compares, and what differs."""
    told = [
        f"  differs: {line}"
        for model in models
        if model != other
        for line in apart(provenance, provenance, other, model, f"{other} has")
    ]
    return [f"clip baseline: {other}, measured in this run", *dict.fromkeys(told)]


def _same_weights(baseline: Baseline, model: str, source: str) -> list[str]:
    """Return the line that says that a model is the recorded one, and of how many figures if not of all."""
    if baseline.provenance is None:
        return []
    keys = [key for key in baseline.figures if key[1] == source]
    own = _weights(baseline.current, model)
    same = sum(_weights(baseline.older.get(k, baseline.provenance), source) == own for k in keys)
    if not same:
        return []
    of_some = "" if same == len(keys) else f" for {same} of {len(keys)} figures"
    return [f"  note: these are the weights that were recorded{of_some}"]


def _weights(provenance: Provenance | None, model: str) -> str:
    return "" if provenance is None else provenance.weights.get(model, "")
