"""What the report says, in values that a template only has to write down.

All of it follows from a run (:class:`~pytest_cliprobust.results.earlier.Earlier`) and its comparison with
an earlier one; nothing is measured.
"""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_cliprobust.errors import ClipRobustError, counted
from pytest_cliprobust.figures.condition import CLEAN
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.verdict import Verdict, waivers_of
from pytest_cliprobust.properties.answers import Answer, answers_in
from pytest_cliprobust.reporting.ending import NOT_COMPARED
from pytest_cliprobust.results.compare import Compared, Comparison, Word, matched_answers
from pytest_cliprobust.results.earlier import Earlier

#: So many losses are drawn at the top, and so many classes.
WORST, CLASSES = 12, 8

#: Words of a comparison that say that a figure moved, by how the page colours them.
_TONES = {Word.WORSE: "bad", Word.BETTER: "good", Word.LOWER: "moved", Word.HIGHER: "moved"}


# --- Figures ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One figure, as the page shows it.

    Attributes:
        measurement: the figure.
        verdict: what its bound says; None where the run tells no verdict.
        compared: the same figure in the earlier run; None without one.
        test: node id of its test.
        command: what runs that test again; empty where that is not known.
        evidence: (heading, text) pairs beside a missed bound.
        reproduction: a command that shows it; empty without evidence.
        several: whether the run has figures of other models, too.
    """

    measurement: Measurement
    verdict: Verdict | None
    compared: Compared | None
    test: str
    command: str
    evidence: tuple[tuple[str, str], ...] = ()
    reproduction: str = ""
    several: bool = False

    @property
    def key(self) -> str:
        """The figure's key."""
        return self.measurement.key

    @property
    def anchor(self) -> str:
        """Its place in the page, for links."""
        return anchor_of(self.key)

    @property
    def meaning(self) -> str:
        """What its metric stands for; empty for one that is not registered here."""
        known = METRICS.find(self.measurement.metric)
        return known.meaning if known else ""

    @property
    def status(self) -> str:
        """``fail``, ``waived``, ``inconclusive``, ``pass`` or ``unbounded``."""
        return "unbounded" if self.verdict is None else self.verdict.status

    @property
    def failed(self) -> bool:
        """Whether its bound fails."""
        return self.verdict is not None and self.verdict.failed

    @property
    def not_judgeable(self) -> bool:
        """Whether it fails as nothing can be held against a bound: it is NaN, or has no interval."""
        own = self.verdict
        return own is not None and own.status == "fail" and own.missed_by is None

    @property
    def missed_by(self) -> float:
        """How far beyond its bound it lies, in its own unit; 0 where it fails none, or has none."""
        return (self.verdict.missed_by or 0.0) if self.verdict is not None and self.failed else 0.0

    @property
    def tone(self) -> str:
        """``bad`` where it is worse, ``good`` where it is better, ``moved`` where neither end is good."""
        return "" if self.compared is None else _TONES.get(self.compared.word, "")

    @property
    def word(self) -> str:
        """What the comparison says; empty without one."""
        return "" if self.compared is None else self.compared.word.value

    @property
    def certainty(self) -> str:
        """What the comparison says of a difference that is there: ``worse``, or ``could be chance``."""
        made = self.compared
        if made is None or made.word is not Word.UNSEEN or not made.difference:
            return self.word
        # A bound that fails has decided that the loss is real, by a test of its own.
        if self.failed and self.loss:
            return Word.WORSE.value
        # One in twenty intervals leaves out no change by chance, and there are hundreds of figures.
        alone = made.low > 0 or made.high < 0
        return "could be chance among so many" if alone else "could be chance"

    @property
    def before(self) -> float | None:
        """The earlier value, on the samples that both runs have; None without one."""
        if self.compared is None:
            return None
        change = self.compared.change
        value = self.compared.base.figure.value if change is None else change.before
        return value if math.isfinite(value) else None

    @property
    def after(self) -> float:
        """The value on the samples that both runs have; without an earlier run, on all."""
        change = None if self.compared is None else self.compared.change
        return self.measurement.figure.value if change is None else change.after

    @property
    def change_text(self) -> str:
        """``−0.31 [−0.35, −0.27]``; empty without a comparison."""
        made = self.compared
        if made is None or not math.isfinite(made.difference):
            return ""
        return f"{signed(made.difference)} [{signed(made.low)}, {signed(made.high)}]"

    @property
    def loss(self) -> float:
        """How much worse it is, in its own unit; 0 where it is not, or that is not known."""
        made = self.compared
        if made is None or made.higher_is_better is None or not math.isfinite(made.difference):
            return 0.0
        return max(0.0, -made.difference if made.higher_is_better else made.difference)

    @property
    def place(self) -> str:
        """Its condition in few words: the data set where it is not clean, the perturbation, its severity."""
        one = self.measurement
        parts = [] if one.dataset == CLEAN and one.perturbation != CLEAN else [one.dataset]
        if one.perturbation != CLEAN:
            at = "" if one.severity is None else f" {one.severity}"
            parts.append(words(one.perturbation) + at)
        return ", ".join(parts)

    @property
    def whose(self) -> str:
        """`` (MODEL)``, where it might be another's; else empty."""
        return f" ({self.measurement.model})" if self.several else ""

    @property
    def spaces(self) -> tuple[str, str]:
        """Its metric and its condition as words, with the model where there are several."""
        return words(self.measurement.metric), f"{self.measurement.condition}{self.whose}"


