"""Claims of the paper (Tu, Deng, Gedeon, TPAMI 2025) as checks on the models of a study.

Each says what it looked at, and a word. A claim is *supported* or *contradicted* where an interval leaves no
other reading, *supported in part* where that depends on the data set or the source, and *not decided*
otherwise, which with few models is the usual case.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import stats

from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.properties.multimodal import SEES_THROUGH
from pytest_cliprobust.results.compare import compare
from pytest_cliprobust.study.axes import LOGIT, axis_of
from pytest_cliprobust.study.effects import WORDS, Regression, regression, seed_spread
from pytest_cliprobust.study.gather import Entry, Table
from pytest_cliprobust.study.lines import correlation

#: By so much may the calibration error grow under shift and still count as kept.
KEPT = 0.05


class Word(StrEnum):
    """What a check says of its claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    IN_PART = "supported in part"
    NOT_DECIDED = "not decided"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Claim:
    """A claim, and what the models say of it.

    Attributes:
        sentence: the claim.
        word: what they say.
        why: how that was decided, one sentence.
        figures: what was looked at, a line each, with intervals.
    """

    sentence: str
    word: Word
    why: str
    figures: tuple[str, ...] = ()


def claims_of(table: Table) -> tuple[Claim, ...]:
    """Return all claims, checked on the models of ``table``."""
    return tuple(check(table) for check in CHECKS)


def fine_tuning_lowers_shape_bias(table: Table) -> Claim:
    """Each fine-tuned model against the one it was fine-tuned from, on the same pictures."""
    sentence = "Fine-tuning lowers shape bias"
    by_name = {entry.model: entry for entry in table.entries}
    lines, words = [], []
    for entry in table.entries:
        base = by_name.get(entry.card.base)
        if base is None:
            continue
        for key in _keys(table, lambda m: m.metric == "shape_bias"):
            found = _paired(base, entry, key)
            if found is None:
                continue
            low, high, text = found
            spread = seed_spread(_values(table, key), [e.card for e in table.entries])
            beyond = not abs(low + high) / 2 <= 2 * spread.value
            words.append(_sign(low, high, wanted=-1) if beyond else Word.NOT_DECIDED)
            told = "" if math.isnan(spread.value) else f"; spread between seeds {spread.value:.3f}"
            lines.append(f"{entry.model} against {base.model}, {key}: {text}{told}")
    if not words:
        return _lacking(
            sentence, "no fine-tuned model whose card names its base has shape bias measured"
        )
    why = (
        "the change on the same pictures, decided where its interval does not hold 0 and it is more than "
        "twice the spread between seeds"
    )
    return Claim(sentence, _together(words), why, tuple(lines))


def _paired(base: Entry, entry: Entry, key: str) -> tuple[float, float, str] | None:
    """Return the interval of the change of a property from one model to another, and its text."""
    if key not in base.measurements or key not in entry.measurements:
        return None
    wanted = {base.measurements[key].key, entry.measurements[key].key}
    made = compare(
        base.runs[key],
        entry.runs[key],
        base_model=base.model,
        head_model=entry.model,
        only=lambda measurement: measurement.key in wanted,
    )
    if not made.rows or made.rows[0].change is None:
        return None
    row = made.rows[0]
    before, after = (e.measurements[key].figure.value for e in (base, entry))
    paired = "" if row.change is not None and row.change.paired else ", not in pairs"
    text = f"{before:.3f} to {after:.3f}, change {_ends(row.difference, row.low, row.high)}{paired}"
    return row.low, row.high, text


