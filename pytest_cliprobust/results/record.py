"""A record: a figure with its verdict, the rule that gave it, and the evidence. Typed to the last line."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

from pytest_cliprobust.figures.figure import Figure, pack
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.results.outcomes import from_manifest, to_manifest, unnamed, with_outcomes


@dataclass(frozen=True)
class Evidence:
    """What a report shows beside a missed bound.

    Attributes:
        lines: (heading, text) pairs.
        parameters: of the perturbation that tells most.
        reproduction: a command that shows it.
        picture: path of the picture, as it can be typed in the run's folder.
    """

    lines: tuple[tuple[str, str], ...]
    parameters: Mapping[str, float]
    reproduction: str
    picture: str

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return {
            "lines": [list(line) for line in self.lines],
            "parameters": dict(self.parameters),
            "reproduction": self.reproduction,
            "picture": self.picture,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evidence:
        """Return the evidence that :meth:`as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: ``data`` is something else.
        """
        return cls(
            lines=tuple((str(heading), str(text)) for heading, text in data["lines"]),
            parameters={str(k): float(v) for k, v in data["parameters"].items()},
            reproduction=str(data["reproduction"]),
            picture=str(data["picture"]),
        )


@dataclass(frozen=True)
class Record:
    """One figure of a run, judged.

    Attributes:
        measurement: the figure, its suite and its model.
        verdict: what the rule says of it.
        test: node id of the test that measured it.
        rule: id of the rule that judged it; None if there was none.
        also_used: ids of rules that decided how it was measured (a frontier's allowed drop).
        noise_floor: numerical noise of the figure, below which nothing is decided.
        evidence: of a missed bound, where the test gives any.
        weak: why its bounds hardly gate it, one line each.
    """

    measurement: Measurement
    verdict: Verdict
    test: str
    rule: str | None = None
    also_used: tuple[str, ...] = ()
    noise_floor: float = 0.0
    evidence: Evidence | None = None
    weak: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """``suite/metric/dataset/perturbation@severity/model``."""
        return self.measurement.key

    @property
    def figure(self) -> Figure:
        """The figure."""
        return self.measurement.figure

    @property
    def suite(self) -> str:
        """Name of the suite."""
        return self.measurement.suite

    @property
    def model(self) -> str:
        """The model as the command line named it."""
        return self.measurement.model

    def as_dict(
        self, *, replicates: bool = False, blobs: MutableMapping[str, bytes] | None = None
    ) -> dict[str, Any]:
        """Return JSON-able data.

        Args:
            replicates: whether the figure's replicates are in it, packed.
            blobs: takes up the arrays of the figure's outcomes, which are in it then; None: they are not.
        """
        data = self.measurement.as_dict()
        if replicates and self.figure.replicates:
            data["figure"]["replicates"] = pack(self.figure.replicates)
        if blobs is not None:
            data["figure"]["outcomes"] = to_manifest(self.figure.outcomes, blobs)
        data |= {
            "test": self.test,
            "verdict": self.verdict.as_dict(),
            "rule": self.rule,
            "also_used": list(self.also_used),
            "noise_floor": self.noise_floor,
        }
        if self.evidence is not None:
            data["evidence"] = self.evidence.as_dict()
        if self.weak:
            data["weak"] = list(self.weak)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], blobs: Mapping[str, bytes] | None = None) -> Record:
        """Return the record that :meth:`as_dict` wrote; without ``blobs`` its figure has no outcomes.

        Raises:
            KeyError, TypeError, ValueError: ``data`` is something else.
        """
        rule = data["rule"]
        evidence = data.get("evidence")
        measurement = Measurement.from_dict(data)
        if blobs is not None:
            outcomes = from_manifest(data["figure"].get("outcomes"), blobs)
            figure = with_outcomes(measurement.figure, outcomes)
            measurement = replace(measurement, figure=figure)
        return cls(
            measurement=measurement,
            verdict=Verdict.from_dict(data["verdict"]),
            test=str(data["test"]),
            rule=None if rule is None else str(rule),
            also_used=tuple(str(name) for name in data["also_used"]),
            noise_floor=float(data["noise_floor"]),
            evidence=None if evidence is None else Evidence.from_dict(evidence),
            weak=tuple(str(line) for line in data.get("weak", ())),
        )

    def unnamed(self) -> Record:
        """Return the same record with samples that go by digests of their names, and no picture."""
        figure = unnamed(self.figure)
        return replace(self, measurement=replace(self.measurement, figure=figure), evidence=None)

    def one_line(self) -> str:
        """Return ``value [low, high] n=…: status (bound)``, as JUnit properties show it.

        Of a waived bound it says by whom, why and until when, too.
        """
        figure, verdict = self.figure, self.verdict
        bound = f" ({verdict.bound})" if verdict.bound else ""
        waiver = f", {verdict.waiver.text()}" if verdict.waiver else ""
        return f"{figure.interval_text()} n={figure.n}: {verdict.status}{bound}{waiver}"
