"""A study as CSV files: what stands in each cell."""

from __future__ import annotations

import csv
import io
import math

import pytest
from scipy.special import expit
from study_helpers import ACCURACY, BASE, FLEET, a_run

from pytest_cliprobust.study.making import Study, study_of
from pytest_cliprobust.study.tables import _cell, tables_of

FOG = "corruption_3d/accuracy/clean/fog_3d"
NLL = "calibration/nll/clean/clean"


def rows(study: Study, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(tables_of(study)[name])))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (math.nan, ""),
        (0.123456789, "0.123457"),
        (-0.5, "-0.5"),
        (7, "7"),
        ("a", "a"),
        ("", ""),
        *((f"{sign}x", f"'{sign}x") for sign in "=+-@"),
        ("a=b", "a=b"),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert _cell(value) == text


def a_study() -> Study:
    places = dict(zip(FLEET, (0.0, 0.1, -0.1, 1.0, -0.5, 0.3, 0.2, 0.6), strict=True))
    values = {
        name: {
            ACCURACY: float(expit(place)),
            FOG: float(expit(0.5 * place - 1.0 + 0.03 * (-1) ** number)),
            NLL: 1.0 + place**2,
        }
        for number, (name, place) in enumerate(places.items())
    }
    fancy = {name: {ACCURACY: float(expit(places[name] + 0.2))} for name in ("base", "vit")}
    prompts = dict.fromkeys(fancy, "fancy")
    return study_of([a_run(values, FLEET), a_run(fancy, FLEET, prompts=prompts)])


def test_every_row_says_what_its_numbers_are() -> None:
    study = a_study()
    figures = {(row["model"], row["property"]): row for row in rows(study, "figures.csv")}
    assert len(figures) == 3 * len(FLEET)
    assert figures["base", ACCURACY] == {
        "model": "base",
        "property": ACCURACY,
        "value": "0.5",
        "low": "0.48",
        "high": "0.52",
        "n": "1000",
        "units": "",
        "unit": "",
    }
    by_key = {item.key: item for item in study.properties}
    lines = [row for row in rows(study, "lines.csv") if row["property"] == NLL]
    item = by_key[NLL]
    assert item.line is not None
    assert [(row["factor"], row["level"]) for row in lines] == [("", ""), *item.groups]
    own = item.line
    expected = (own.intercept, own.slope, own.low, own.high, own.residual, *own.correlation)
    numbers = list(lines[0].values())[5:]
    assert [float(number) for number in numbers] == pytest.approx(expected, rel=1e-5)
    assert list(lines[0].values())[3:5] == ["linear", "8"]
    assert all(row["axis"] == "logit" for row in rows(study, "lines.csv") if row not in lines)

    effects = rows(study, "effects.csv")
    assert all(None not in row and None not in row.values() for row in effects)
    of_fog = [row for row in effects if row["property"] == FOG]
    fog = by_key[FOG]
    assert fog.regression is not None
    assert fog.beyond is not None
    told = list(zip(of_fog, fog.regression.effects, fog.beyond.effects, strict=True))
    for row, effect, beyond in told:
        assert (row["factor"], row["level"]) == (effect.column.factor, effect.column.level)
        change = fog.change(effect)
        for name, number in {
            "effect": effect.value,
            "low": effect.low,
            "high": effect.high,
            "p": effect.p,
            "change": change[0],
            "change_low": change[1],
            "change_high": change[2],
            "seed_spread": fog.spread.value,
            "seed_freedom": 2,
            "beyond": beyond.value,
            "beyond_low": beyond.low,
            "beyond_high": beyond.high,
            "residual": fog.regression.residual,
            "freedom": 2,
            "models": 8,
        }.items():
            assert float(row[name]) == pytest.approx(number, rel=1e-5), name
        assert row["why_not"] == effect.why == ""
    (prompts,) = [row for row in effects if row["factor"] == "prompts"]
    assert (prompts["property"], prompts["level"], prompts["reference"]) == (
        *(ACCURACY, "fancy", "plain"),
    )
    assert float(prompts["effect"]) == pytest.approx(0.2, rel=1e-3)
    assert (prompts["models"], prompts["beyond"], prompts["freedom"]) == ("2", "", "")
    claims = rows(study, "claims.csv")
    assert [(row["claim"], row["word"], row["why"], row["figures"]) for row in claims] == [
        (one.sentence, str(one.word), one.why, "\n".join(one.figures)) for one in study.claims
    ]


def test_what_has_no_effect_says_why() -> None:
    pair = study_of(
        [
            a_run(
                {name: {ACCURACY: 0.5 + i / 10} for i, name in enumerate("abc")},
                {"a": BASE, "b": BASE, "c": BASE | {"loss": "sigmoid", "data": "drawings"}},
            )
        ]
    )
    told = {row["factor"]: row for row in rows(pair, "effects.csv")}
    assert told["loss"]["why_not"] == (
        "confounded with training distribution: drawings instead of photos"
    )
    assert told["loss"]["effect"] == told["loss"]["beyond"] == ""