def architecture_decides_3d_corruption(table: Table) -> Claim:
    """The joint effect of architecture on accuracy under 3D corruption, beside those of the other factors."""
    sentence = "Architecture decides robustness to 3D corruption"
    keys = _keys(
        table,
        lambda m: m.perturbation == "all_3d" and m.metric == "relative_corruption_drop",
    )
    if not keys:
        return _lacking(
            sentence, "no run has the mean over all 3D corruptions (suite corruption_3d)"
        )
    made = regression(_on_axis(table, keys[0]), [entry.card for entry in table.entries])
    if made is None or "architecture" not in made.joint:
        return _lacking(sentence, "the architecture does not vary apart from other factors here")
    tests = ", ".join(f"{WORDS[factor]} p = {p:.3g}" for factor, p in made.joint.items())
    lines = [f"{keys[0]}, F tests: {tests}"]
    lines += _effect_lines(made)
    reach = {factor: _reach(made, factor) for factor in made.joint}
    own = reach.pop("architecture")
    word = Word.NOT_DECIDED
    if made.joint["architecture"] < 0.05 and all(
        own.value > other.value for other in reach.values()
    ):
        word = Word.SUPPORTED
    elif any(other.least > own.most for other in reach.values()):
        word = Word.CONTRADICTED
    why = (
        "the relative drop over all 3D corruptions: supported if architecture has an effect (F test, 5%) and "
        "the largest of all factors, contradicted if another factor's is larger by their intervals"
    )
    return Claim(sentence, word, why, tuple(lines))


@dataclass(frozen=True)
class Reach:
    """How large the largest effect of a factor is, whichever its sign, and its ends."""

    value: float
    least: float
    most: float


def _reach(made: Regression, factor: str) -> Reach:
    effects = [e for e in made.effects if e.column.factor == factor]
    return Reach(
        value=max(abs(e.value) for e in effects),
        least=max(max(e.low, -e.high, 0.0) for e in effects),
        most=max(max(-e.low, e.high) for e in effects),
    )


def _effect_lines(made: Regression) -> list[str]:
    return [
        f"{effect.column.name}: {effect.why or _ends(effect.value, effect.low, effect.high)}"
        for effect in made.effects
    ]


def accuracy_goes_with_ood(table: Table) -> Claim:
    """The correlation of ID accuracy and AUROC (MCM) over the models of each training distribution."""
    sentence = "Within one training source, ID accuracy goes with OOD detection"
    keys = _keys(table, lambda m: m.suite == "ood" and m.metric == "auroc_mcm")
    by_source: dict[str, list[int]] = defaultdict(list)
    for number, entry in enumerate(table.entries):
        by_source[entry.card.data or "unknown source"].append(number)
    x = _on_axis(table, table.id_accuracy)
    lines, words = [], []
    for key in keys:
        y = _on_axis(table, key)
        for source, rows in by_source.items():
            there = [i for i in rows if np.isfinite(x[i]) and np.isfinite(y[i])]
            if len(there) < 4:
                continue
            r, low, high = correlation(x[there], y[there])
            words.append(_sign(low, high, wanted=1))
            lines.append(f"{key}, {len(there)} models of {source}: r = {_ends(r, low, high)}")
    if not words:
        return _lacking(sentence, "no source has four models with AUROC by MCM")
    return Claim(
        sentence, _together(words), "Pearson's correlation of logits, Fisher's z", tuple(lines)
    )


def calibrated_under_shift(table: Table) -> Claim:
    """How much more calibration error there is under shift than on ID data, after temperature scaling.

    By the estimates without most of the bias that grows as samples get fewer: shifts are measured on as many
    as a profile has, ID data on more.
    """
    sentence = "After temperature scaling on ID data, zero-shot models stay calibrated under shift"
    wanted = _keys(table, lambda m: m.suite == "calibration" and m.metric == "ece_scaled")
    dataset = table.id_accuracy.split("/")[2]
    base = next((key for key in wanted if key.endswith(f"/ece_scaled/{dataset}/clean")), None)
    rows = [i for i, entry in enumerate(table.entries) if entry.card.fine_tuning in ("none", "")]
    if base is None or len(wanted) < 2 or len(rows) < 2:
        return _lacking(
            sentence, "no two zero-shot models have ece_scaled on ID data and under a shift"
        )
    lines, words = [], []
    for key in wanted:
        if key == base:
            continue
        more = (_calibration_errors(table, key) - _calibration_errors(table, base))[rows]
        found = _mean_interval(more)
        if found is None:
            continue
        mean, low, high = found
        after, before = (
            _mean_text(_calibration_errors(table, name)[rows])
            for name in (key, key.replace("/ece_scaled/", "/ece/"))
        )
        lines.append(
            f"{key}: {_ends(mean, low, high)} more than on ID data; on average {after}, before scaling "
            f"{before}"
        )
        words.append(_below(low, high, KEPT))
    if not words:
        return _lacking(sentence, "no two zero-shot models have ece_scaled under a shift")
    why = (
        "the mean over models of the growth of ECE, without most of its bias in few samples, which is to "
        f"stay below {KEPT}"
    )
    return Claim(sentence, _together(words), why, tuple(lines))


