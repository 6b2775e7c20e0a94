"""A condition: what was measured on what. Every figure that is judged carries one.

A condition is made by the engine when samples are asked for (``clip.on("clean", "fog_3d", 3)``), goes
through the property into the figure, and from there into the name under which the figure is judged and
reported. Nobody types it a second time, so nothing can be filed under another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_cliprobust.errors import ClipRobustError, shortened

#: The name of "not perturbed" in figures, bounds and reports.
CLEAN = "clean"

#: How the name of several perturbations together begins: every sample under all of them, or each under one.
ALL, MIXED = "all_", "mixed_"


@dataclass(frozen=True)
class Step:
    """One perturbation at one strength.

    Attributes:
        perturbation: its registered name, or ``kornia:<Name>``.
        severity: 0 to 5, or None for a perturbation without severities or with explicit parameters.
        parameters: (name, value) pairs given explicitly, instead of or over those of the severity.
    """

    perturbation: str
    severity: int | None = None
    parameters: tuple[tuple[str, float], ...] = ()

    @property
    def settings(self) -> dict[str, float]:
        """The explicit parameters as a mapping."""
        return dict(self.parameters)

    def __str__(self) -> str:
        """``fog_3d@3``, ``rotation(degrees=12.5)``."""
        text = self.perturbation
        if self.parameters:
            text += "(" + ",".join(f"{name}={value:.6g}" for name, value in self.parameters) + ")"
        return text if self.severity is None else f"{text}@{self.severity}"


@dataclass(frozen=True)
class Condition:
    """A data set under zero, one or several perturbations, or several such conditions together.

    Attributes:
        dataset: name of the data set, or of a part of it (``clean:noto``).
        steps: the perturbations, in the order in which they are applied; none: as it is.
        limit: at most so many samples were asked for; None: all that the profile has.
        over: the conditions that a figure is over, if it is over several (a mean over severities, ID
            against OOD).
        part_of: the data set of which ``dataset`` is a part; empty if it is a whole one.
        label: the name in place of the perturbation's where the steps are not the whole story: a mean
            over several (``all_2d``), a search (``apgd``).
    """

    dataset: str
    steps: tuple[Step, ...] = ()
    limit: int | None = None
    over: tuple[Condition, ...] = field(default=(), repr=False)
    label: str = ""
    part_of: str = ""

    @property
    def perturbation(self) -> str:
        """The name that bounds select: ``clean``, ``fog_3d``, ``kornia:RandomGrayscale+fog_3d@3``."""
        if self.label:
            return self.label
        if not self.steps:
            return CLEAN
        if len(self.steps) == 1 and not self.steps[0].parameters:
            return self.steps[0].perturbation
        return "+".join(map(str, self.steps))

    @property
    def severity(self) -> int | None:
        """The severity that bounds select; None unless it is one perturbation at one severity."""
        if self.label or len(self.steps) != 1 or self.steps[0].parameters:
            return None
        return self.steps[0].severity

    def part(self, name: str) -> Condition:
        """Return the condition of a named part of the samples: ``clean`` becomes ``clean:noto``."""
        return replace(self, dataset=f"{self.dataset}:{name}", part_of=self.dataset)

    def in_other_words(self, change: str) -> Condition:
        """Return the condition with a change of the texts, after what was done to the pictures.

        ``caption_typos``; ``fog_3d@3+caption_typos``.
        """
        if self.perturbation == CLEAN:
            return replace(self, label=change)
        done = (
            self.perturbation if self.severity is None else f"{self.perturbation}@{self.severity}"
        )
        return replace(self, label=f"{done}+{change}")

    def __str__(self) -> str:
        """``clean``, ``clean, fog_3d at severity 3``, as messages say it."""
        text = self.dataset
        if self.perturbation != CLEAN or self.severity is not None:
            text += f", {self.perturbation}"
        return text if self.severity is None else f"{text} at severity {self.severity}"

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        data: dict[str, Any] = {"dataset": self.dataset}
        if self.steps:
            data["steps"] = [
                {
                    "perturbation": step.perturbation,
                    "severity": step.severity,
                    "parameters": step.settings,
                }
                for step in self.steps
            ]
        if self.limit is not None:
            data["limit"] = self.limit
        if self.label:
            data["label"] = self.label
        if self.part_of:
            data["part_of"] = self.part_of
        if self.over:
            data["over"] = [condition.as_dict() for condition in self.over]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Condition:
        """Return the condition that :meth:`as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: ``data`` is something else.
        """
        limit = data.get("limit")
        return cls(
            dataset=str(data["dataset"]),
            steps=tuple(
                Step(
                    str(step["perturbation"]),
                    None if step["severity"] is None else int(step["severity"]),
                    tuple((str(k), float(v)) for k, v in step.get("parameters", {}).items()),
                )
                for step in data.get("steps", ())
            ),
            limit=None if limit is None else int(limit),
            over=tuple(cls.from_dict(inner) for inner in data.get("over", ())),
            label=str(data.get("label", "")),
            part_of=str(data.get("part_of", "")),
        )


def against(condition: Condition, reference: Condition) -> Condition:
    """Return the condition of a figure that compares samples with others, of ``reference``.

    Samples as they are go without saying; a reference that is perturbed itself is named, as in
    ``fog_3d@5-from-fog_3d@4``, so that the figure meets no bound for the usual comparison.
    """
    if reference.perturbation == CLEAN:
        return condition
    named = [
        c.perturbation if c.severity is None else f"{c.perturbation}@{c.severity}"
        for c in (condition, reference)
    ]
    return replace(condition, label="-from-".join(named), over=(reference, condition))


def together(conditions: Sequence[Condition], label: str = "") -> Condition:
    """Return the condition of a figure that is over several.

    All on one data set. Without a ``label`` all must be of one perturbation, which gives the name. A label
    begins with ``all_`` or ``mixed_``, so that no figure over several is taken for one of them.

    Raises:
        ClipRobustError: no conditions, several data sets, several perturbations and no name for them, or a
            name that begins otherwise.
    """
    if not conditions:
        raise ClipRobustError("a figure over several conditions needs at least one of them")
    datasets = dict.fromkeys(condition.dataset for condition in conditions)
    if len(datasets) > 1:
        raise ClipRobustError(
            f"one figure cannot be over the data sets {' and '.join(datasets)}: measure each apart"
        )
    if label and not (isinstance(label, str) and label.startswith((ALL, MIXED))):
        raise ClipRobustError(
            f"a figure over several perturbations has a name that begins with {ALL} or {MIXED}, as in "
            f"name='{ALL}mine', not {shortened(label)}"
        )
    names = dict.fromkeys(condition.perturbation for condition in conditions)
    if len(names) > 1 and not label:
        raise ClipRobustError(
            f"a figure over {len(names)} perturbations ({', '.join(names)}) needs a name of its own, "
            "as in name='all_mine'"
        )
    limits = {condition.limit for condition in conditions} - {None}
    return Condition(
        dataset=next(iter(datasets)),
        limit=min((n for n in limits if n is not None), default=None),
        over=tuple(conditions),
        label=label or next(iter(names)),
        part_of=conditions[0].part_of,
    )
