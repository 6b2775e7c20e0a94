"""Drawings of matplotlib as SVG inside a page: its text is text, its colours are the page's.

A drawing is made in colours of its own (:data:`COLOURS`), which become the page's variables, so that one
drawing serves light and dark. Nothing in it points outside the page.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from markupsafe import Markup, escape

from pytest_cliprobust.errors import Unavailable, printable

#: By the name of the page's variable, the colour that stands for it while it is drawn.
COLOURS = {
    "ink": "#010203",
    "muted": "#020304",
    "rule": "#030405",
    "head": "#040506",
    "base": "#050607",
    "bad": "#060708",
    "good": "#070809",
    "surface": "#08090a",
    "model-1": "#090a0b",
    "model-2": "#0a0b0c",
    "model-3": "#0b0c0d",
    "model-4": "#0c0d0e",
    "model-5": "#0d0e0f",
    "model-6": "#0e0f10",
}
INK, MUTED, RULE, HEAD, BASE, BAD, GOOD, SURFACE, *MODELS = COLOURS.values()

#: Settings under which the same drawing is the same text, and ``$`` in a name is a letter.
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cliprobust",
    "text.parse_math": False,
    "font.size": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


@contextmanager
def drawing(width: float, height: float) -> Iterator[Any]:
    """Give a figure of matplotlib, in inches, that is drawn as pages want it.

    Raises:
        Unavailable: matplotlib is not there.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise Unavailable("the HTML report needs matplotlib: pip install matplotlib") from None
    with rc_context(_SETTINGS):
        yield Figure(figsize=(width, height), layout="constrained")


def inline(figure: Any, name: str, label: str) -> Markup:
    """Return a figure of matplotlib as an ``<svg>`` element, safe to stand in a page.

    Args:
        figure: what is drawn, inside :func:`drawing`.
        name: of letters and digits, and the page's only drawing of this name.
        label: what a reader is told who does not see it.
    """
    buffer = io.StringIO()
    figure.patch.set_visible(False)
    for panel in figure.axes:
        panel.patch.set_visible(False)
    with warnings.catch_warnings():
        # Letters that matplotlib's own font lacks: the reader's browser has them.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Markup(_page_text(buffer.getvalue(), name, label))


def _page_text(text: str, name: str, label: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.S)
    text = text.replace("xlink:href", "href")
    text = re.sub(r' transform="rotate\(-?0 [^"]*"', "", text)
    text = re.sub(r"<defs>\s*</defs>", "", text)
    text = re.sub(r"<svg [^>]*?viewBox=\"([^\"]*)\"[^>]*>", r'<svg viewBox="\1">', text, count=1)
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", text))

    def named(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    text = re.sub(r' id="([^"]*)"', named, text)
    text = re.sub(r"(url\(|href=\")#", rf"\g<1>#{name}-", text)
    for variable, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{variable})")
    # The page's own letters: the element takes them from the page.
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = re.sub(r"font: ((?:\w+ )?)([\d.]+px) [^;\"]*", _font, text)
    text = re.sub(r' (?:d|x|y|transform|points)="[^"]*"', _shortened, text)
    text = re.sub(r"\n\s*", "\n", text)
    said = f' role="img" aria-label="{escape(printable(label))}">'
    return printable(text.replace(">", said, 1)).strip()


def _font(match: re.Match[str]) -> str:
    weight = match[1].strip()
    return f"font-size: {match[2]}" + (f"; font-weight: {weight}" if weight else "")


def _shortened(match: re.Match[str]) -> str:
    """Return coordinates with two digits behind the point, which is a hundredth of a pixel."""
    return re.sub(r"(\.\d{2})\d+", r"\1", match[0])