def multimodal_models_gain(table: Table) -> Claim:
    """The gain of the multimodal model that carries an encoder over the encoder alone, on hard classes.

    One that is known to carry another encoder says nothing of it, and is left out.
    """
    sentence = "A multimodal model gains on the classes that its CLIP confuses"
    lines, words, others = [], [], []
    for entry in table.entries:
        for key, measurement in entry.measurements.items():
            if measurement.suite != "lmm" or not measurement.metric.endswith("_gain"):
                continue
            figure = measurement.figure
            if SEES_THROUGH in figure.details:
                others.append(entry.model)
                continue
            lines.append(f"{entry.model}, {key}: {_ends(figure.value, figure.low, figure.high)}")
            words.append(_sign(figure.low, figure.high, wanted=1))
    if others:
        lines.append(
            f"left out: {', '.join(others)}, of which the multimodal model has another's image encoder"
        )
    if not words:
        why = "no run has figures of a multimodal model that sees through the CLIP under test"
        return Claim(sentence, Word.NOT_MEASURED, why, tuple(lines))
    return Claim(sentence, _together(words), "the interval of each gain", tuple(lines))


CHECKS: tuple[Callable[[Table], Claim], ...] = (
    fine_tuning_lowers_shape_bias,
    architecture_decides_3d_corruption,
    accuracy_goes_with_ood,
    calibrated_under_shift,
    multimodal_models_gain,
)


def _keys(table: Table, wanted: Callable[[Measurement], bool]) -> list[str]:
    return list(
        dict.fromkeys(
            key
            for entry in table.entries
            for key, measurement in entry.measurements.items()
            if wanted(measurement)
        )
    )


def _values(table: Table, key: str) -> Floats:
    return np.array([entry.value(key) for entry in table.entries])


def _calibration_errors(table: Table, key: str) -> Floats:
    """Return a calibration error of all models (M,), without most of its bias where that is known."""
    figures = [e.measurements[key].figure if key in e.measurements else None for e in table.entries]
    return np.array(
        [math.nan if f is None else f.details.get("debiased", f.value) for f in figures]
    )


def _on_axis(table: Table, key: str) -> Floats:
    """Return a property of all models on its axis (M,)."""
    known = [e.measurements[key].figure for e in table.entries if key in e.measurements]
    axis = axis_of(known[0].metric) if known else LOGIT
    sizes = [e.measurements[key].figure.n if key in e.measurements else 1 for e in table.entries]
    return axis.to(_values(table, key), np.array(sizes, dtype=np.float64))


def _mean_interval(values: Floats, confidence: float = 0.95) -> tuple[float, float, float] | None:
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return None
    mean = float(values.mean())
    half = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1)) * float(values.std(ddof=1))
    half /= math.sqrt(len(values))
    return mean, mean - half, mean + half


def _mean_text(values: Floats) -> str:
    there = values[np.isfinite(values)]
    return f"{there.mean():.3f}" if len(there) else "not measured"


def _sign(low: float, high: float, wanted: int) -> Word:
    """Return whether an interval lies on the wanted side of 0, on the other, or on both."""
    if wanted < 0:
        low, high = -high, -low
    if low > 0:
        return Word.SUPPORTED
    return Word.CONTRADICTED if high < 0 else Word.NOT_DECIDED


def _below(low: float, high: float, limit: float) -> Word:
    if high < limit:
        return Word.SUPPORTED
    return Word.CONTRADICTED if low > limit else Word.NOT_DECIDED


def _together(words: list[Word]) -> Word:
    """Return the word of several checks of one claim."""
    if len(set(words)) == 1:
        return words[0]
    return Word.IN_PART if {Word.SUPPORTED, Word.CONTRADICTED} <= set(words) else Word.NOT_DECIDED


def _lacking(sentence: str, why: str) -> Claim:
    return Claim(sentence, Word.NOT_MEASURED, why)


def _ends(value: float, low: float, high: float) -> str:
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
