"""Baselines: the figures of an earlier run, for bounds on the change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy


def load_baseline(path: str | Path) -> dict[str, Figure]:
    """Read the figures of an earlier JSON report, by :attr:`Measurement.key`.

    The report is an object whose ``measurements`` is a list of :meth:`Measurement.as_dict` objects
    (or of objects that have one under ``measurement``). With ``replicates`` in the figures the
    comparison is paired.

    Raises:
        ClipRobustError: the file is missing or something else.
    """
    path = Path(path)
    shown = shown_path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ClipRobustError(
            f"{shown}: no such baseline; it is the JSON report of an earlier run"
        ) from None
    except OSError as error:
        raise ClipRobustError(f"{shown}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ClipRobustError(f"{shown}: not a JSON report: {error}") from None
    entries = data.get("measurements") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise ClipRobustError(f"{shown}: not a JSON report of a run: it has no 'measurements' list")
    figures: dict[str, Figure] = {}
    for position, entry in enumerate(entries):
        try:
            measurement = Measurement.from_dict(entry.get("measurement", entry))
        except (KeyError, TypeError, ValueError, AttributeError, ClipRobustError) as error:
            raise ClipRobustError(
                f"{shown}: measurement {position} is not as this version writes it "
                f"({type(error).__name__}: {error}); record the baseline anew"
            ) from None
        figures[measurement.key] = measurement.figure
    return figures


def baseline_key(measurement: Measurement, policy: Policy) -> str:
    """Return the key under which the baseline of ``measurement`` is looked up."""
    if policy.baseline_model is None:
        return measurement.key
    return replace(measurement, model=policy.baseline_model).key
