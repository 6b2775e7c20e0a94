"""``cliprobust explain``: which rule of the threshold file judges a figure, and what its samples decide."""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_cliprobust.cli._history import REFERENCE, add_history_option, earlier_runs
from pytest_cliprobust.errors import ClipRobustError, counted, did_you_mean, printable
from pytest_cliprobust.gating.words import rounded_up, samples_decide

if TYPE_CHECKING:
    from pytest_cliprobust.gating.measurement import Measurement
    from pytest_cliprobust.gating.thresholds import ThresholdFile
    from pytest_cliprobust.results.earlier import Earlier

HELP = "say which rule judges a figure, and why"
DESCRIPTION = (
    "Say which rule of the threshold file judges a figure of a run, which others match, why none does, and "
    "what margin the figure's samples decide."
)

#: So many figures are explained at once.
_MOST = 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust explain``."""
    parser.add_argument("figure", metavar="FIGURE", help="its key, or a glob of keys")
    parser.add_argument(
        "--run", metavar="RUN", dest="run_", default="last", help=f"{REFERENCE}, or a JSON report"
    )
    parser.add_argument(
        "--thresholds", metavar="FILE", type=Path, help="the threshold file (default: the run's)"
    )
    add_history_option(parser)


def run(options: argparse.Namespace) -> int:
    """Print what becomes of each figure.

    Raises:
        ClipRobustError: no such run, figure or threshold file.
    """
    (found,) = earlier_runs(options, [options.run_])
    rules = _rules(options.thresholds, found)
    keys = [key for key in found.measurements if fnmatchcase(key, options.figure)]
    if not keys:
        raise ClipRobustError(
            f"{found.source} has no figure {options.figure!r}."
            f"{did_you_mean(options.figure, found.measurements)} `cliprobust show` lists them"
        )
    for key in keys[:_MOST]:
        for line in _told(rules, found.measurements[key], found):
            print(printable(line))
    if len(keys) > _MOST:
        print(
            f"… and {counted(len(keys) - _MOST, 'more figure')} of that name; write more of the key"
        )
    return 0


def _rules(given: Path | None, found: Earlier) -> ThresholdFile:
    """Return the threshold file, read for the run's profile.

    Raises:
        ClipRobustError: the run had none, it is not there any more, or it holds a mistake.
    """
    from pytest_cliprobust.gating.reading import load_thresholds

    named = given or found.header.get("thresholds")
    if not named:
        raise ClipRobustError(
            f"{found.source} had no threshold file; name one with --thresholds FILE"
        )
    path = Path(named)
    if not path.is_file():
        raise ClipRobustError(f"threshold file {path} is not there; name it with --thresholds FILE")
    return load_thresholds(path, profile=found.header.get("config", {}).get("profile"))


def _told(rules: ThresholdFile, one: Measurement, found: Earlier) -> list[str]:
    figure = one.figure
    lines = rules.explain(one, found.tests.get(one.key) or None).splitlines()
    lines.append(f"  measured  {figure.interval_text()}, n = {figure.n:,}")
    told = found.verdicts.get(one.key, {})
    if told.get("status") not in (None, "unbounded"):
        lines.append(f"  {told['status']}  {told['explanation']}")
    decidable, limit = told.get("decidable"), told.get("limit")
    if isinstance(decidable, float) and isinstance(limit, float):
        n = told.get("n", figure.n)  # those that both runs have: the figure may rest on more
        if samples_decide(n) not in told["explanation"]:
            lines.append(f"  {_decides(decidable, limit, n)}")
    return lines


def _decides(decidable: float, limit: float, n: int) -> str:
    """Return what margin the samples decide, and how many the margin in force needs."""
    from pytest_cliprobust.gating.margins import samples_for

    start = f"n = {n:,} decides a margin of {decidable:.2g}"
    needed = samples_for(limit, decidable, n)
    if decidable <= limit or needed is None:
        return f"{start}; in force is {limit:.12g}"
    return f"{start}; the {limit:.12g} in force needs about {rounded_up(needed)} samples"
