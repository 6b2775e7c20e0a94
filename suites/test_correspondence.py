"""3D awareness (Probe3D, El Banani et al. 2024): do patches of one place match between two views of it?

Patch features of one view go to their nearest neighbours in the other, by cosine. A model that gives no patch
features is not run. See docs/properties.md.
"""

from __future__ import annotations

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.plugin.gate import Gate
from pytest_cliprobust.properties import correspondence as properties
from pytest_cliprobust.search.matches import explained
from pytest_cliprobust.targets.base import Layer

SECTION = "3D awareness", 3
LAYERS: dict[str, Layer] = {"last": -1, "second_to_last": -2, "values": "values"}
FEW = ["last", "second_to_last"]
NAMES = {"quick": FEW, "standard": FEW, "full": list(LAYERS)}


def test_views(clip: Evaluation, gate: Gate, correspondence: str, name: str) -> None:
    """Recall within some pixels of the truth, over all pairs and by change of viewpoint."""
    view, layer = clip.on(correspondence), LAYERS[name]
    for part in properties.parts_of(view, layer):
        gate(part.figures, explain=explained(clip, view, layer, part.rows))


def test_keypoints(clip: Evaluation, gate: Gate, semantic_correspondence: str) -> None:
    """PCK@0.1 between two things of a class (SPair-71k), and by the levels that the data names.

    A level with pairs of one picture alone is left out: nothing is known of how they differ.
    """
    view = clip.on(semantic_correspondence)
    parts = [
        view.where(column, value) for column in view.subgroups for value in view.values(column)
    ]
    parts = [part for part in parts if len(set(part.units)) > 1]
    gate(map(properties.pck_of, [view, *parts]), explain=explained(clip, view))