def anchor_of(key: str) -> str:
    """Return the id of a figure's row, what a link to it ends in: another for each key."""
    plain = re.sub(r"[^A-Za-z0-9_@.:/-]", "-", key)
    if plain == key:
        return f"figure/{key}"
    return f"figure/{plain}-{hashlib.blake2b(key.encode(), digest_size=4).hexdigest()}"


def signed(value: float) -> str:
    """Return ``−0.31`` or ``+0.02``, with the minus of print."""
    text = f"{value:+.3g}" if abs(value) >= 5e-4 or value == 0.0 else f"{value:+.1g}"
    return text.replace("-", "−")


def number(value: float) -> str:
    """Return a value with three digits."""
    return f"{value:.3g}".replace("-", "−")


def words(name: str) -> str:
    """Return a metric's name as words: ``mean corruption accuracy``."""
    return name.replace("_", " ")


def lines_of(head: Earlier, comparison: Comparison | None) -> tuple[Line, ...]:
    """Return the figures of a run, those that failed first, then the largest losses.

    Of those that failed the first are those that are no number: they are as bad as can be.
    """
    compared = {} if comparison is None else {row.key: row for row in comparison.rows}
    several = len({one.model for one in head.measurements.values()}) > 1
    found = []
    for key, measurement in head.measurements.items():
        evidence = head.evidence.get(key)
        test = head.tests.get(key, "")
        found.append(
            Line(
                measurement,
                _verdict(head.verdicts.get(key)),
                compared.get(key),
                test,
                command_of(test, head.header, measurement.model),
                () if evidence is None else evidence.lines,
                "" if evidence is None else evidence.reproduction,
                several,
            )
        )
    order = {"fail": 0, "waived": 1, "inconclusive": 2, "pass": 3, "unbounded": 4}

    def rank(line: Line) -> tuple[bool, bool, bool, float, int, float, str]:
        # Nats and pixels are no larger losses than shares because their numbers are.
        unit = bool(line.measurement.figure.unit)
        first = not line.failed, not line.not_judgeable
        return *first, unit, -line.loss, order[line.status], -line.missed_by, line.key

    return tuple(sorted(found, key=rank))


def _verdict(told: Mapping[str, Any] | None) -> Verdict | None:
    try:
        return None if told is None else Verdict.from_dict(told)
    except (KeyError, TypeError, ValueError):  # an older version wrote it
        return None


def command_of(test: str, header: Mapping[str, Any], model: str) -> str:
    """Return the command that runs a test again as the run did; empty where that is not known."""
    config = header.get("config", {})
    if not test or not config:
        return ""
    source = config.get("sources", {}).get(model, model)
    given = [f"--clip-model={model}" if source == model else f"--clip-model={model}={source}"]
    for name, usual in (
        *(
            ("pretrained", None),
            ("activation", None),
            ("data", "embedded"),
            ("profile", "standard"),
        ),
        *(("limit", None), ("seed", 0), ("depth", None), ("lmm", None), ("against", None)),
    ):
        value = config.get(name, usual)
        if value not in (None, usual):
            given.append(f"--clip-{name}={value}")
    return shlex.join(["pytest", test, *given])


