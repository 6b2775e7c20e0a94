"""Runs made by hand for the HTML report, on samples of the embedded benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from history_helpers import a_run

from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.figures.arrays import Bools, Floats
from pytest_cliprobust.figures.auroc import auroc
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties.accuracy import accuracy_of
from pytest_cliprobust.properties.calibration import calibration_of
from pytest_cliprobust.reporting.earlier import earlier_of
from pytest_cliprobust.results.earlier import Earlier
from pytest_cliprobust.results.record import Evidence
from pytest_cliprobust.results.run import NotMeasured, Run

#: What would do harm if it were not escaped: in pages, in a terminal (a letter that turns its colours),
#: in the log of a job, and in Markdown, where it would notify people and load a picture.
HARM = (
    "\"'><script>alert(1)</script><img src=x onerror=alert(2)>$x_1$\x1b[31m\n::error::no\n##[error]no"
    "|\\| ``` @everyone ${{ secrets.X }} ![p](https://harm.example/p.png) [l](javascript:alert(3)) **"
)
SAMPLES = 60


def keys(data: EmbeddedDataset) -> SampleKeys:
    """Return the keys of its first samples."""
    return SampleKeys(
        data.ids[:SAMPLES], data.units[:SAMPLES], data.sample_digests[:SAMPLES], "drawing"
    )


def scores(right: Bools, labels: Sequence[int], classes: int) -> Floats:
    """Return logits that give these answers; what is wrong is taken for the next class."""
    truth = np.array(labels)
    top = np.where(right, truth, (truth + 1) % classes)
    return np.asarray(2.0 * np.eye(classes)[top] + 0.01 * np.arange(classes))


def figures(
    wrong: Sequence[int], *, name: str = "cat", severities: Sequence[int] = (1, 3, 5)
) -> list[Figure]:
    """Return figures of a model that is wrong on some samples, and on more the thicker the fog."""
    data = EmbeddedDataset("clean", profile="quick", limit=SAMPLES)
    names = (name, *data.class_names[1:])
    made: list[Figure] = []
    for severity in (0, *severities):
        right = np.ones(SAMPLES, dtype=np.bool_)
        right[list(wrong)] = False
        right[40 : 40 + 3 * severity] = False
        steps = (Step("fog", severity),) if severity else ()
        labels = data.labels[:SAMPLES]
        samples = SampleArrays(
            Condition("clean", steps),
            data.ids[:SAMPLES],
            np.array(labels),
            scores(right, labels, len(names)),
            cosines=scores(right, labels, len(names)) / 100,
            class_names=names,
            units=data.units[:SAMPLES],
        )
        figure = accuracy_of(samples)
        assert figure.outcomes is not None
        made.append(replace_outcomes(figure, keys(data)))
        if not severity:
            made.append(calibration_of(samples)["ece"])
    generator = np.random.default_rng(len(wrong))
    inside, outside = generator.normal(1, 1, 30), generator.normal(0, 1, 30)
    both = keys(data).take(range(30)).beside(keys(data).take(range(30, 60)))
    found = auroc("auroc_energy", inside, outside, bootstrap=Bootstrap(replicates=50, keys=both))
    return [*made, found.measured_on(Condition("far_ood"))]


def replace_outcomes(figure: Figure, own: SampleKeys) -> Figure:
    """Return a figure whose samples have digests, as a view's have."""
    assert figure.outcomes is not None
    assert figure.condition is not None
    return replace(figure, outcomes=figure.outcomes.of(own)).measured_on(figure.condition)


def the_run(
    made: Sequence[Figure], model: str = "mine", *, fails: bool = True, harm: str = ""
) -> Run:
    """Return a run of which the clean accuracy fails its bound, if ``fails``."""
    run = a_run(made, model, digest="cd34" * 16, suite="accuracy")
    records = []
    for record in run.records:
        if record.key.startswith("accuracy/accuracy/clean/clean/") and fails:
            verdict = replace(
                record.verdict,
                status="fail",
                outcome="fail",
                kind="max_decrease",
                limit=0.03,
                where=f"thresholds.toml:51{harm}",
                because=harm,
                explanation=f"the loss is real{harm}",
                value=0.2,
                low=0.11,
                high=0.31,
                missed_by=0.17,
                decidable=0.025,
                compared="paired, n = 60",
            )
            evidence = Evidence((("seen", f"fog{harm}"),), {}, f"cliprobust perturb{harm}", "x.png")
            record = replace(record, verdict=verdict, rule="a", evidence=evidence)
        records.append(record)
    return replace(
        run,
        records=tuple(records),
        exit_status=int(fails),
        ending="regression" if fails else "passed",
        not_run=(NotMeasured(f"suites/test_x.py::test_y[{harm}]", "x", f"needs depth{harm}"),),
        notes=(f"a note{harm}",),
    )


def head(*, harm: str = "", wrong: Sequence[int] = tuple(range(12)), fails: bool = True) -> Earlier:
    """Return a run that is wrong on twelve samples."""
    made = figures(wrong, name=f"cat{harm}")
    return earlier_of(the_run(made, f"mine{harm}", fails=fails, harm=harm))


def base(*, harm: str = "") -> Earlier:
    """Return the run before it, wrong on the last sample only."""
    return earlier_of(the_run(figures((59,), name=f"cat{harm}"), f"old{harm}", fails=False))


class Elements(HTMLParser):
    """What a page is made of.

    Attributes:
        found: (tag, attributes) of all elements.
        words: all text outside scripts and styles.
        script: the text of scripts.
    """

    def __init__(self, page: str) -> None:
        """Read the page."""
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words, self.script, self._in = "", "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.found.append((tag, dict(attrs)))
        self._in = tag

    def handle_endtag(self, tag: str) -> None:
        """Leave an element."""
        self._in = ""

    def handle_data(self, data: str) -> None:
        """Note text."""
        if self._in == "script":
            self.script += data
        elif self._in != "style":
            self.words += f"{data} "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of one kind."""
        return [attributes for name, attributes in self.found if name == tag]


def written(page: str, folder: Path) -> Path:
    """Return the file of a page."""
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path
