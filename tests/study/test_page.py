"""A study as a page: the words and numbers of its tables."""

from __future__ import annotations

import html
import math
import re
from dataclasses import replace

import pytest
from scipy.special import expit
from study_helpers import ACCURACY, BASE, FLEET, a_run

from pytest_cliprobust.study import page
from pytest_cliprobust.study.effects import Column, Effect, Spread
from pytest_cliprobust.study.making import Property, Study, study_of

NLL = "calibration/nll/clean/clean"
PLACES = dict(zip(FLEET, (0.0, 0.1, -0.1, 1.0, -0.5, 0.3, 0.2, 0.6), strict=True))


def a_study(**more: dict[str, float]) -> Study:
    values = {
        name: {ACCURACY: float(expit(place)), NLL: 1.0 + place} | more.get(name, {})
        for name, place in PLACES.items()
    }
    return study_of([a_run(values, FLEET)])


def item_of(study: Study, key: str) -> Property:
    return next(item for item in study.properties if item.key == key)


def test_an_effect_in_words() -> None:
    nll = item_of(a_study(), NLL)
    column = Column("loss", "sigmoid", "softmax")
    clear = Effect(column, 0.25, 0.125, 0.5)
    assert page._text(nll, clear) == ("+0.25 [+0.125, +0.5]", True)
    assert page._text(nll, Effect(column, -0.25, -0.5, 0.0))[1] is False
    assert page._text(nll, Effect(column, 0.25, 0.0, 0.5))[1] is False
    assert page._text(nll, Effect(column, -0.25, -0.5, -0.125))[1] is True
    assert page._text(nll, Effect(column, 0.25, why="few")) == ("+0.25 (few)", False)
    assert page._text(nll, Effect(column, math.nan, why="as <c>")) == ("as <c>", False)
    assert page._cell(nll, clear) == "<td class=clear>+0.25 [+0.125, +0.5]</td>"
    assert page._cell(nll, Effect(column, math.nan, why="as <c>")) == "<td>as &lt;c&gt;</td>"
    assert page._cell(nll, None) == "<td></td>"


def test_the_spread_between_seeds_is_in_the_propertys_own_unit() -> None:
    study = a_study()
    assert page._spread(item_of(study, NLL)) == "0.1"
    # In logits a tenth about 0.5 is a fortieth.
    assert page._spread(item_of(study, ACCURACY)) == f"{expit(0.1) - 0.5:.3g}" == "0.025"
    lone = replace(item_of(study, NLL), spread=Spread(math.nan, 0))
    assert page._spread(lone) == "–"
    bare = replace(item_of(study, ACCURACY), regression=None)
    assert page._spread(bare) == "0.025"


def test_how_many_intervals_exclude_none_is_counted_by_factor() -> None:
    study = a_study()
    words = html.unescape(page._counts(study.headlines, 0.95))
    effects = [
        (effect.column.factor, effect.low > 0 or effect.high < 0)
        for item in study.headlines
        if item.regression is not None
        for effect in item.regression.effects
    ]
    clear = sum(found for factor, found in effects if factor == "architecture")
    assert f"architecture {clear} of 2, " in words
    assert "training-set size" in words
    assert page._counts([], 0.95) == ""


def test_another_level_is_told_where_it_holds() -> None:
    study = a_study()
    assert "none, 5% would be bold" in page._counts(study.headlines, 0.95)
    assert "none, 20% would be bold" in page._counts(study.headlines, 0.8)
    wide = page._notes(replace(study, confidence=0.99))
    assert "Intervals are 99% intervals for effects and lines, 95% for claims." in wide


@pytest.mark.parametrize("prompts", [False, True])
def test_each_column_has_its_cells(prompts: bool) -> None:
    study = a_study()
    if prompts:
        more = {"base": {ACCURACY: 0.6}, "vit": {ACCURACY: 0.7}}
        values = {name: {ACCURACY: float(expit(place))} for name, place in PLACES.items()}
        runs = [a_run(values, FLEET), a_run(more, FLEET, prompts=dict.fromkeys(more, "fancy"))]
        study = study_of(runs)
    made = page._effects(study)
    table = made[made.index("<table>") :]
    head, *body = re.findall("<tr>.*?</tr>", table)
    names = re.findall("<th>(.*?)</th>", head)
    assert names[0] == "property"
    assert names[-1] == "seeds"
    assert ("prompts" in names) == prompts
    assert len(names) == 1 + 5 + prompts + 1
    assert len(body) == len(study.headlines)
    assert {row.count("<td") for row in body} == {len(names)}
    no_factor = study_of([a_run({"a": {ACCURACY: 0.5}, "b": {ACCURACY: 0.6}})])
    assert page._effects(no_factor) == "<p>No factor varies among these models.</p>"


def test_lines_and_models_on_the_page() -> None:
    study = a_study()
    lines = page._lines(study)
    assert f"<td>{NLL}</td><td>linear</td><td>8</td><td>1 [1, 1]</td>" in lines
    assert "<td>1.00 [1.00, 1.00]</td>" in lines
    assert ACCURACY not in lines
    few = study_of([a_run({"a": {ACCURACY: 0.5, NLL: 1.0}, "b": {ACCURACY: 0.6, NLL: 2.0}})])
    assert page._lines(few) == "<p>Too few models for lines.</p>"
    models = page._models(study)
    assert "<td>base</td><td>ResNet</td><td>700,000</td><td>photos</td><td>1,000</td>" in models
    assert "Training sets" not in models
    facts = {"a": BASE | {"data": "LAION-2B"}, "b": BASE}
    known = page._models(study_of([a_run({name: {ACCURACY: 0.5} for name in facts}, facts)]))
    assert known.count("<li>LAION-2B: ") == 1
    assert known.count("<li>") == 1
    facts |= {"c": BASE | {"data": "WebLI"}, "d": BASE | {"data": "LAION-2B"}}
    known = page._models(study_of([a_run({name: {ACCURACY: 0.5} for name in facts}, facts)]))
    assert re.findall("<li>(.*?): ", known) == ["LAION-2B", "WebLI"]


def test_claims_stand_in_the_colour_of_their_word() -> None:
    study = a_study()
    claim = page._claim(study, 0)
    assert "<b class='not'>not measured</b>" in claim
    assert "<ul>" not in claim
    shape = "shape_bias/shape_bias/cue/clean"
    told = page._claim(a_study(base={shape: 0.5}, tuned={shape: 0.3}), 0)
    assert "<b class='supported'>supported</b>" in told
    assert told.count("<li>") == 1
    assert "Intervals are 95% intervals." in page._notes(study)


def test_an_interval_that_ends_at_none_excludes_nothing() -> None:
    study = a_study()
    item = item_of(study, NLL)
    assert item.regression is not None
    column = Column("loss", "sigmoid", "softmax")
    made = replace(
        item.regression,
        effects=(
            Effect(column, 0.25, 0.0, 0.5),
            Effect(column, -0.25, -0.5, 0.0),
            Effect(column, 0.25, 0.125, 0.5),
            Effect(column, -0.25, -0.5, -0.125),
            Effect(Column("data", "b", "a"), 0.25, -0.125, 0.5),
            Effect(Column("data", "c", "a"), 0.25, why="few"),
        ),
    )
    words = html.unescape(page._counts([replace(item, regression=made)] * 2, 0.95))
    assert "contrastive loss 4 of 8, training distribution 0 of 2;" in words
    bare = replace(made, effects=made.effects[-1:])
    assert page._counts([replace(item, regression=bare)], 0.95) == ""
    assert page._counts([replace(item, regression=None)], 0.95) == ""
