"""What a report says, from values made by hand: which loss is named, what is counted, how it is written."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from history_helpers import CLEAN, FOG
from report_helpers import base, head

from pytest_cliprobust.figures.bootstrap import Bootstrap, mean_figure, proportion_figure
from pytest_cliprobust.figures.change import Change
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.gating.waivers import Waived
from pytest_cliprobust.properties.answers import Answer
from pytest_cliprobust.reporting import facts
from pytest_cliprobust.results.compare import Compared, Word, compare
from pytest_cliprobust.results.earlier import Earlier

NAMES = tuple(map(str, range(20)))
KEYS = SampleKeys(NAMES, NAMES, NAMES)


def measurement(
    metric: str = "accuracy",
    condition: Condition = CLEAN,
    *,
    share: float = 0.5,
    unit: str = "",
    details: tuple[tuple[str, Any], ...] = (),
) -> Measurement:
    """Return a figure on 20 samples: a share, or a mean if it has a unit."""
    right = np.arange(20) < 20 * share
    boot = Bootstrap(replicates=10, keys=KEYS)
    figure = (
        mean_figure(metric, right.astype(float), boot, supposed=(0.0, 1.0), unit=unit)
        if unit
        else proportion_figure(metric, right, boot)
    )
    figure = replace(figure, details={**figure.details, **dict(details)})
    return Measurement("s", "m", figure.measured_on(condition))


def verdict(status: Any = "pass", outcome: Any = None, **more: Any) -> Verdict:
    told: Any = {"fail": "fail", "waived": "warn", "inconclusive": "warn"}.get(status, "pass")
    values: dict[str, Any] = {
        "kind": "min",
        "limit": 0.7,
        "where": "t.toml:1",
        "because": "",
        "explanation": "why",
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "confidence": 0.95,
        "n": 20,
        "key": "k",
    }
    return Verdict(status, outcome or told, **{**values, **more})


def line(
    one: Measurement | None = None,
    own: Verdict | None = None,
    compared: Compared | None = None,
) -> facts.Line:
    return facts.Line(one or measurement(), own, compared, "t.py::test", "pytest t.py::test")


def compared(difference: float, better: bool | None = True, **more: Any) -> Compared:
    one = measurement()
    return Compared(one, more.pop("after", one), better, "paired", difference=difference, **more)


# --- Numbers as text -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "+0"),
        (0.31239, "+0.312"),
        (-0.31239, "−0.312"),
        (0.00050615, "+0.000506"),
        (0.00045678, "+0.0005"),  # so small that one digit is enough
        (-0.00012345, "−0.0001"),
        (12.0, "+12"),
    ],
)
def test_changes_have_a_sign(value: float, text: str) -> None:
    assert facts.signed(value) == text


def test_numbers_have_three_digits() -> None:
    assert facts.number(0.98765) == "0.988"
    assert facts.number(-1234.5) == "−1.23e+03"
    assert facts.words("mean_corruption_accuracy") == "mean corruption accuracy"


def test_an_anchor_is_the_key_where_that_can_be_linked_to() -> None:
    assert facts.anchor_of("a/b_c/d@3/e:f.g-h") == "figure/a/b_c/d@3/e:f.g-h"
    odd, other = facts.anchor_of("a b/c"), facts.anchor_of("a?b/c")
    assert odd.startswith("figure/a-b/c-")
    assert len(odd) == len("figure/a-b/c-") + 8
    assert odd[:-8] == other[:-8]
    assert odd != other


@pytest.mark.parametrize(
    ("condition", "place"),
    [
        (CLEAN, "clean"),
        (FOG, "fog 3d 3"),
        (Condition("shift"), "shift"),
        (Condition("shift", (Step("fog", 2),)), "shift, fog 2"),
        (Condition("clean", (Step("kornia:RandomGrayscale", None),)), "kornia:RandomGrayscale"),
    ],
)
def test_a_condition_in_few_words(condition: Condition, place: str) -> None:
    assert line(measurement("accuracy", condition)).place == place


# --- Before and after ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difference", "better", "loss"),
    [
        (-0.2, True, 0.2),
        (0.2, True, 0.0),
        (0.2, False, 0.2),
        (-0.2, False, 0.0),
        (-0.2, None, 0.0),
        (math.nan, True, 0.0),
    ],
)
def test_a_loss_is_a_change_in_the_bad_direction(
    difference: float, better: bool | None, loss: float
) -> None:
    assert line(compared=compared(difference, better)).loss == loss
    assert line().loss == 0.0


@pytest.mark.parametrize(
    ("word", "tone"),
    [
        (Word.WORSE, "bad"),
        (Word.BETTER, "good"),
        (Word.LOWER, "moved"),
        (Word.HIGHER, "moved"),
        (Word.NOT_COMPARABLE, ""),
    ],
)
def test_tones(word: Word, tone: str) -> None:
    own = line(compared=compared(0.1, word=word))
    assert (own.tone, own.word) == (tone, word.value)
    assert (line().tone, line().word) == ("", "")


def test_what_was_not_seen_could_be_chance_unless_a_bound_decided_it() -> None:
    unseen = compared(-0.2, word=Word.UNSEEN)
    assert line(compared=replace(unseen, low=-0.4, high=0.1)).certainty == "could be chance"
    assert (
        line(compared=replace(unseen, low=-0.4, high=-0.1)).certainty
        == "could be chance among so many"
    )
    assert line(own=verdict("fail"), compared=unseen).certainty == "worse"
    gained = compared(0.2, word=Word.UNSEEN)
    assert line(own=verdict("fail"), compared=gained).certainty.startswith("could be chance")
    assert line(compared=compared(0.0, word=Word.UNSEEN)).certainty == "no change seen"
    assert line(compared=compared(-0.2, word=Word.WORSE)).certainty == "worse"
    assert line().certainty == ""


def test_a_model_is_named_where_there_are_several() -> None:
    one = line(measurement("accuracy"))
    assert (one.whose, one.spaces) == ("", ("accuracy", "clean"))
    several = replace(one, several=True)
    assert (several.whose, several.spaces) == (" (m)", ("accuracy", "clean (m)"))


def test_values_are_those_on_the_samples_that_both_runs_have() -> None:
    after = measurement(share=0.75)
    alone = line(after)
    assert (alone.before, alone.after, alone.change_text) == (None, 0.75, "")
    whole = line(after, compared=compared(0.25, after=after, low=0.1, high=0.4))
    assert (whole.before, whole.after) == (0.5, 0.75)
    assert whole.change_text == "+0.25 [+0.1, +0.4]"
    assert line(compared=compared(math.nan)).change_text == ""
    change: Any = Change.__new__(Change)
    for name, value in (("before", 0.4), ("after", 0.6)):
        object.__setattr__(change, name, value)
    part = line(after, compared=compared(0.2, after=after, change=change))
    assert (part.before, part.after) == (0.4, 0.6)
    object.__setattr__(change, "before", math.nan)
    assert part.before is None


def test_what_a_line_is_called() -> None:
    assert line().status == "unbounded"
    assert not line().failed
    assert line(own=verdict("fail")).failed
    assert line(own=verdict("inconclusive")).status == "inconclusive"
    assert line().meaning
    assert line(measurement("nobody_knows")).meaning == ""
    assert line(measurement("accuracy", FOG)).spaces[0] == "accuracy"


# --- The command -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "model", "command"),
    [
        ({"profile": "quick"}, "m", "pytest t.py::t --clip-model=m --clip-profile=quick"),
        (
            {"profile": "standard", "sources": {"m": "ViT-B-32/openai"}},
            "m",
            "pytest t.py::t --clip-model=m=ViT-B-32/openai",
        ),
        (
            {"data": "/a b", "seed": 3, "limit": 40, "depth": "d", "lmm": "l", "against": "x"},
            "m",
            "pytest t.py::t --clip-model=m '--clip-data=/a b' --clip-limit=40 --clip-seed=3 "
            "--clip-depth=d --clip-lmm=l --clip-against=x",
        ),
        (
            {"data": "embedded", "seed": 0, "limit": None, "pretrained": "p", "activation": "gelu"},
            "m",
            "pytest t.py::t --clip-model=m --clip-pretrained=p --clip-activation=gelu",
        ),
    ],
)
def test_the_command_has_what_is_not_usual(
    config: dict[str, Any], model: str, command: str
) -> None:
    assert facts.command_of("t.py::t", {"config": config}, model) == command


def test_without_test_or_configuration_there_is_no_command() -> None:
    assert facts.command_of("", {"config": {"seed": 1}}, "m") == ""
    assert facts.command_of("t", {"config": {}}, "m") == ""
    assert facts.command_of("t", {}, "m") == ""


# --- The top ---------------------------------------------------------------------------------------


def ended(status: int = 0, *, complete: bool = True, because: tuple[str, ...] = ()) -> Earlier:
    one = whole()
    told = {"exit_status": status, "complete": complete, "because": list(because)}
    return replace(one, header={**one.header, **told})


@cache
def whole() -> Earlier:
    return head(fails=False)


WAIVER = Waived("t.toml:9", "a reason", "me", "2099-01-01")


def test_a_run_with_a_missed_bound_is_not_shipped() -> None:
    missed = verdict("fail", missed_by=0.2)
    lines = [line(own=verdict("fail", missed_by=0.1)), line(own=verdict()), line()]
    lines.append(line(measurement("accuracy", FOG), missed))
    found = facts.headline_of(ended(1), lines)
    assert (found.tone, found.word) == ("bad", "Do not ship")
    # Clean accuracy is named first, however much more another has lost.
    assert found.worst is lines[0]
    assert found.sentence == "Accuracy on clean: why. 2 of 3 bounds fail."
    assert facts.headline_of(ended(1), lines[1:]).worst is lines[3]


@pytest.mark.parametrize("kind", ["max_decrease", "max_increase"])
def test_a_loss_is_told_with_its_interval(kind: Any) -> None:
    values = {"value": 0.2, "low": 0.11, "high": 0.31, "limit": 0.03, "kind": kind}
    own = line(own=verdict("fail", **values), compared=compared(-0.2))
    verb = "fell" if kind == "max_decrease" else "rose"
    assert facts.headline_of(ended(1), [own]).sentence == (
        f"Accuracy on clean {verb} by 0.2 [0.11, 0.31], from 0.5 to 0.5; a margin of 0.03 was allowed. "
        "1 of 1 bounds fail."
    )
    # Without the earlier run, or a number, it is the bound's own sentence.
    for other in (
        line(own=verdict("fail", **values)),
        line(own=verdict("fail", **{**values, "value": math.nan}), compared=compared(-0.2)),
        line(own=verdict("fail", **{**values, "kind": "min"}), compared=compared(-0.2)),
    ):
        assert facts.headline_of(ended(1), [other]).sentence.startswith("Accuracy on clean: why.")


@pytest.mark.parametrize(
    ("end", "word", "sentence"),
    [
        ({"status": 1}, "Do not ship", "A test failed for another reason than a bound."),
        ({"status": 6, "because": ("a", "b")}, "Not decided", "b"),
        ({"status": 6}, "Not decided", "The run ended with exit code 6."),
        ({"complete": False}, "Not decided", "The run ended with exit code 0."),
        ({}, "Ship", "No bound is missed: 1 of 1 are met."),
    ],
)
def test_how_a_run_ended_without_a_missed_bound(
    end: dict[str, Any], word: str, sentence: str
) -> None:
    found = facts.headline_of(ended(**end), [line(own=verdict()), line()])
    assert (found.word, found.sentence) == (word, sentence)
    assert found.tone == {"Do not ship": "bad", "Ship": "good"}.get(word, "unsure")


def test_a_run_without_a_bound_gates_nothing() -> None:
    found = facts.headline_of(ended(), [line()])
    assert (found.tone, found.word) == ("unsure", "No gate")
    told = "No bound judged any of these figures, so this run gates nothing."
    assert (found.sentence, found.worst) == (told, None)
    worse = [
        line(
            measurement("accuracy", FOG),
            compared=compared(loss, word=Word.WORSE, low=loss, high=loss),
        )
        for loss in (-0.1, -0.3)
    ]
    first = facts.headline_of(ended(), worse[:1])
    assert first.sentence == (
        f"{told} 1 of them is worse than in the earlier run: accuracy on clean, fog_3d at severity 3 by "
        "−0.1 [−0.1, −0.1]."
    )
    both = facts.headline_of(ended(), worse)
    assert both.sentence.startswith(f"{told} 2 of them are worse than in the earlier run: ")
    assert both.sentence.endswith(" by −0.3 [−0.3, −0.3].")
    assert both.worst is worse[1]


def test_what_is_open_and_what_is_waived_is_counted() -> None:
    lines = [line(own=verdict()), line(own=verdict()), line(own=verdict("inconclusive"))]
    found = facts.headline_of(ended(), lines)
    assert (found.word, found.sentence) == (
        *("Ship", "No bound is missed: 2 of 3 are met, 1 cannot be decided on so few samples."),
    )
    waived = verdict("waived", waiver=WAIVER, missed_by=0.1)
    lines += [line(own=waived), line(measurement("accuracy", FOG), waived)]
    found = facts.headline_of(ended(), lines)
    assert (found.tone, found.word) == ("unsure", "Ship with 1 waiver")
    assert found.worst is lines[3]
    assert found.sentence == (
        "No bound is missed without a waiver: 2 of 5 are met, 2 missed under a waiver, 1 cannot be decided "
        "on so few samples."
    )
    other = verdict("waived", waiver=replace(WAIVER, where="t.toml:12"))
    found = facts.headline_of(ended(), [*lines, line(own=other)])
    assert found.word == "Ship with 2 waivers"


def test_of_losses_those_without_a_unit_are_named_first() -> None:
    small = line(measurement("a", FOG), verdict("fail", missed_by=0.1))
    large = line(measurement("b", FOG), verdict("fail", missed_by=0.01), compared(-0.3))
    nats = line(measurement("nll", FOG, unit="nats"), verdict("fail", missed_by=7.0))
    assert facts.headline_of(ended(1), [small, nats]).worst is small
    assert facts.headline_of(ended(1), [small, large, nats]).worst is large
    assert facts.headline_of(ended(1), [nats]).worst is nats


def test_a_figure_that_is_no_number_is_named_before_any_loss_but_that_of_clean_accuracy() -> None:
    lost = line(measurement("a", FOG), verdict("fail", missed_by=0.4))
    nan = line(measurement("nll", FOG, unit="nats"), verdict("fail", value=math.nan))
    clean = line(own=verdict("fail", missed_by=0.01))
    assert facts.headline_of(ended(1), [lost, nan]).worst is nan
    assert facts.headline_of(ended(1), [lost, nan, clean]).worst is clean
    # A figure that nothing bounds, where the policy asks for a bound, is a number all the same.
    unbounded = line(measurement("b", FOG), verdict("unbounded", "fail", kind=None, limit=None))
    assert facts.headline_of(ended(1), [lost, unbounded]).worst is lost


def test_counts() -> None:
    lines = [
        line(own=verdict("fail")),
        line(own=verdict("pass", "fail")),  # as the policy has it
        line(own=verdict()),
        line(compared=compared(0.1, word=Word.WORSE)),
        line(own=verdict("waived"), compared=compared(0.1, word=Word.WORSE)),
    ]
    assert facts.counts_of(lines) == {
        "fail": 2,
        "pass": 1,
        "unbounded": 1,
        "waived": 1,
        f"change: {Word.WORSE.value}": 2,
    }


def test_lines_stand_in_the_order_of_what_must_be_looked_at() -> None:
    mine = head()
    lines = facts.lines_of(mine, compare(base(), mine))
    assert len(lines) == len(mine.measurements)
    assert lines[0].failed
    assert not any(one.failed for one in lines[1:])
    rest = [(bool(one.measurement.figure.unit), -one.loss) for one in lines[1:]]
    assert rest == sorted(rest)
    assert lines[0].evidence[0][0] == "seen"
    assert lines[0].reproduction == "cliprobust perturb"
    assert lines[0].command.startswith("pytest test_accuracy.py::test_it --clip-model=mine")
    alone = facts.lines_of(mine, None)
    assert [one.compared for one in alone] == [None] * len(lines)
    assert [one.key for one in alone[1:]] == sorted(one.key for one in alone[1:])


def test_of_what_failed_the_first_is_no_number_and_without_an_earlier_run_the_most_missed() -> None:
    mine = head(fails=False)
    keys = sorted(mine.verdicts)
    no_number, less, more, open_ = keys[3], keys[0], keys[2], keys[1]
    own = {
        no_number: verdict("fail", value=math.nan, key=no_number),
        less: verdict("fail", missed_by=0.1, key=less),
        more: verdict("fail", missed_by=0.2, key=more),
        # It fails by the policy; what decides beyond doubt comes first.
        open_: verdict("inconclusive", "fail", missed_by=0.3, key=open_),
    }
    told = {**mine.verdicts, **{key: one.as_dict() for key, one in own.items()}}
    mine = replace(mine, verdicts=told)
    lines = facts.lines_of(mine, None)
    assert [one.key for one in lines[:4]] == [no_number, more, less, open_]
    lost = compare(base(), mine)
    losses = {one.key: one.loss for one in facts.lines_of(mine, lost)[:4]}
    assert next(iter(losses)) == no_number
    assert losses[no_number] < max(losses.values())


def test_a_verdict_of_another_version_is_none() -> None:
    mine = head()
    key = next(iter(mine.verdicts))
    for told in ({}, {"status": "fail"}):
        other = replace(mine, verdicts={**mine.verdicts, key: told})
        (own,) = (one for one in facts.lines_of(other, None) if one.key == key)
        assert own.verdict is None


# --- Classes ---------------------------------------------------------------------------------------


def answered(label: list[int], top: list[int]) -> tuple[tuple[str, Any], ...]:
    names = [chr(ord("a") + n) for n in range(12)]
    told = {"names": names, "label": label, "top": top, "probability": [0.5] * len(label)}
    return (("answers", told),)


def test_what_is_most_often_taken_for_what() -> None:
    label = [0, 0, 0, 1, 1, 2, -1]
    top = [1, 1, 0, 0, 1, 0, 1]
    found = facts.confusions_of(line(measurement(details=answered(label, top))))
    assert found == (("a", "b", 2), ("b", "a", 1), ("c", "a", 1))
    label, top = list(range(10)), [(n + 1) % 10 for n in range(10)]
    found = facts.confusions_of(line(measurement(details=answered(label, top))))
    assert len(found) == 8
    assert facts.confusions_of(line()) == ()


def of_classes(before: list[bool], now: list[bool], label: list[int], top: list[int]) -> Compared:
    """Return a comparison of clean accuracy on 20 samples, right before and now as said."""

    def one(right: list[bool], details: tuple[tuple[str, Any], ...] = ()) -> Measurement:
        figure = proportion_figure("accuracy", np.array(right), Bootstrap(replicates=10, keys=KEYS))
        figure = replace(figure, details={**figure.details, **dict(details)})
        return Measurement("s", "m", figure.measured_on(CLEAN))

    return Compared(one(before), one(now, answered(label, top)), True, "paired")


def test_which_classes_lost_most_and_what_they_are_taken_for() -> None:
    # Two pictures of each of ten classes; "a" loses both, "b" one and gains none, "c" loses and gains one.
    label = [n // 2 for n in range(20)]
    before = [True] * 20
    now = [True] * 20
    now[0] = now[1] = now[2] = now[4] = False
    before[5] = False
    top = list(label)
    top[0], top[1], top[2], top[4] = 3, 4, 0, 3
    row = of_classes(before, now, label, top)
    found = facts.class_losses([line(), line(row.head, compared=row)])
    assert found == (
        facts.ClassLoss("a", 2, 0, 2, (("d", 1), ("e", 1))),
        facts.ClassLoss("b", 1, 0, 2, (("a", 1),)),
        facts.ClassLoss("c", 1, 1, 2, (("d", 1),)),
    )
    every = of_classes([True] * 20, [False] * 20, label, [(n + 1) % 10 for n in label])
    found = facts.class_losses([line(every.head, compared=every)])
    assert [one.name for one in found] == list("abcdefgh")
    # Samples behind the answers that were kept, or of no class, are left out.
    row = of_classes([True] * 20, [False] * 20, [-1, 0, 0, 0, 0, 0], [1, 1, 2, 3, 4, 4])
    (loss,) = facts.class_losses([line(row.head, compared=row)])
    assert (loss.name, loss.lost, loss.n) == ("a", 5, 5)
    assert loss.taken_for == (("e", 2), ("b", 1), ("c", 1))
    assert facts.class_losses([line()]) == ()


def test_clean_accuracy_is_that_of_all_clean_pictures() -> None:
    assert facts.is_clean_accuracy(measurement())
    for other in (
        measurement("ece"),
        measurement("accuracy", FOG),
        measurement("accuracy", Condition("shift")),
    ):
        assert not facts.is_clean_accuracy(other)
    mine = head()
    assert facts.clean_accuracies(mine) == ["accuracy/accuracy/clean/clean/mine"]


def test_an_answer_in_words() -> None:
    assert facts.answer_text(Answer("dog", "wolf", 0.4149), False) == "wolf (0.41)"
    assert facts.answer_text(None, True) == "right"
    assert facts.answer_text(None, False) == "wrong"


def test_what_was_under_test() -> None:
    mine, before = head(), base()
    told = dict(facts.provenance_lines(mine, compare(before, mine)))
    assert told["model mine"] == "ViT, weights cd34cd34cd34cd34, cpu, precision fp32"
    assert told["data"] == "embedded, profile quick, seed 0"
    assert told["threshold file"] == "none"
    assert told["compared with"] == before.source
    assert told["its weights, old"] == "cd34cd34cd34cd34"
    assert told["ran"].endswith("Python 3.11, torch 2.10")
    config = {**mine.header["config"], "limit": 40}
    short = dict(
        facts.provenance_lines(replace(mine, header={**mine.header, "config": config}), None)
    )
    assert short["data"] == "embedded, profile quick, at most 40 samples, seed 0"
    assert "compared with" not in short
