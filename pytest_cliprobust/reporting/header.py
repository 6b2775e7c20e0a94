"""What was under test, on what: the lines above the tests, and on top of reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_cliprobust.datasets.roles import EMBEDDED
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import one_line
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.results.data import DataSummary
from pytest_cliprobust.results.run import ModelSummary


def header_lines(
    config: RunConfig,
    models: Mapping[str, ModelSummary],
    thresholds: str,
    notes: Iterable[str] = (),
    data: DataSummary | None = None,
) -> list[str]:
    """Return the lines.

    Args:
        config: the options of the run.
        models: the models under test.
        thresholds: the threshold file as messages show it; empty if there is none.
        notes: of the run, such as that an earlier one did not finish.
        data: which data played which role; None where it is not loaded yet.
    """
    lines = []
    for model in models.values():
        lines.append(
            f"clip model: {model.name} ({model.architecture}, {model.pretrained}), weights "
            f"{model.digest[:12]}, {model.device}, precision {model.precision}"
        )
        lines += [f"  note: {note}" for note in model.notes]
    size = f", at most {config.limit} samples" if config.limit else ""
    lines.append(
        f"clip data: {config.data}, profile {config.profile}{size}, seed {config.seed}; "
        f"thresholds: {thresholds or 'none'}"
    )
    lines += [] if data is None else data.lines()
    if config.depth is not None:
        used = " (not needed: embedded data has its own)" if config.data == EMBEDDED else ""
        lines.append(f"clip depth: {config.depth}{used}")
    if config.lmm is not None:
        lines.append(f"clip lmm: {config.lmm}")
    if config.font is not None:
        lines.append(f"clip font: {config.font}")
    if config.bad_data != "error":
        lines.append("clip data: samples that cannot be read are left out")
    return [one_line(line) for line in (*lines, *(f"  note: {note}" for note in notes))]


def policy_lines(policy: Policy) -> list[str]:
    """Return the line that says which values of the policy come from which pack; none without packs."""
    if not policy.packs:
        return []
    by_pack: dict[str, list[str]] = {}
    for key, where in policy.sources.items():
        by_pack.setdefault(where, []).append(policy.value_text(key))
    told = [f"{', '.join(values)} ({where})" for where, values in by_pack.items()]
    said = "; ".join(told) or "all values are the threshold file's own"
    return [one_line(f"clip policy: extends {', '.join(policy.packs)}: {said}")]