# --- The top ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Headline:
    """The first thing that is said.

    Attributes:
        tone: ``bad``, ``unsure`` or ``good``.
        word: ``Do not ship``, ``Not decided``, ``Ship with 2 waivers``, ``Ship`` …
        sentence: why, in one sentence.
        worst: the loss that it names; None where there is none.
    """

    tone: str
    word: str
    sentence: str
    worst: Line | None = None


def headline_of(head: Earlier, lines: Iterable[Line]) -> Headline:
    """Return the verdict on a run."""
    lines = tuple(lines)
    failed = [line for line in lines if line.failed]
    judged = sum(line.status != "unbounded" for line in lines)
    status = int(head.header.get("exit_status", 0))
    because = [str(text) for text in head.header.get("because", ())]
    if failed:
        worst = _worst(failed)
        return Headline("bad", "Do not ship", _loss_sentence(worst, len(failed), judged), worst)
    if status == 1:
        return Headline("bad", "Do not ship", "A test failed for another reason than a bound.")
    if status or not head.complete:
        # The last line says how it ended; what nothing was held against is told in no row of a figure.
        reasons = [line for line in because if line.startswith(NOT_COMPARED)] or because
        told = reasons[-1] if reasons else f"The run ended with exit code {status}."
        return Headline("unsure", "Not decided", told)
    if not judged:
        told = "No bound judged any of these figures, so this run gates nothing."
        worse = [line for line in lines if line.tone == "bad"]
        if not worse:
            return Headline("unsure", "No gate", told)
        first = _worst(worse)
        metric, condition = first.spaces
        verb = "is" if len(worse) == 1 else "are"
        told += (
            f" {len(worse)} of them {verb} worse than in the earlier run: {metric} on {condition} by "
            f"{first.change_text}."
        )
        return Headline("unsure", "No gate", told, first)
    open_ = sum(line.status == "inconclusive" for line in lines)
    waived = [line for line in lines if line.status == "waived"]
    start = "No bound is missed" if not waived else "No bound is missed without a waiver"
    told = f"{start}: {judged - open_ - len(waived)} of {judged} are met"
    told += f", {len(waived)} missed under a waiver" if waived else ""
    told += f", {open_} cannot be decided on so few samples." if open_ else "."
    if not waived:
        return Headline("good", "Ship", told)
    count = waivers_of(line.verdict for line in waived if line.verdict is not None)
    word = f"Ship with {counted(count, 'waiver')}"
    return Headline("unsure", word, told, _worst(waived))


def _worst(failed: Iterable[Line]) -> Line:
    """Return the failure to name: clean accuracy, which others follow from, else the largest loss.

    A figure that is no number comes before any loss.
    """

    def rank(line: Line) -> tuple[bool, bool, bool, float]:
        one = line.measurement
        size = max(line.loss, (line.verdict.missed_by or 0.0) if line.verdict else 0.0)
        return is_clean_accuracy(one), line.not_judgeable, not one.figure.unit, size

    return max(failed, key=rank)


def _loss_sentence(worst: Line, failed: int, judged: int) -> str:
    metric, condition = worst.spaces
    verdict = worst.verdict
    assert verdict is not None
    if verdict.on_change and worst.before is not None and math.isfinite(verdict.value):
        fell = "fell" if verdict.kind == "max_decrease" else "rose"
        told = (
            f"{metric} on {condition} {fell} by {number(verdict.value)} "
            f"[{number(verdict.low)}, {number(verdict.high)}], from {number(worst.before)} to "
            f"{number(worst.after)}; a margin of {number(verdict.limit or 0.0)} was allowed"
        )
    else:
        told = f"{metric} on {condition}: {verdict.explanation}"
    return f"{told[:1].upper()}{told[1:]}. {failed} of {judged} bounds fail."


def counts_of(lines: Iterable[Line]) -> dict[str, int]:
    """Return how many figures there are of each verdict, and of each word of the comparison."""
    lines = tuple(lines)
    found = Counter("fail" if line.failed else line.status for line in lines)
    found.update(f"change: {line.word}" for line in lines if line.word)
    return dict(found)


# --- Classes ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassLoss:
    """What became of one class on pictures as they are.

    Attributes:
        name: of the class.
        lost, gained: pictures that only one of the runs has right.
        n: pictures of it; None where that is not known.
        taken_for: (name, how many) of what the lost ones are taken for now, the most frequent first.
    """

    name: str
    lost: int
    gained: int
    n: int | None
    taken_for: tuple[tuple[str, int], ...]


