"""Waivers: bounds that may be missed for a while, by whom, why and until when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal, cast, get_args

from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.rules import Rule

#: A waiver holds for so many days at most: what is to stay is a bound of another size.
MOST_DAYS = 366

Missed = Literal["fail", "inconclusive"]
"""What the statistics say of a bound that a waiver excuses."""


def today() -> date:
    """Return the date in UTC, the same on every machine."""
    return datetime.now(UTC).date()


@dataclass(frozen=True)
class Waived:
    """The waiver of a verdict, as reports show it.

    Attributes:
        where: file and line of the waiver.
        reason: why the bound may be missed.
        owner: who answers for it.
        expires: the last day on which it holds, as ISO 8601.
        status: what the statistics say of the bound.
    """

    where: str
    reason: str
    owner: str
    expires: str
    status: Missed = "fail"

    def text(self) -> str:
        """Return ``waived until 2026-12-31 by the vision team: why (thresholds.toml:12)``."""
        return f"waived until {self.expires} by {self.owner}: {self.reason} ({self.where})"

    def as_dict(self) -> dict[str, str]:
        """Return JSON-able data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Waived:
        """Return the waiver that :meth:`as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: ``data`` is something else.
        """
        if data["status"] not in get_args(Missed):
            raise ValueError(f"unknown status of a waived bound {data['status']!r}")
        return cls(
            where=str(data["where"]),
            reason=str(data["reason"]),
            owner=str(data["owner"]),
            expires=str(data["expires"]),
            status=cast(Missed, data["status"]),
        )


@dataclass(frozen=True)
class Waiver:
    """One ``[[waiver]]`` table.

    Attributes:
        selector: the figures whose bounds it is for: a rule without bounds, which may name tests, too.
        reason: why they may be missed.
        owner: who answers for it.
        expires: the last day on which it holds, in UTC.
        expired: whether that day was over when the file was read.
    """

    selector: Rule
    reason: str
    owner: str
    expires: date
    expired: bool = False

    @property
    def id(self) -> str:
        """Its selector in one line; unique in a file."""
        return self.selector.id

    @property
    def where(self) -> str:
        """``thresholds.toml:17``, the line of its header."""
        return self.selector.where

    def covers(
        self, measurement: Measurement, profile: str | None = None, test: str | None = None
    ) -> bool:
        """Return whether it is for the bounds of a figure, expired or not.

        Args:
            measurement: the figure.
            profile: of the run.
            test: node id of the test that measured it; None: whichever it was.
        """
        return not self.selector.mismatch(measurement, profile, test)

    def of(self, status: Missed) -> Waived:
        """Return what a verdict keeps of it, of which the statistics say ``status``."""
        return Waived(self.where, self.reason, self.owner, self.expires.isoformat(), status)
