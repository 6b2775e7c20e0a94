"""``cliprobust matches``: two views side by side, and which places of them a model matches."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_cliprobust.errors import ClipRobustError, did_you_mean, one_line

if TYPE_CHECKING:
    from pytest_cliprobust.targets.base import Layer

HELP = "draw which places a model matches between two views"
DESCRIPTION = (
    "Draws pairs of views side by side, with lines between the places whose patch features match: right ones "
    "and wrong ones in different colours, and a ring where a wrongly matched place really is. Without "
    "--sample the three worst pairs and three typical ones."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust matches``."""
    parser.add_argument("--clip-model", required=True, metavar="MODEL", help="as for pytest")
    parser.add_argument("--clip-pretrained", metavar="TAG", help="as for pytest")
    parser.add_argument(
        "--clip-data",
        default="two_view",
        metavar="DATA",
        help="a data set of pairs (default: the embedded two_view)",
    )
    parser.add_argument(
        "--clip-profile", default="quick", metavar="PROFILE", help="how many pairs (default: quick)"
    )
    parser.add_argument("--clip-cache-dir", type=Path, metavar="DIR", help="as for pytest")
    parser.add_argument(
        "--layer",
        default="-1",
        help="a block of the image tower (0 the first, -1 the last, the default), or values",
    )
    parser.add_argument(
        "--sample", action="append", default=[], metavar="ID", help="a pair to draw"
    )
    parser.add_argument(
        "--within",
        type=float,
        help="distance at which a match is right (default: the data's middle one)",
    )
    parser.add_argument("--out", type=Path, default=Path("matches.png"), metavar="FILE.png")


def run(options: argparse.Namespace) -> int:
    """Write the picture.

    Raises:
        ClipRobustError: no such model, data, layer or pair, or the picture cannot be written.
    """
    from pytest_cliprobust.engine.config import RunConfig
    from pytest_cliprobust.engine.evaluation import Evaluation
    from pytest_cliprobust.search import matches
    from pytest_cliprobust.search.evidence import save_picture

    layer = _layer(options.layer)
    clip = Evaluation(
        RunConfig(
            models=(options.clip_model,),
            pretrained=options.clip_pretrained,
            cache_dir=options.clip_cache_dir,
            profile=options.clip_profile,
        ),
        options.clip_model,
    )
    view = clip.on(options.clip_data)
    for word in options.sample:
        if word not in view.ids:
            raise ClipRobustError(
                f"--sample {word}: {view.condition} has no such pair.{did_you_mean(word, view.ids)} "
                f"Its ids look like {view.ids[0]!r}"
            )
    view.matches(layer)
    within = matches.middle_limit(view) if options.within is None else options.within
    rows = [view.ids.index(word) for word in options.sample] or matches.worst_pairs(
        view, layer, within
    )
    path = save_picture(matches.draw_pairs(view, rows, layer, within), options.out)
    for row in rows:
        print(one_line(f"{view.ids[row]}: {matches.described(view, row, layer, within)}"))
    print(f"written to {path}")
    return 0


def _layer(word: str) -> Layer:
    """Return what ``--layer`` means.

    Raises:
        ClipRobustError: neither a number nor ``values``.
    """
    if word == "values":
        return "values"
    try:
        return int(word)
    except ValueError:
        raise ClipRobustError(f"--layer {word}: give the number of a block, or values") from None
