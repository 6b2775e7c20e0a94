"""Numbers as messages show them."""

from __future__ import annotations

import math


def format_value(value: float, width: float = 0.0, apart_from: float | None = None) -> str:
    """Return ``value`` with as many decimals as an interval of ``width`` makes meaningful.

    Two significant digits of the width, between two and six decimals; four significant digits where
    there is no width. Never rounded so far that it reads like another value ``apart_from``.
    """
    if not (math.isfinite(width) and width > 0.0):
        return f"{value:.4g}"
    decimals = min(max(1 - math.floor(math.log10(width)), 2), 6)
    text = f"{value:.{decimals}f}"
    if apart_from is not None and float(text) == apart_from != value:
        return f"{value:.12g}"
    return text.lstrip("-") if float(text) == 0.0 else text


def level_text(confidence: float) -> str:
    """``95%``, ``99.8975%``."""
    return f"{100.0 * confidence:.6g}%"


def samples_decide(n: int) -> str:
    """Return how it begins to be said what margin so many samples decide: ``1,000 samples decide``."""
    return f"{n:,} samples decide"


def rounded_up(count: int) -> str:
    """Return two significant digits, upwards: more would claim too much of an extrapolation."""
    step = 10 ** max(len(str(count)) - 2, 0)
    return f"{-(-count // step) * step:,}"
