"""Drawings inside a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from report_helpers import HARM
from sklearn.metrics import roc_auc_score

from pytest_cliprobust.reporting.html import plots
from pytest_cliprobust.reporting.html.svg import COLOURS, drawing, inline
from pytest_cliprobust.reporting.separation import Separation


def made() -> list[str]:
    generator = np.random.default_rng(0)
    scores, inside = generator.normal(size=80), np.arange(80) < 40
    bins = [{"low": 0.0, "high": 1.0, "n": 3, "confidence": 0.5, "accuracy": 0.4}]
    line = plots.Line((1, 3, 5), (0.8, 0.6, 0.3), (0.7, 0.5, 0.2), (0.9, 0.7, 0.4))
    curves = Separation.of(scores, inside)
    assert curves is not None
    return [
        plots.dots([plots.Dot(HARM, 0.5, 0.4, 0.6, 0.7, "bad")], "a", HARM, zero=True),
        plots.curve(line, line, "b", HARM, across=HARM, limit=0.5, ticks=(1, 3, 5)),
        plots.reliability(bins, bins, "c", HARM),
        plots.roc(curves, curves, "d", HARM),
        plots.histogram(curves, "e", HARM),
        plots.pairs([(HARM, 0.5, 0.1)], "f", HARM),
    ]


@pytest.fixture(scope="module")
def drawn() -> list[str]:
    """One of each kind."""
    return made()


def test_names_are_text_and_nothing_else(drawn: list[str]) -> None:
    for text in drawn:
        root = ElementTree.fromstring(text)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        tags = {element.tag for element in root.iter()}
        assert tags <= {"svg", "g", "path", "use", "text", "tspan", "defs", "clipPath", "rect"}
        assert "\x1b" not in text
        plain = text.replace("https://harm.example", "")  # the name itself, as text
        assert not re.search(r"https?:|<metadata|<style|font-family", plain)


def test_colours_are_the_pages_and_ids_the_drawings_own(drawn: list[str]) -> None:
    for name, text in zip("abcdef", drawn, strict=True):
        assert "var(--head)" in text or "var(--bad)" in text
        assert not any(colour in text for colour in COLOURS.values())
        ids = re.findall(r' id="([^"]*)"', text)
        assert all(identity.startswith(f"{name}-") for identity in ids)
        assert set(re.findall(r'href="#([^"]*)"', text)) <= set(ids)


def test_the_same_drawing_is_the_same_text(drawn: list[str]) -> None:
    assert made() == drawn


def test_heavy_letters_stay_heavy() -> None:
    with drawing(2.0, 1.0) as figure:
        figure.text(0.5, 0.7, "heavy", fontweight="bold")
        figure.text(0.5, 0.3, "usual")
        text = inline(figure, "h", "two weights")
    heavy, usual = re.findall(r"<text [^>]*style=\"([^\"]*)\"", text)
    assert "font-weight: 700" in heavy.replace("bold", "700")
    assert "font-weight" not in usual


def test_tick_labels_keep_their_digits() -> None:
    line = plots.Line((0.0001, 0.0002), (0.00125, 0.00175))
    assert "0.00125" in plots.curve(line, None, "g", "small", span=None)


def test_a_roc_curve_goes_through_where_the_area_says() -> None:
    scores, inside = np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, True, False, False])
    assert roc_auc_score(inside, scores) == 1.0
    curves = Separation.of(scores, inside)
    assert curves is not None
    text = plots.roc(curves, None, "h", "perfect")
    # From the corner below on the left straight up, then along the top.
    path = re.search(r'd="(M [^"]*?)"[^>]*stroke: var\(--head\)', text)
    assert path is not None
    points = [tuple(map(float, p.split()[-2:])) for p in path[1].strip().split("\n")]
    assert points[0][0] == pytest.approx(points[1][0])
    assert points[1][1] == pytest.approx(points[-1][1])


def test_a_legend_has_no_frame() -> None:
    with drawing(3.0, 2.0) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], label="a")
        assert not figure.legend().get_frame_on()
