"""``--clip-require``: roles and suites without which a run is not green."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from pytest_cliprobust.datasets.providers import Provider
from pytest_cliprobust.datasets.roles import ROLES
from pytest_cliprobust.errors import ClipRobustError, NotRun, did_you_mean
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import NotMeasured


def check_required(names: Iterable[str], suites: Collection[str]) -> None:
    """Refuse what is neither a role nor a suite.

    Raises:
        ClipRobustError: a name is neither.
    """
    known = [*ROLES, *suites]
    for name in names:
        if name not in known:
            raise ClipRobustError(
                f"--clip-require {name}: no role or suite is called so.{did_you_mean(name, known)} "
                f"Roles are {', '.join(ROLES)}"
            )


def missing_required(
    names: Iterable[str],
    provider: Provider,
    records: Sequence[Record],
    not_run: Sequence[NotMeasured],
) -> list[str]:
    """Return one line for each role and suite that was required and is missing.

    A role is missing if no data plays it, or if tests were not run for want of it; a suite if it measured
    nothing, or if tests of it were not run for want of a role.
    """
    told = [(name, _missing(name, provider, records, not_run)) for name in names]
    return [f"{name}: {why}" for name, why in told if why]


def _missing(
    name: str, provider: Provider, records: Sequence[Record], not_run: Sequence[NotMeasured]
) -> str:
    if name in ROLES:
        try:
            provider.require(name)
        except NotRun as error:
            return str(error)
        wants = [f"needs {name} ("]
        waiting = not_run
    else:
        if not any(record.measurement.suite == name for record in records):
            reasons = [entry.reason for entry in not_run if entry.suite == name]
            return reasons[0] if reasons else "no test of it measured anything"
        wants = [f"needs {role} (" for role in ROLES]
        waiting = [entry for entry in not_run if entry.suite == name]
    found = [entry for entry in waiting if entry.reason.startswith(tuple(wants))]
    return found[0].reason if found else ""
