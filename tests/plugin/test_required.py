"""What was required, and what keeps it from being measured."""

from __future__ import annotations

from typing import Any

import pytest
from gating_helpers import measure

from pytest_cliprobust.datasets.roles import ROLES
from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.plugin.required import check_required, missing_required
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import NotMeasured

pytestmark = pytest.mark.smoke  # none of them starts a session


class Data:
    """A provider that has no data for some roles."""

    def __init__(self, *lacking: str) -> None:
        self.lacking = lacking

    def require(self, role: str) -> None:
        if role in self.lacking:
            raise NotRun(f"needs {role} (give --clip-data {role}=PATH)")


def missing(names: list[str], *waits: tuple[str, str], data: Any = None) -> list[str]:
    """Return what is missing in a run of two suites, of which tests waited for something."""
    records = []
    for suite in ("accuracy", "ood"):
        one = measure(suite=suite)
        records.append(Record(one, judge(one, None, Policy()), "t"))
    not_run = [NotMeasured(f"t{number}", *wait) for number, wait in enumerate(waits)]
    provider: Any = data or Data()
    return missing_required(names, provider, records, not_run)


@pytest.mark.parametrize("role", ROLES)
def test_a_suite_is_whole_only_if_no_role_kept_a_test_of_it_from_running(role: str) -> None:
    wait = f"needs {role} (give --clip-data {role}=PATH)"
    assert missing(["ood"], ("ood", wait)) == [f"ood: {wait}"]
    assert missing(["accuracy", "ood"], ("accuracy", "needs a GPU"), ("ood", wait)) == [
        f"ood: {wait}"
    ]
    # For want of anything else it may be skipped; and a role of that name is missing, too.
    assert missing(["ood"], ("ood", f"needs {role}s (x)"), ("accuracy", wait)) == []
    assert missing([role], ("ood", "needs a GPU"), ("ood", wait)) == [f"{role}: {wait}"]
    assert missing([role], data=Data(role)) == [f"{role}: {wait}"]
    others = [one for one in ROLES if one != role]
    assert missing(others, ("ood", wait), data=Data(role)) == []


def test_a_suite_that_measured_nothing_says_why() -> None:
    assert missing(["view"]) == ["view: no test of it measured anything"]
    waits = (("ood", "needs far_ood (x)"), ("view", "needs a GPU"), ("view", "needs clean (x)"))
    assert missing(["view", "ood"], *waits) == ["view: needs a GPU", "ood: needs far_ood (x)"]
    assert missing([], *waits) == []


def test_a_name_that_is_neither_role_nor_suite_is_refused() -> None:
    check_required([*ROLES, "ood", "mine"], ["mine", "ood"])
    check_required([], [])
    for names in (["odd"], ["ood", "odd"], ["odd", "ood"]):
        with pytest.raises(ClipRobustError) as caught:
            check_required(names, ["ood"])
        assert str(caught.value) == (
            "--clip-require odd: no role or suite is called so. Did you mean 'ood'? Roles are "
            + ", ".join(ROLES)
        )