def clean_accuracies(head: Earlier) -> list[str]:
    """Return the keys of the figures that :func:`class_losses` is read from."""
    return [key for key, one in head.measurements.items() if is_clean_accuracy(one)]


def is_clean_accuracy(one: Measurement) -> bool:
    """Return whether a figure is the accuracy on all clean pictures as they are."""
    whole = not one.condition.part_of
    return (one.metric, one.dataset, one.perturbation) == ("accuracy", CLEAN, CLEAN) and whole


def class_losses(lines: Iterable[Line]) -> tuple[ClassLoss, ...]:
    """Return the classes that lost most on clean pictures; none where answers were not kept."""
    for line in lines:
        if line.compared is not None and is_clean_accuracy(line.measurement):
            return _classes(line.compared)
    return ()


def _classes(row: Compared) -> tuple[ClassLoss, ...]:
    answers = answers_in(row.head.figure.details)
    if not answers:
        return ()
    lost: Counter[str] = Counter()
    gained: Counter[str] = Counter()
    taken: dict[str, Counter[str]] = {}
    for place, was, is_ in matched_answers(row):
        answer = answers[place] if place < len(answers) else None
        if answer is None or was is is_:
            continue
        (gained if is_ else lost)[answer.label] += 1
        if not is_:
            taken.setdefault(answer.label, Counter())[answer.name] += 1
    count = Counter(answer.label for answer in answers if answer is not None)
    found = [
        ClassLoss(name, lost[name], gained[name], count[name], tuple(taken[name].most_common(3)))
        for name in lost
    ]
    return tuple(sorted(found, key=lambda one: (one.gained - one.lost, one.name)))[:CLASSES]


def confusions_of(line: Line) -> tuple[tuple[str, str, int], ...]:
    """Return what is most often taken for what: (class, taken for, how many)."""
    told = (a for a in answers_in(line.measurement.figure.details) if a is not None)
    found = Counter((a.label, a.name) for a in told if not a.right)
    return tuple((label, name, count) for (label, name), count in found.most_common(CLASSES))


def answer_text(answer: Answer | None, right: bool, label: str = "") -> str:
    """Return what a run answered: ``wolf (0.41)``, or whether it was right where that is all there is.

    ``label``: the right class, which was answered by whoever was right; empty where it is not known.
    """
    if answer is None:
        return (label or "right") if right else "wrong"
    return f"{answer.name} ({answer.probability:.2f})"


# --- What was under test ---------------------------------------------------------------------------


def provenance_lines(head: Earlier, comparison: Comparison | None) -> tuple[tuple[str, str], ...]:
    """Return (what, text): models, data, prompts, precision, baseline, and where and when it ran."""
    told, config = head.header, head.header.get("config", {})
    lines: list[tuple[str, str]] = []
    for name, model in told.get("models", {}).items():
        text = (
            f"{model['architecture']}, weights {model['digest'][:16]}, {model['device']}, "
            f"precision {model['precision']}"
        )
        lines.append((f"model {name}", text))
        lines += [("note", str(note)) for note in model.get("notes", ())]
    size = f", at most {config['limit']} samples" if config.get("limit") else ""
    text = f"{config.get('data')}, profile {config.get('profile')}{size}, seed {config.get('seed')}"
    lines.append(("data", text))
    try:
        known = head.provenance
    except (ClipRobustError, KeyError, TypeError, ValueError):
        known = None
    if known is not None:
        lines += [(f"digest of data {name}", text[:16]) for name, text in known.data.items()]
        lines += [(f"digest of prompts, {name}", text) for name, text in known.templates.items()]
    lines.append(("threshold file", str(told.get("thresholds") or "none")))
    if comparison is not None:
        base = comparison.base
        lines.append(("compared with", base.source))
        if base.provenance is not None:
            weights = base.provenance.weights.items()
            lines += [(f"its weights, {name}", text[:16]) for name, text in weights if text]
        lines += [("differs", note) for note in comparison.notes]
    place = told.get("environment", {})
    lines.append(
        (
            "ran",
            f"{told.get('began')} to {told.get('written')}, pytest-cliprobust "
            f"{told.get('pytest_cliprobust')}, Python {place.get('python')}, torch {place.get('torch')}",
        )
    )
    return tuple(lines)
