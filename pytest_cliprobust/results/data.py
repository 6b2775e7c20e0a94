"""Which data played which role in a run, with which prompt templates, as header and reports tell it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_cliprobust.datasets.roles import EMBEDDED
from pytest_cliprobust.datasets.templates import TemplateSummary
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.errors import ClipRobustError, NotRun

#: How the part of ``clean`` that calibrates was chosen.
SPLIT = "a fifth, by a hash of the ids"


@dataclass(frozen=True)
class DataSummary:
    """The data of a run.

    Attributes:
        roles: names of the data sets by role.
        templates: prompt templates by the name of the data set; that of ``clean`` first.
        split: the data set of which a part calibrates, and is measured nowhere else; empty if none is.
        own: whether any of it is the user's.
    """

    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    templates: Mapping[str, TemplateSummary] = field(default_factory=dict)
    split: str = ""
    own: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return {
            "roles": {role: list(names) for role, names in self.roles.items()},
            "templates": {name: asdict(told) for name, told in self.templates.items()},
            "calibration_split": {"of": self.split, "how": SPLIT} if self.split else None,
            "own": self.own,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DataSummary:
        """Return the summary that :meth:`as_dict` wrote."""
        split = data.get("calibration_split")
        return cls(
            {role: tuple(map(str, names)) for role, names in data["roles"].items()},
            {name: TemplateSummary(**told) for name, told in data["templates"].items()},
            "" if split is None else str(split["of"]),
            bool(data["own"]),
        )

    def lines(self) -> list[str]:
        """Return what the header says of it; nothing of the embedded benchmark as it is."""
        lines = []
        if self.own:
            roles = "; ".join(f"{role} {', '.join(names)}" for role, names in self.roles.items())
            lines.append(f"clip roles: {roles}")
        if self.split:
            lines.append(
                f"  note: {SPLIT}, of {self.split} calibrates and is measured nowhere else; "
                "--clip-data calibration=PATH gives other data for it"
            )
        lines += [f"clip templates: {name}: {told}" for name, told in self.templates.items()]
        return lines


def data_of(evaluation: Evaluation) -> DataSummary:
    """Return what is known of the data of an evaluation, without loading more than ``clean``."""
    config, provider = evaluation.config, evaluation.provider
    own = config.data != EMBEDDED
    roles = {
        role: tuple(map(provider.name_of, keys))
        for role, keys in provider.sets.items()
        if role != "calibration" or not provider.is_part(role)
    }
    if not (own or config.templates):
        return DataSummary(roles)
    split = ""
    if provider.is_part("calibration"):
        with suppress(NotRun):
            evaluation.dataset("calibration", 1)
            split = evaluation.dataset("clean").name
    templates: Mapping[str, TemplateSummary] = {}
    with suppress(ClipRobustError):
        templates = evaluation.template_summaries()
    return DataSummary(roles, templates, split, own)
