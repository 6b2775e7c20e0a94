"""Correspondence between two views from dense features (Probe3D, El Banani et al. 2024).

Geometric: features of the same thing seen from two viewpoints are matched by nearest neighbour, the
most distinctive matches are kept (ratio test), and recall is the share of matches within a distance
of the truth, in the picture or in space, binned by viewpoint change. Semantic: keypoints of one object are
matched into another of its class; PCK is the share within a fraction of the object's bounding box.

Coordinates are (x, y) in pixels of the image with pixel *centres* at half-integers: the image spans
[0, W] × [0, H], and patch (i, j) of an h × w grid is centred at ((j + 0.5)·W/w, (i + 0.5)·H/h).
Probe3D's SPair code takes a patch's index over the grid size, its corner, as the match's position;
ours is the centre, which differs by half a patch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import (
    Floats,
    Ints,
    as_labels,
    as_vector,
    on_grid,
    same_samples,
)
from pytest_cliprobust.figures.bootstrap import DEFAULT, Bootstrap, mean_figure
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.means import codes_of, group_values, quotient_values, ratio_values
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.outcomes import Outcomes, quotient, ratio, sums
from pytest_cliprobust.figures.samples import Samples
from pytest_cliprobust.figures.taken import takes_samples
from pytest_cliprobust.targets.layers import LAST, Layer

if TYPE_CHECKING:
    from pytest_cliprobust.datasets.base import Links

#: Pixel thresholds of NAVI, and of ScanNet (at a quarter of its resolution), in Probe3D.
NAVI_PIXELS = (5.0, 25.0, 50.0)
SCANNET_PIXELS = (5.0, 10.0, 20.0)
_PIXELS = {f"{limit:g}": f"{limit:g}" for limit in sorted({*NAVI_PIXELS, *SCANNET_PIXELS})}
#: Thresholds in space of NAVI in Probe3D, in centimetres; and of larger things.
NAVI_CENTIMETRES = (1.0, 2.0, 5.0)
_CENTIMETRES = {f"{limit:g}": f"{limit:g}" for limit in (*NAVI_CENTIMETRES, 10.0, 20.0)}
#: Edges in degrees of the viewpoint-change bins of NAVI in Probe3D.
NAVI_ANGLES = (0.0, 30.0, 60.0, 90.0, 120.0)
#: Raise it when the matches of the same features change.
VERSION = 4
#: Matches kept per pair of views (NAVI, ScanNet), and SPair-71k's PCK threshold.
MATCHES = 1000
PCK_ALPHA = 0.1

_CHUNK = 4_000_000


def _dense(features: ArrayLike, what: str) -> Floats:
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 3 or array.size == 0 or not np.isfinite(array).all():
        raise ClipRobustError(
            f"{what}: dense features must be finite, of shape (C, h, w), got {array.shape}."
        )
    return array


def _points(points: ArrayLike, what: str) -> Floats:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array) or not np.isfinite(array).all():
        raise ClipRobustError(f"{what} must be finite points of shape (P, 2), got {array.shape}.")
    return array


def sample_features(features: ArrayLike, points: ArrayLike, image_size: tuple[int, int]) -> Floats:
    """Return unit feature vectors (P, C) at ``points``, bilinear between patch centres.

    Points beyond the outermost patch centres take the border's features. (Probe3D samples ScanNet
    bilinearly too, and upsamples NAVI's feature maps bicubically.)

    Args:
        features: (C, h, w).
        points: (P, 2) as (x, y) in pixels, see the module's docstring.
        image_size: (H, W) in pixels of the image that the features came from.

    Raises:
        ClipRobustError: broken features or points.
    """
    dense, where = _dense(features, "features"), _points(points, "points")
    _, h, w = dense.shape
    x = np.clip(where[:, 0] / image_size[1] * w - 0.5, 0.0, w - 1.0)
    y = np.clip(where[:, 1] / image_size[0] * h - 0.5, 0.0, h - 1.0)
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, bottom = np.minimum(left + 1, w - 1), np.minimum(top + 1, h - 1)
    fx, fy = x - left, y - top
    sampled = (
        dense[:, top, left] * ((1 - fx) * (1 - fy))
        + dense[:, top, right] * (fx * (1 - fy))
        + dense[:, bottom, left] * ((1 - fx) * fy)
        + dense[:, bottom, right] * (fx * fy)
    ).T
    return _normalised(sampled)


def _normalised(vectors: Floats) -> Floats:
    # A zero vector (dead features) has no direction and matches nothing in particular: left zero.
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0), dtype=np.float64)


def patch_centres(grid: tuple[int, int], image_size: tuple[int, int]) -> Floats:
    """Return the centres (h·w, 2) as (x, y) in pixels of an (h, w) grid of patches, row by row."""
    h, w = grid
    x = (np.arange(w) + 0.5) * image_size[1] / w
    y = (np.arange(h) + 0.5) * image_size[0] / h
    return np.stack([np.tile(x, h), np.repeat(y, w)], axis=1).astype(np.float64)


@dataclass(frozen=True)
class Matches:
    """Nearest-neighbour matches, the most distinctive first.

    Attributes:
        source, target: (K,) indices into the points of the first and of the second view.
        weight: (K,) 1 - d1/d2 in [0, 1] of the ratio test (Lowe 2004) on cosine distances.
    """

    source: Ints
    target: Ints
    weight: Floats


def match_features(first: ArrayLike, second: ArrayLike, *, keep: int = MATCHES) -> Matches:
    """Match each unit feature (P, C) of the first view to its nearest one (Q, C) in the second.

    Cosine distance; the ``keep`` matches with the largest ratio-test weight are returned (all if
    there are fewer). Equal distances go to the first point, equal weights to the first match.

    Raises:
        ClipRobustError: fewer than two points in the second view, or different widths.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not len(a) or len(b) < 2:
        raise ClipRobustError(
            f"matching needs features (P, C) and (Q, C), P >= 1 and Q >= 2, got {a.shape} and "
            f"{b.shape}."
        )
    # Products that round would set equal distances apart, otherwise with another number of threads.
    a, b = on_grid(a), on_grid(b)
    nearest = np.empty(len(a), dtype=np.int64)
    weight = np.empty(len(a))
    step = max(1, _CHUNK // len(b))
    for start in range(0, len(a), step):
        similarity = a[start : start + step] @ b.T
        rows = np.arange(len(similarity))
        best = similarity.argmax(axis=1)
        nearest[start : start + step] = best
        one = np.maximum(1.0 - similarity[rows, best], 1e-9)
        similarity[rows, best] = -np.inf
        two = np.maximum(1.0 - similarity.max(axis=1), 1e-9)
        weight[start : start + step] = 1.0 - one / two
    order = np.argsort(-weight, kind="stable")[:keep]
    return Matches(order.astype(np.int64), nearest[order], weight[order])


def _checked(
    second: ArrayLike,
    points: ArrayLike,
    truth: ArrayLike,
    image_size: tuple[int, int],
    candidates: ArrayLike | None,
) -> tuple[Floats, Floats, Floats]:
    """Return points, true positions and candidates: the second view's patch centres if none are given."""
    where, right = _points(points, "points"), _points(truth, "true positions")
    same_samples("correspondence", where, right)
    if candidates is not None:
        return where, right, _points(candidates, "candidates")
    grid = _dense(second, "features").shape[1:]
    return where, right, patch_centres((grid[0], grid[1]), image_size)


#: The columns of :func:`match_pair`'s rows before those of chance.
COLUMNS = ("x", "y", "found_x", "found_y", "true_x", "true_y", "weight", "scale", "away_cm")


def match_pair(
    first: ArrayLike,
    second: ArrayLike,
    links: Links,
    image_size: tuple[int, int],
    limits: Sequence[float],
    limits_cm: Sequence[float] = (),
    *,
    keep: int = MATCHES,
) -> Floats:
    """Return the matches of a pair as rows (K, 9 + T), the most distinctive first.

    The columns are :data:`COLUMNS`, then for each of the T limits, those in space last, the share of the
    candidates that lie within it of the truth: what matching at random would reach. ``away_cm`` is the
    distance in space of the surface that was matched from the right one; infinite without ``limits_cm``.

    Args:
        first, second: (C, h, w) dense features of the two pictures.
        links: what corresponds.
        image_size: (H, W) of both pictures, in whose pixels the places are.
        limits: thresholds, in pixels over ``links.scale``.
        limits_cm: thresholds in space, in centimetres; () where places in space are not known.
        keep: matches kept.

    Raises:
        ClipRobustError: broken features or places, a scale that is not positive, or thresholds in space for
            links without places in it.
    """
    if not links.scale > 0:
        raise ClipRobustError(f"distances cannot be divided by a scale of {links.scale}")
    where, right, places = _checked(second, links.points, links.truth, image_size, links.candidates)
    matches = match_features(
        sample_features(first, where, image_size),
        sample_features(second, places, image_size),
        keep=keep,
    )
    own = right[matches.source]
    scale = np.full((len(own), 1), links.scale)
    chance = [_near(own, places, np.array(limits) * links.scale)]
    away = np.full((len(own), 1), np.inf)
    if limits_cm:
        surface, surfaces = _in_space(links, len(where), len(places))
        surface = surface[matches.source]
        away = np.linalg.norm(surfaces[matches.target] - surface, axis=1, keepdims=True)
        chance.append(_near(surface, surfaces, np.array(limits_cm)))
    columns = (where[matches.source], places[matches.target], own, matches.weight[:, None], scale)
    return np.concatenate([*columns, away, *chance], axis=1)


def _near(places: Floats, candidates: Floats, limits: Floats) -> Floats:
    """Return the shares (K, T) of the candidates (Q, D) less than each limit away from each place (K, D).

    In blocks: of a view of a room there are twenty thousand candidates.
    """
    step = max(1, _CHUNK // len(candidates))
    shares = np.empty((len(places), len(limits)))
    for start in range(0, len(places), step):
        apart = np.linalg.norm(candidates[None] - places[start : start + step, None], axis=2)
        for column, limit in enumerate(limits):
            shares[start : start + step, column] = (apart < limit).mean(axis=1)
    return shares


def _in_space(links: Links, points: int, candidates: int) -> tuple[Floats, Floats]:
    """Return the places in space (P, 3) of the points and (Q, 3) of the candidates, in centimetres."""
    parts = []
    for places, count in ((links.truth_3d, points), (links.candidates_3d, candidates)):
        array = np.asarray(() if places is None else places, dtype=np.float64)
        if array.shape != (count, 3) or not np.isfinite(array).all():
            raise ClipRobustError(
                f"thresholds in centimetres need finite places in space of shape ({count}, 3) for points and "
                f"candidates alike, got {array.shape}"
            )
        parts.append(100.0 * array)
    return parts[0], parts[1]


def errors_of(rows: ArrayLike) -> Floats:
    """Return the error (K,) of each row of :func:`match_pair`: its distance from the truth over the scale."""
    matches = np.asarray(rows, dtype=np.float64)
    away = np.linalg.norm(matches[:, 2:4] - matches[:, 4:6], axis=1)
    return np.asarray(away / matches[:, 7], dtype=np.float64)


def errors_in_space_of(rows: ArrayLike) -> Floats:
    """Return the error (K,) in space of each row of :func:`match_pair`, in centimetres."""
    return np.asarray(rows, dtype=np.float64)[:, COLUMNS.index("away_cm")]


class Pairs(Samples, Protocol):
    """Samples that are pairs of pictures, matched by a model."""

    @property
    def limits(self) -> tuple[float, ...]:
        """(T,) distances within which a match is right."""
        ...

    @property
    def limits_cm(self) -> tuple[float, ...]:
        """(S,) distances in space, in centimetres, within which a match is right; () where not known."""
        ...

    @property
    def angle_edges(self) -> tuple[float, ...]:
        """Ascending edges in degrees of the bins of viewpoint change; () for none."""
        ...

    def matches(self, layer: Layer = LAST) -> Sequence[Floats]:
        """Return for each pair its rows of :func:`match_pair`."""
        ...


@dataclass(frozen=True)
class Part:
    """Recall of some of the pairs.

    Attributes:
        rows: (K,) where those pairs stand.
        figures: one for each limit of the data, in pixels and in space.
    """

    rows: Ints
    figures: list[Figure]


@takes_samples
def parts_of(pairs: Pairs, layer: Layer = LAST) -> Iterator[Part]:
    """Yield the recall of matches between two views, of all pairs and then by change of viewpoint.

    Each bin of viewpoint change is measured on a part of its own, ``10-20deg``; of another layer than the
    last, ``block-2`` or ``values`` comes before that. A bin whose pairs are all of one unit, such as one
    drawing, is left out: nothing is known of how they differ. The details of a figure hold the recall of
    matching at random as ``chance``.

    Args:
        pairs: with the column ``angle`` where the data knows the change of viewpoint.
        layer: of the model's image tower.

    Raises:
        NotRun: the model has no such features, or the samples are no pairs.
    """
    matches = pairs.matches(layer)
    condition = _condition(pairs, layer)
    angles = np.array([float(a) for a in pairs.groups["angle"]]) if _binned(pairs) else None
    every = np.arange(len(matches))
    yield Part(every, _recalls(pairs, matches, every, angles, condition))
    if angles is None:
        return
    for low, high in pairwise(pairs.angle_edges):
        inside = np.flatnonzero((angles >= low) & (angles < high))
        if len({pairs.units[row] for row in inside}) > 1:
            part = condition.part(f"{low:g}-{high:g}deg")
            yield Part(inside, _recalls(pairs, matches, inside, None, part))


@takes_samples
def recall_of(pairs: Pairs, layer: Layer = LAST) -> list[Figure]:
    """Return the figures of :func:`parts_of`, which says more.

    Raises:
        NotRun: the model has no such features, or the samples are no pairs.
    """
    return [figure for part in parts_of(pairs, layer) for figure in part.figures]


def _condition(pairs: Pairs, layer: Layer) -> Condition:
    """Return what figures of a layer are measured on: the last goes without saying."""
    if layer == LAST:
        return pairs.condition
    return pairs.condition.part(f"block{layer}" if isinstance(layer, int) else layer)


def _binned(pairs: Pairs) -> bool:
    return len(pairs.angle_edges) > 1 and "angle" in pairs.groups


def _recalls(
    pairs: Pairs,
    matches: Sequence[Floats],
    rows: Ints,
    angles: Floats | None,
    condition: Condition,
) -> list[Figure]:
    """Return the recall at each limit of the pairs at ``rows``, in pixels and then in space."""
    chosen = [matches[row] for row in rows]
    bootstrap = pairs.bootstrap.subset(rows)
    found = recall_figures(
        [errors_of(own) for own in chosen],
        angles,
        pixels=pairs.limits,
        angle_edges=pairs.angle_edges,
        bootstrap=bootstrap,
    )
    if pairs.limits_cm:
        found |= recall_in_space_figures(
            [errors_in_space_of(own) for own in chosen],
            angles,
            centimetres=pairs.limits_cm,
            angle_edges=pairs.angle_edges,
            bootstrap=bootstrap,
        )
    chance = np.concatenate(chosen)[:, len(COLUMNS) :].mean(axis=0)
    return [
        replace(figure, details={**figure.details, "chance": float(luck)}).measured_on(condition)
        for figure, luck in zip(found.values(), chance, strict=True)
    ]


@takes_samples
def pck_of(pairs: Pairs, layer: Layer = LAST) -> list[Figure]:
    """Return the share of keypoints found in another thing of the class: see :func:`pck_figures`.

    Classes are those of the column ``class``, or the labels where there is none.

    Raises:
        NotRun: the model has no such features, or the samples are no pairs.
    """
    matches = pairs.matches(layer)
    names = pairs.groups.get("class") or tuple(map(str, pairs.labels))
    known = sorted(set(names))
    errors = [errors_of(rows) for rows in matches]
    figures = []
    for limit in pairs.limits:
        codes = [known.index(name) for name in names]
        made = pck_figures(errors, codes, alpha=limit, bootstrap=pairs.bootstrap)
        for figure in made.values():
            classes = [{**c, "name": known[c["class"]]} for c in figure.details["per_class"]]
            details = {**figure.details, "per_class": classes}
            figures.append(replace(figure, details=details).measured_on(_condition(pairs, layer)))
    return figures


def keypoint_errors(
    first: ArrayLike,
    second: ArrayLike,
    keypoints: ArrayLike,
    truth: ArrayLike,
    image_size: tuple[int, int],
    box_scale: float,
) -> Floats:
    """Return the error (K,) of each keypoint as a fraction of ``box_scale``.

    A keypoint of the first image goes to the patch of the second with the most similar feature.

    Args:
        first, second: (C, h, w) dense features of the two images.
        keypoints: (K, 2) in the first image, only those visible in both.
        truth: (K, 2) the same keypoints in the second image.
        image_size: (H, W) of both, after resizing (800 × 800 in Probe3D).
        box_scale: longer side of the second object's bounding box, in the same (resized) pixels;
            the unresized box's would change the threshold.

    Raises:
        ClipRobustError: broken features or points, or a box without extent.
    """
    if not box_scale > 0:
        raise ClipRobustError(f"PCK: the bounding box must have an extent, got {box_scale}.")
    where, right = _points(keypoints, "keypoints"), _points(truth, "true keypoints")
    same_samples("correspondence", where, right)
    dense = _dense(second, "features")
    grid = dense.shape[1:]
    targets = _normalised(dense.reshape(len(dense), -1).T)
    sampled = sample_features(first, where, image_size)
    nearest = (on_grid(sampled) @ on_grid(targets).T).argmax(axis=1)
    found = patch_centres((grid[0], grid[1]), image_size)[nearest]
    return np.asarray(np.linalg.norm(found - right, axis=1) / box_scale, dtype=np.float64)


@register_metric(
    "correspondence_recall_at_{}px",
    higher_is_better=True,
    meaning="share of matches between two views within {} pixels of the truth",
    each=_PIXELS,
)
def recall_figures(
    errors: Sequence[ArrayLike],
    angles: ArrayLike | None = None,
    *,
    pixels: Sequence[float] = NAVI_PIXELS,
    angle_edges: Sequence[float] = NAVI_ANGLES,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return ``correspondence_recall_at_<t>px``: the share of matches with an error below t pixels.

    Pooled over all matches of all pairs; pairs of views are the samples, each with all its matches. n
    is the number of pairs. With ``angles`` the details hold, per bin [low, high) of viewpoint change
    in degrees, the number of pairs and the mean of their recalls (None in an empty bin).

    Args:
        errors: per pair, (K,) pixel errors of its matches.
        angles: (pairs,) viewpoint change in degrees.
        pixels: thresholds in pixels.
        angle_edges: ascending edges of the bins.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: no pairs, or a pair without matches.
    """
    return _recalls_within(
        errors,
        angles,
        {recall_metric(limit): ("pixels", limit) for limit in pixels},
        angle_edges,
        bootstrap,
    )


@register_metric(
    "correspondence_recall_at_{}cm",
    higher_is_better=True,
    meaning="share of matches between two views within {} centimetres of the truth, in space",
    each=_CENTIMETRES,
)
def recall_in_space_figures(
    errors: Sequence[ArrayLike],
    angles: ArrayLike | None = None,
    *,
    centimetres: Sequence[float] = NAVI_CENTIMETRES,
    angle_edges: Sequence[float] = NAVI_ANGLES,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return ``correspondence_recall_at_<t>cm``: the share of matches less than t cm away in space.

    As :func:`recall_figures`, with the distance in space between the surface that was matched and the right
    one (Probe3D's recall on NAVI, at 1, 2 and 5 cm): a match across an edge in depth is near in the picture
    and far in space.

    Args:
        errors: per pair, (K,) distances in centimetres of its matches.
        angles: (pairs,) viewpoint change in degrees.
        centimetres: thresholds.
        angle_edges: ascending edges of the bins.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: no pairs, or a pair without matches.
    """
    return _recalls_within(
        errors,
        angles,
        {f"correspondence_recall_at_{limit:g}cm": ("centimetres", limit) for limit in centimetres},
        angle_edges,
        bootstrap,
    )


def _recalls_within(
    errors: Sequence[ArrayLike],
    angles: ArrayLike | None,
    limits: Mapping[str, tuple[str, float]],
    angle_edges: Sequence[float],
    bootstrap: Bootstrap,
) -> dict[str, Figure]:
    """Return the recall at each limit, a metric's unit and threshold."""
    pairs = [as_vector(e, f"errors of pair {number}") for number, e in enumerate(errors)]
    if not pairs:
        raise ClipRobustError("correspondence: no pair of views to measure.")
    view = None if angles is None else as_vector(angles, "viewpoint changes")
    if view is not None:
        same_samples("correspondence", pairs, view)
    sizes = np.array([len(e) for e in pairs], dtype=np.float64)
    figures = []
    for metric, (unit, limit) in limits.items():
        hits = np.array([(e < limit).sum() for e in pairs], dtype=np.float64)
        details: dict[str, object] = {"matches": int(sizes.sum()), unit: float(limit)}
        if view is not None:
            bins = []
            for low, high in pairwise(angle_edges):
                inside = (view >= low) & (view < high)
                mean = float((hits[inside] / sizes[inside]).mean()) if inside.any() else None
                bins.append({"low": low, "high": high, "n": int(inside.sum()), "recall": mean})
            details["by_angle"] = bins
        figures.append(
            mean_figure(
                metric,
                ratio_values(hits, sizes),
                bootstrap,
                outcomes=Outcomes({"hits": hits, "trials": sizes}, quotient, coarse=True),
                linear=quotient_values,
                value=float(hits.sum() / sizes.sum()),
                supposed=(1.0, 0.0),
                bounds=(0.0, 1.0),
                details=details,
            )
        )
    return {figure.metric: figure for figure in figures}


def recall_metric(pixels: float) -> str:
    """Return the metric name of the recall at a threshold, ``correspondence_recall_at_25px``."""
    return f"correspondence_recall_at_{pixels:g}px"


@register_metric(
    "pck_at_0.1",
    higher_is_better=True,
    meaning="share of keypoints within 0.1 of the object's box, mean over classes",
)
def pck_figures(
    errors: Sequence[ArrayLike],
    classes: ArrayLike,
    *,
    alpha: float = PCK_ALPHA,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return ``pck_at_<alpha>``: the share of keypoints with an error below ``alpha``.

    Keypoints are pooled within a class, and classes weigh the same: the mean of their shares (Probe3D on
    SPair-71k, 18 classes). n is the number of pairs. The details hold ``per_class``.

    Args:
        errors: per pair of images, (K,) errors of its keypoints over the box scale
            (:func:`keypoint_errors`).
        classes: (pairs,) class index of each pair.
        alpha: threshold.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: no pairs, or a pair without keypoints.
    """
    pairs = [as_vector(e, f"errors of pair {number}") for number, e in enumerate(errors)]
    if not pairs:
        raise ClipRobustError("correspondence: no pair of images to measure.")
    index = np.asarray(classes)
    index = as_labels(index, len(pairs), int(index.max(initial=0)) + 1, "classes of the pairs")
    present, compact = np.unique(index, return_inverse=True)
    compact = compact.astype(np.int64)
    hits = np.array([(e < alpha).sum() for e in pairs], dtype=np.float64)
    sizes = np.array([len(e) for e in pairs], dtype=np.float64)
    outcomes = Outcomes({"hits": hits, "trials": sizes}, _mean_of_classes, {"class": compact})
    per_class = _by_class(np.ones((1, len(pairs))), outcomes)[0]
    figure = mean_figure(
        f"pck_at_{alpha:g}",
        group_values(hits, sizes, compact, codes_of(bootstrap.keys)),
        bootstrap,
        outcomes=outcomes,
        linear=_class_values,
        value=float(per_class.mean()),
        supposed=(1.0, 0.0),
        bounds=(0.0, 1.0),
        details={
            "alpha": alpha,
            "keypoints": int(sizes.sum()),
            "per_class": [
                {"class": int(c), "pck": float(v), "n": int((compact == number).sum())}
                for number, (c, v) in enumerate(zip(present, per_class, strict=True))
            ],
        },
    )
    return {figure.metric: figure}


def _class_values(outcomes: Outcomes) -> Floats:
    """Return values (N,) of which the mean over classes is the mean, nearly."""
    classes = outcomes["class"].astype(np.int64)
    return group_values(outcomes["hits"], outcomes["trials"], classes, codes_of(outcomes.keys))


def _by_class(weights: Floats, outcomes: Outcomes) -> Floats:
    """Return the share of keypoints found of each class (R, C); NaN without a pair."""
    classes, index = np.unique(outcomes["class"], return_inverse=True)
    members = np.zeros((len(outcomes), len(classes)))
    members[np.arange(len(outcomes)), index] = 1.0
    found, all_of_them = (
        sums(weights, members * outcomes[name][:, None]) for name in ("hits", "trials")
    )
    return ratio(found, all_of_them)


def _mean_of_classes(weights: Floats, outcomes: Outcomes) -> Floats:
    return np.asarray(np.nanmean(_by_class(weights, outcomes), axis=1))
