"""Composes pictures from sprites in layered scenes, so that everything about them is known exactly.

A scene is a ground plane, a vertical wall behind it (painted as a sky, hills, a room's wall …), a
pinhole camera, and objects that stand on the ground. An object is a sprite on a vertical billboard,
inflated to a smooth relief: where the drawing is thick, the surface bulges towards the camera. From
this the composer derives the picture, the metric depth of each pixel, the coverage of the main
object, and for a second camera the exact correspondence of pixels. Each visual factor of ImageNet-X
(Idrissi et al. 2022, "ImageNet-X: Understanding model mistakes with factor of variation
annotations") that can be posed is one change to a neutral scene: :func:`vary`.

**World**: metres, x to the right, y up, z away from the first camera; the ground is y = 0, the wall
z = ``Scene.wall_distance``. **Pixels**: x to the right and y down from the image's top left corner, so
that the centre of the first pixel is (0.5, 0.5). **Depth**: metres along the optical axis.

**Relief**: seen from the scene's own camera, a pixel's surface lies on its ray, at the billboard's
depth less the bulge at that place of the sprite. For another camera the same surface is intersected by
a march along each ray. The bulge is a parabola of the distance to the drawing's edge (the inflation of
Johnston 2002, "Lumo: illumination for cel animation", does the same with normals), as high as the
largest inscribed circle's radius times ``Placement.relief``.

**Purity**: a scene is a pure function of a sample id and its sprites: every parameter is a hash of the
id and the parameter's name. Pictures are composed one at a time, vectorised over their pixels: many
tensor kernels round differently at the end of a tensor, so that in a batch a picture would depend on
its place; one by one it cannot, and the working set stays in the cache.
"""

from __future__ import annotations

import collections
import hashlib
import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from pytest_cliprobust.embedded import procedural
from pytest_cliprobust.errors import ClipRobustError, did_you_mean

#: Raise it whenever any composed picture changes; it is part of the data sets' digests.
VERSION = 1

Pixels = npt.NDArray[np.uint8]
Vector = tuple[float, float, float]

#: Visual factors that :func:`vary` knows, in the order of reports.
FACTORS: tuple[str, ...] = (
    "pose",
    "smaller",
    "larger",
    "object_blocking",
    "partial_view",
    "background",
    "color",
    "texture",
    "pattern",
    "style",
    "brighter",
    "darker",
    "multiple_objects",
)

#: Painted on the wall; "room" has a floor of its own and would show two.
WALLS = (
    "gradient",
    "sky_and_ground",
    "hills",
    "plasma",
    "stone",
    "faint_stripes",
    "faint_checks",
    "blobs",
    "bokeh",
)
#: Laid on the ground.
GROUNDS = ("stone", "plasma", "faint_stripes", "faint_checks", "blobs", "stone")

#: Range of the main object's longest side in a neutral scene, in image sides.
OBJECT_SHARE = (0.42, 0.65)

#: Colours that a thing can be dyed in and called by, with their hues: far apart, and each light enough.
TINTS: dict[str, float] = {"red": 0.0, "yellow": 0.15, "green": 0.36, "blue": 0.61}

_RELIEF_SIDE = 64
_GROUND_SIDE = 96
_WALL_SCALE = 3  # the wall is painted at a third of the resolution: it is out of focus
_MARCH_STEPS = 40
_REFINEMENTS = 5


# --------------------------------------------------------------------------------------------------
# Hashing: every parameter of a scene is a function of the sample id and the parameter's name
# --------------------------------------------------------------------------------------------------


def hashed(*key: object) -> int:
    """Return a 63-bit number that depends on ``key`` alone (BLAKE2b)."""
    text = "\0".join(str(part) for part in key)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def chance(*key: object, low: float = 0.0, high: float = 1.0) -> float:
    """Return a uniform number in [low, high) that depends on ``key`` alone."""
    return low + (high - low) * ((hashed(*key) >> 10) / 2.0**53)


def pick(count: int, *key: object) -> int:
    """Return a uniform integer in [0, count) that depends on ``key`` alone."""
    return hashed(*key) % count


# --------------------------------------------------------------------------------------------------
# Scene description
# --------------------------------------------------------------------------------------------------


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _minus(a: Vector, b: Vector) -> Vector:
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without roll, its principal point in the middle of a square image.

    Attributes:
        size: side of the image in pixels.
        focal: focal length in pixels.
        position: metres in the world.
        pitch: radians downwards.
        yaw: radians to the right.
    """

    size: int
    focal: float
    position: Vector
    pitch: float = 0.0
    yaw: float = 0.0

    @property
    def axes(self) -> tuple[Vector, Vector, Vector]:
        """Unit vectors in the world: right, down, forward (along the optical axis)."""
        cp, sp = math.cos(self.pitch), math.sin(self.pitch)
        cy, sy = math.cos(self.yaw), math.sin(self.yaw)
        return (cy, 0.0, -sy), (-sy * sp, -cp, -cy * sp), (sy * cp, -sp, cy * cp)

    def project(self, point: Vector) -> tuple[float, float, float]:
        """Return pixel x, pixel y and depth of a point in the world."""
        right, down, forward = self.axes
        relative = _minus(point, self.position)
        depth = _dot(relative, forward)
        scale = self.focal / depth
        return (
            self.size / 2 + scale * _dot(relative, right),
            self.size / 2 + scale * _dot(relative, down),
            depth,
        )

    def project_points(self, points: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return pixel x, pixel y and depth of points, given as three tensors of one shape."""
        right, down, forward = self.axes
        x, y, z = (p - c for p, c in zip(points, self.position, strict=True))
        depth = x * forward[0] + y * forward[1] + z * forward[2]
        scale = self.focal / depth
        u = (x * right[0] + y * right[1] + z * right[2]) * scale + self.size / 2
        v = (x * down[0] + y * down[1] + z * down[2]) * scale + self.size / 2
        return u, v, depth

    def resized(self, size: int) -> Camera:
        """Return the same camera with another resolution."""
        return replace(self, size=size, focal=self.focal * size / self.size)


@dataclass(frozen=True)
class Paint:
    """How an object's surface differs from its sprite.

    Attributes:
        kind: ``"color"``, ``"texture"``, ``"pattern"`` or ``"tint"``.
        seed: which hue, texture or pattern; of a tint, its place in :data:`TINTS`.
    """

    kind: str
    seed: int


@dataclass(frozen=True)
class Placement:
    """An object in the scene.

    Attributes:
        sprite: (H, W, 4) uint8, straight alpha, cropped to what is visible.
        centre: metres in the world, of the middle of the billboard.
        side: metres, of the sprite's longest side.
        yaw: radians that the billboard is turned about the vertical, out of the image plane.
        roll: radians that the sprite is turned clockwise within the billboard's plane.
        relief: height of the bulge in units of the largest inscribed circle's radius.
        light: (x, y) of the light's direction on the sprite, times the strength of the shading.
        paint: changes of its surface.
    """

    sprite: Pixels = field(repr=False)
    centre: Vector
    side: float
    yaw: float = 0.0
    roll: float = 0.0
    relief: float = 0.7
    light: tuple[float, float] = (0.0, 0.0)
    paint: Paint | None = None

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of the sprite in metres."""
        height, width = self.sprite.shape[:2]
        longest = max(height, width)
        return self.side * width / longest, self.side * height / longest

    @property
    def frame(self) -> tuple[Vector, Vector, Vector]:
        """Unit vectors in the world: along the sprite's rows, down its columns, away from the viewer."""
        cy, sy = math.cos(self.yaw), math.sin(self.yaw)
        cr, sr = math.cos(self.roll), math.sin(self.roll)
        across: Vector = (cr * cy, -sr, -cr * sy)
        downwards: Vector = (-sr * cy, -cr, sr * sy)
        return across, downwards, (sy, 0.0, cy)

    def corners(self) -> list[Vector]:
        """Return the billboard's four corners in the world."""
        width, height = self.extent
        across, downwards, _ = self.frame
        return [
            (
                self.centre[0] + u * width * across[0] + v * height * downwards[0],
                self.centre[1] + u * width * across[1] + v * height * downwards[1],
                self.centre[2] + u * width * across[2] + v * height * downwards[2],
            )
            for u in (-0.5, 0.5)
            for v in (-0.5, 0.5)
        ]

    def lowest(self) -> float:
        """Return how far the drawing reaches below its centre, in metres."""
        width, height = self.extent
        outline = _prepare(self.sprite).outline
        _, downwards, _ = self.frame
        across, _, _ = self.frame
        reach = -(outline[:, 0] * width * across[1] + outline[:, 1] * height * downwards[1])
        return float(reach.max())


@dataclass(frozen=True)
class Scene:
    """Everything that a picture is made of.

    Attributes:
        camera: the scene's own camera.
        wall_distance: z of the wall, metres.
        wall_seed: which picture the wall shows.
        ground_seed: which texture the ground has.
        ground_scale: metres of ground that one tile of the texture covers.
        objects: the main object first.
        exposure: factor on the finished picture's values.
        brighten: amount a, 0 to 1, of a tone curve x + a x (1 − x) that lifts all but black and white.
        shadow: strength of the contact shadows, 0 to 1.
    """

    camera: Camera
    wall_distance: float
    wall_seed: int
    ground_seed: int
    ground_scale: float
    objects: tuple[Placement, ...]
    exposure: float = 1.0
    brighten: float = 0.0
    shadow: float = 0.55


class Rendering(NamedTuple):
    """A composed picture and what is known of it.

    Attributes:
        image: (3, H, W) uint8.
        depth: (1, H, W) float32 metres along the optical axis.
        mask: (1, H, W) float32 in [0, 1], share of each pixel that the main object's visible part
            covers.
        camera: the camera that it was taken with.
    """

    image: Tensor
    depth: Tensor
    mask: Tensor
    camera: Camera


# --------------------------------------------------------------------------------------------------
# Sprites
# --------------------------------------------------------------------------------------------------


class _Prepared(NamedTuple):
    sprite: Pixels
    premultiplied: Tensor  # (1, 4, H, W) uint8
    relief: Tensor  # (h, w) float32, height of the bulge in units of the sprite's longest side
    outline: npt.NDArray[
        np.float64
    ]  # (N, 2) places of the drawing, in widths and heights, middle 0


_PREPARED: collections.OrderedDict[int, _Prepared] = collections.OrderedDict()
_PREPARED_LIMIT = 640  # more than a pass over any data set uses; at most some 100 MB
_LOCK = threading.Lock()


def _prepare(sprite: Pixels) -> _Prepared:
    """Return what depends on a sprite alone; remembered for the arrays that were used last."""
    with _LOCK:
        known = _PREPARED.get(id(sprite))
        if known is not None and known.sprite is sprite:
            _PREPARED.move_to_end(id(sprite))
            return known
    alpha = sprite[..., 3:].astype(np.uint16)
    pixels = np.concatenate([(sprite[..., :3] * alpha + 127) // 255, alpha], axis=2)
    premultiplied = torch.from_numpy(pixels.astype(np.uint8)).permute(2, 0, 1)[None]
    known = _Prepared(sprite, premultiplied, *_inflate(sprite))
    with _LOCK:
        # The entry holds on to the array, so that no other array can get its id.
        _PREPARED[id(sprite)] = known
        while len(_PREPARED) > _PREPARED_LIMIT:
            _PREPARED.popitem(last=False)
    return known


def _inflate(sprite: Pixels) -> tuple[Tensor, npt.NDArray[np.float64]]:
    solid = sprite[..., 3] >= 128
    if not solid.any():
        solid = sprite[..., 3] > 0
    height, width = solid.shape
    longest = max(height, width)
    # Every other pixel will do for so smooth a thing, and takes a quarter of the time. The bulge ends
    # at the edge of the image too: pad before measuring the distance to the drawing's edge.
    coarse = solid[::2, ::2] if solid[::2, ::2].any() else solid
    step = 2.0 if coarse is not solid else 1.0
    distance = np.asarray(ndimage.distance_transform_edt(np.pad(coarse, 1)), dtype=np.float64)
    distance = distance[1:-1, 1:-1] * step
    radius = float(distance.max())
    inside = np.clip(distance / radius, 0.0, 1.0)
    bulge = inside * (2.0 - inside) * (radius / longest)
    # The distance has creases along the medial axis; a bulge has none.
    bulge = ndimage.gaussian_filter(bulge, longest / 45.0 / step)
    bulge = np.asarray(bulge * np.clip(distance / (0.06 * longest), 0.0, 1.0), dtype=np.float64)
    low_height = max(2, round(_RELIEF_SIDE * height / longest))
    low_width = max(2, round(_RELIEF_SIDE * width / longest))
    relief = F.interpolate(
        torch.from_numpy(bulge)[None, None], size=(low_height, low_width), mode="area"
    )[0, 0].to(torch.float32)
    rows, columns = np.nonzero(solid)
    # Extreme points of each row are enough for any question about extents.
    keep = np.unique(
        np.concatenate(
            [
                np.unique(rows, return_index=True)[1],
                len(rows) - 1 - np.unique(rows[::-1], return_index=True)[1],
            ]
        )
    )
    outline = np.stack(
        [(columns[keep] + 0.5) / width - 0.5, (rows[keep] + 0.5) / height - 0.5], axis=1
    )
    return relief, outline


def _foot(sprite: Pixels) -> tuple[float, float]:
    """Return centre and half width, in units of the sprite's width, of the part that stands."""
    outline = _prepare(sprite).outline
    bottom = outline[outline[:, 1] > outline[:, 1].max() - 0.08, 0]
    return float(bottom.min() + bottom.max()) / 2, max(0.06, float(bottom.max() - bottom.min()) / 2)


_LUMA = (0.299, 0.587, 0.114)


def _luminance(colour: Tensor) -> Tensor:
    return colour[0:1] * _LUMA[0] + colour[1:2] * _LUMA[1] + colour[2:3] * _LUMA[2]


def _turn_hue(colour: Tensor, alpha: Tensor, seed: int) -> Tensor:
    """Return premultiplied colours with their hue turned by 90° to 270°, lightness kept.

    The turn is a rotation about the grey axis. Drawings that are grey already get a hue of their own.
    """
    angle = chance(seed, "angle", low=math.pi / 2, high=3 * math.pi / 2)
    c, s = math.cos(angle), math.sin(angle) / math.sqrt(3.0)
    grey = (colour[0:1] + colour[1:2] + colour[2:3]) / 3.0
    chroma = colour - grey
    cross = torch.stack([colour[2] - colour[1], colour[0] - colour[2], colour[1] - colour[0]])
    turned = grey + chroma * c + cross * s
    light = _luminance(colour)
    turned = turned + (light - _luminance(turned))
    # What is (nearly) grey stays so under a rotation: dye it, the more the greyer it is.
    tint = procedural.hsv_to_rgb(
        torch.tensor(chance(seed, "tint")), torch.tensor(0.85), torch.tensor(1.0)
    ).view(3, 1, 1)
    # Darker than before, or a white thing could take no colour at all; then as light as the tint
    # allows, and whiter beyond that.
    own = float(_luminance(tint))
    wanted = light * 0.7 + 0.06 * alpha
    dark = tint * torch.minimum(wanted / own, alpha)
    pale = (wanted - own * alpha).clamp(min=0.0) / (1.0 - own)
    dyed = dark + (1.0 - tint) * pale
    largest = chroma.abs().amax(0, keepdim=True)
    share = (1.0 - largest / (0.12 * alpha).clamp(min=1e-4)).clamp(0.0, 1.0)
    out = turned + (dyed - turned) * share
    return torch.minimum(out.clamp(min=0.0), alpha)


def _dye(colour: Tensor, alpha: Tensor, hue: float) -> Tensor:
    """Return premultiplied colours that are all of one hue, lighter where the drawing is lighter."""
    tint = procedural.hsv_to_rgb(torch.tensor(hue), torch.tensor(0.85), torch.tensor(1.0))
    shade = 0.6 * alpha + 0.4 * _luminance(colour)
    return torch.minimum(tint.view(3, 1, 1) * shade, alpha)


_TEXTURES = ("stone", "plasma", "rings", "bricks", "voronoi")
_MOTIFS = ("bold_stripes", "dots", "checkerboard", "plaid", "zigzag", "waves")


def _repaint(colour: Tensor, alpha: Tensor, paint: Paint) -> Tensor:
    """Return premultiplied colours (3, h, w) of a sprite, painted over."""
    if paint.kind == "color":
        return _turn_hue(colour, alpha, paint.seed)
    if paint.kind == "tint":
        return _dye(colour, alpha, list(TINTS.values())[paint.seed])
    height, width = colour.shape[-2:]
    seeds = torch.tensor([paint.seed])
    straight = colour / alpha.clamp(min=1 / 255)
    if paint.kind == "pattern":
        kind = _MOTIFS[pick(len(_MOTIFS), paint.seed, "kind")]
        fill = procedural.patterns(seeds, height, width, kinds=[kind])[0]
        # Printed on the object: its own colours shine through.
        return (straight * 0.4 + fill * 0.6) * alpha
    kind = _TEXTURES[pick(len(_TEXTURES), paint.seed, "kind")]
    family = procedural.patterns if kind in procedural.PATTERNS else procedural.backgrounds
    fill = family(seeds, height, width, kinds=[kind])[0]
    # Made of another material: the drawing's lightness remains, its colours do not.
    return torch.minimum(fill * (0.35 + 0.9 * _luminance(straight)), torch.ones(())) * alpha


class _Backdrop(NamedTuple):
    wall: Tensor  # (1, 3, size, size), what the wall shows in the scene's own camera
    ground: Tensor  # (1, 3, S, S), a tile of the ground


def _backdrops(scenes: Sequence[Scene]) -> list[_Backdrop]:
    """Return the pictures on wall and ground of some scenes, made in one go for each image size.

    This is the one step that is vectorised over scenes; :mod:`.procedural` keeps its rows independent.
    """
    grounds = procedural.backgrounds(
        torch.tensor([scene.ground_seed for scene in scenes]),
        _GROUND_SIDE,
        _GROUND_SIDE,
        kinds=GROUNDS,
        grain=False,
    )
    walls: dict[int, Tensor] = {}
    for size in {scene.camera.size for scene in scenes}:
        rows = [i for i, scene in enumerate(scenes) if scene.camera.size == size]
        side = max(8, size // _WALL_SCALE)
        seeds = torch.tensor([scenes[i].wall_seed for i in rows])
        small = procedural.backgrounds(seeds, side, side, kinds=WALLS, grain=False)
        walls |= {i: small[k : k + 1] for k, i in enumerate(rows)}
    return [
        _Backdrop(_full_wall(walls[i], scene.camera.size), grounds[i : i + 1])
        for i, scene in enumerate(scenes)
    ]


def _full_wall(wall: Tensor, size: int) -> Tensor:
    """Return a wall (1, C, h, w) in full resolution, (1, C, size, size).

    Channel by channel: of several at once torch interpolates in another order where it has one thread alone,
    and pixels would differ by a grey level.
    """
    return torch.cat(
        [
            F.interpolate(channel, size=(size, size), mode="bilinear", align_corners=False)
            for channel in wall.split(1, dim=1)
        ],
        dim=1,
    )


# --------------------------------------------------------------------------------------------------
# Rendering
# --------------------------------------------------------------------------------------------------


class _Layer(NamedTuple):
    rows: slice
    columns: slice
    colour: Tensor  # (3, h, w) premultiplied
    alpha: Tensor  # (1, h, w)
    depth: Tensor  # (h, w)


class _Rays:
    """Directions of the pixels of a window, with unit component along the optical axis."""

    def __init__(self, camera: Camera, rows: slice, columns: slice) -> None:
        half = camera.size / 2
        self._x = (torch.arange(columns.start, columns.stop) + 0.5 - half) / camera.focal
        self._y = ((torch.arange(rows.start, rows.stop) + 0.5 - half) / camera.focal)[:, None]
        self._axes = camera.axes

    def along(self, vector: Vector) -> Tensor:
        """Return the directions' component along ``vector``: affine in the pixel position.

        Its shape is (h, w), or (h, 1) where it is the same along each row, as it often is in a scene's
        own camera, which saves most of the work.
        """
        right, down, forward = self._axes
        column = self._y * _dot(down, vector) + _dot(forward, vector)
        slope = _dot(right, vector)
        return column if slope == 0.0 else column + self._x * slope


def _window(placement: Placement, camera: Camera) -> tuple[slice, slice] | None:
    """Return the rows and columns of pixels that an object may touch, or None if it is out of sight."""
    bulge = float(_prepare(placement.sprite).relief.max()) * placement.side * placement.relief
    points = [camera.project(corner) for corner in placement.corners()]
    nearest = min(depth for _, _, depth in points)
    if nearest <= 0.05:
        return None
    margin = 2.0 + camera.focal * bulge / nearest
    left = max(0, math.floor(min(x for x, _, _ in points) - margin))
    right = min(camera.size, math.ceil(max(x for x, _, _ in points) + margin))
    top = max(0, math.floor(min(y for _, y, _ in points) - margin))
    bottom = min(camera.size, math.ceil(max(y for _, y, _ in points) + margin))
    if left >= right or top >= bottom:
        return None
    return slice(top, bottom), slice(left, right)


def _surface(placement: Placement, camera: Camera) -> Tensor:
    """Return the object's texture (1, 5, h, w): premultiplied colour, alpha, bulge in metres.

    Its resolution is about that of the object in the picture, area-averaged from the sprite, so that
    bilinear sampling neither aliases nor blurs much.
    """
    sprite = placement.sprite
    _, _, depth = camera.project(placement.centre)
    across, downwards, _ = placement.frame
    pixels_per_metre = camera.focal / max(depth, 0.05)
    right, down, _ = camera.axes
    width, height = placement.extent
    shrink_u = math.hypot(_dot(across, right), _dot(across, down))
    shrink_v = math.hypot(_dot(downwards, right), _dot(downwards, down))
    target_w = min(sprite.shape[1], max(6, math.ceil(width * pixels_per_metre * shrink_u * 1.15)))
    target_h = min(sprite.shape[0], max(6, math.ceil(height * pixels_per_metre * shrink_v * 1.15)))
    prepared = _prepare(sprite)
    whole = prepared.premultiplied
    if (target_h, target_w) != sprite.shape[:2]:
        whole = F.interpolate(
            whole, size=(target_h, target_w), mode="bilinear", antialias=True, align_corners=False
        )
    whole = whole.contiguous().to(torch.float32) / 255.0
    alpha = whole[0, 3:]
    # Rounding may leave a colour a step above its alpha.
    colour = torch.minimum(whole[0, :3], alpha)
    bulge = F.interpolate(
        prepared.relief[None, None] * (placement.side * placement.relief),
        size=(target_h, target_w),
        mode="bilinear",
        align_corners=False,
    )
    if placement.paint is not None:
        colour = _repaint(colour, alpha, placement.paint)
    if placement.light != (0.0, 0.0):
        # Lambert's law linearised about the frontal normal: the slope towards the light.
        padded = F.pad(bulge, (1, 1, 1, 1))[0]
        slope_x = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * (target_w / (2 * width))
        slope_y = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * (target_h / (2 * height))
        gain = 1.0 + slope_x * placement.light[0] + slope_y * placement.light[1]
        colour = torch.minimum(colour * gain.clamp(0.6, 1.3), alpha)
    return torch.cat([colour[None], alpha[None], bulge], dim=1)


def _sample(texture: Tensor, u: Tensor, v: Tensor, padding: str = "zeros") -> Tensor:
    """Sample (1, C, h, w) bilinearly at u, v in [−1, 1], broadcast to (H, W): (C, H, W)."""
    grid = torch.stack([u + torch.zeros_like(v), v + torch.zeros_like(u)], dim=-1)[None]
    return F.grid_sample(texture, grid, mode="bilinear", padding_mode=padding, align_corners=False)[
        0
    ]


def _direct(placement: Placement, camera: Camera) -> _Layer | None:
    """Draw an object as the scene's own camera sees it."""
    window = _window(placement, camera)
    if window is None:
        return None
    rays = _Rays(camera, *window)
    across, downwards, normal = placement.frame
    width, height = placement.extent
    start = _minus(camera.position, placement.centre)
    plane = -_dot(start, normal) / rays.along(normal)
    # A grazing billboard has rays that miss it or meet it behind the camera.
    plane = torch.where((plane > 0) & (plane < 1e4), plane, torch.full((), 1e4))
    u = (plane * rays.along(across) + _dot(start, across)) * (2.0 / width)
    v = (plane * rays.along(downwards) + _dot(start, downwards)) * (2.0 / height)
    found = _sample(_surface(placement, camera), u, v)
    return _Layer(*window, found[:3], found[3:4], plane - found[4])


def _marched(placement: Placement, camera: Camera, own: Camera) -> _Layer | None:
    """Draw an object as another camera sees the surface that the scene's own camera defines."""
    window = _window(placement, camera)
    if window is None:
        return None
    rays = _Rays(camera, *window)
    surface = _surface(placement, own)
    across, downwards, normal = placement.frame
    width, height = placement.extent
    _, _, forward = own.axes
    direction = [
        rays.along((1.0, 0.0, 0.0)),
        rays.along((0.0, 1.0, 0.0)),
        rays.along((0.0, 0.0, 1.0)),
    ]
    start = _minus(camera.position, own.position)
    offset = _minus(own.position, placement.centre)
    reach = -_dot(offset, normal)  # from the own camera to the billboard, along its normal
    plane = -_dot(_minus(camera.position, placement.centre), normal) / rays.along(normal)
    plane = torch.where((plane > 0) & (plane < 1e4), plane, torch.full((), 1e4))

    def place(distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return u, v on the sprite, and how far behind the billboard (own depth), along the rays."""
        x, y, z = (distance * d + s for d, s in zip(direction, start, strict=True))
        stretch = reach / (x * normal[0] + y * normal[1] + z * normal[2])
        depth = x * forward[0] + y * forward[1] + z * forward[2]
        u = (x * across[0] + y * across[1] + z * across[2]) * stretch + _dot(offset, across)
        v = (x * downwards[0] + y * downwards[1] + z * downwards[2]) * stretch + _dot(
            offset, downwards
        )
        return u * (2.0 / width), v * (2.0 / height), depth * (1.0 - stretch)

    bulges = surface[:, 4:]

    def behind(distance: Tensor) -> Tensor:
        """Return how far behind the surface a place on each ray is; negative in front of it."""
        u, v, depth = place(distance)
        return depth + _sample(bulges, u, v)[0]

    highest = float(bulges.max())
    # Rays are oblique to the direction in which the surface bulges.
    span = 2.0 * highest + 1e-3
    near, far = plane - span, plane + 1e-4 * plane
    last = near
    last_value = behind(last)
    hit_low, hit_high, value_low = near.clone(), far.clone(), last_value.clone()
    value_high = torch.ones_like(near)
    found = last_value > 0
    for step in range(1, _MARCH_STEPS + 1):
        here = near + (far - near) * (step / _MARCH_STEPS)
        value = behind(here)
        crossing = ~found & (value >= 0)
        hit_low = torch.where(crossing, last, hit_low)
        hit_high = torch.where(crossing, here, hit_high)
        value_low = torch.where(crossing, last_value, value_low)
        value_high = torch.where(crossing, value, value_high)
        found = found | crossing
        last, last_value = here, value
    middle = hit_high
    for _ in range(_REFINEMENTS):
        # Regula falsi, kept off the ends so that both ends move.
        share = (value_low / (value_low - value_high).clamp(max=-1e-9)).clamp(0.05, 0.95)
        middle = hit_low + (hit_high - hit_low) * share
        value = behind(middle)
        above = value >= 0
        hit_high = torch.where(above, middle, hit_high)
        value_high = torch.where(above, value, value_high)
        hit_low = torch.where(above, hit_low, middle)
        value_low = torch.where(above, value_low, value)
    u, v, _ = place(middle)
    seen = _sample(surface, u, v)
    return _Layer(*window, seen[:3], seen[3:4], middle)


def _ground_colour(scene: Scene, texture: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """Return the ground's colour (3, H, W) at places in the world; detail fades with distance."""
    mean = texture.mean(dim=(2, 3)).view(3, 1, 1)
    scale = 2.0 / scene.ground_scale
    detail = _sample(texture, x * scale, z * scale, "reflection") - mean
    # A pixel's footprint on the ground, seen from the scene's own camera, is depth²/(f·h) deep.
    camera = scene.camera
    texel = scene.ground_scale / _GROUND_SIDE
    distance = (z - camera.position[2]).abs() + 0.1
    share = texel * camera.focal * camera.position[1] * 2.0 / (distance * distance)
    colour = mean + detail * share.clamp(max=1.0)
    for item in scene.objects:
        width, _ = item.extent
        low = item.centre[1] - item.lowest()
        centre, half = _foot(item.sprite) if item.roll == 0 else (0.0, 0.35)
        # A shadow widens and fades as the object leaves the ground.
        gap = max(0.0, low) / item.side
        radius_x = (half * width + 0.04 * item.side) * (1.0 + gap) * abs(
            math.cos(item.yaw)
        ) + 0.08 * item.side
        radius_z = 0.16 * item.side * (1.0 + gap)
        dx = (x - (item.centre[0] + centre * width * math.cos(item.yaw))) / radius_x
        dz = (z - item.centre[2]) / radius_z
        inside = (1.0 - dx * dx - dz * dz).clamp(min=0.0)
        colour = colour * (1.0 - inside * (scene.shadow / (1.0 + 4.0 * gap)))
    return colour


def _background(scene: Scene, paint: _Backdrop, camera: Camera) -> tuple[Tensor, Tensor]:
    """Return colour (3, H, W) and depth (H, W) of ground and wall."""
    everything = slice(0, camera.size)
    rays = _Rays(camera, everything, everything)
    dx, dy, dz = (rays.along(axis) for axis in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    px, py, pz = camera.position
    to_wall = (scene.wall_distance - pz) / dz
    to_ground = torch.where(dy < -1e-6, -py / dy, torch.full((), math.inf))
    is_wall = to_wall < to_ground
    depth = torch.minimum(to_wall, to_ground)
    wall = paint.wall
    if camera == scene.camera:
        wall_colour = wall[0]
    else:
        x, y, _ = scene.camera.project_points(
            (to_wall * dx + px, to_wall * dy + py, to_wall * dz + pz)
        )
        scale = 2.0 / scene.camera.size
        wall_colour = _sample(wall, x * scale - 1.0, y * scale - 1.0, "reflection")
    # The ground fills the lower rows of the picture: leave out the rows above it.
    rows = torch.nonzero((~is_wall).any(dim=1))[:, 0]
    whole = depth.expand(camera.size, camera.size).contiguous()
    if rows.numel() == 0:
        return wall_colour.clone(), whole
    first = int(rows[0])
    t = depth[first:]
    ground = _ground_colour(scene, paint.ground, t * dx[first:] + px, t * dz[first:] + pz)
    lower = torch.where(is_wall[None, first:], wall_colour[:, first:], ground)
    return torch.cat([wall_colour[:, :first], lower], dim=1), whole


def compose(scene: Scene, camera: Camera | None = None) -> Rendering:
    """Draw a scene, as its own camera sees it or another one; see :func:`compose_all`."""
    return compose_all([(scene, camera)])[0]


def compose_all(views: Sequence[tuple[Scene, Camera | None]]) -> list[Rendering]:
    """Draw some scenes.

    Args:
        views: scenes, each with the camera to draw it from (None: the scene's own).

    Returns:
        For each view the picture with its depth, the main object's mask and the camera. A picture is
        the same, bit for bit, in whatever company it is drawn.
    """
    if not views:
        return []
    paints = _backdrops([scene for scene, _ in views])
    return [
        _draw(scene, paint, scene.camera if camera is None else camera)
        for (scene, camera), paint in zip(views, paints, strict=True)
    ]


def _draw(scene: Scene, paint: _Backdrop, view: Camera) -> Rendering:
    own = scene.camera
    image, depth = _background(scene, paint, view)
    mask = torch.zeros_like(depth)
    order = sorted(
        range(len(scene.objects)), key=lambda i: (-view.project(scene.objects[i].centre)[2], i)
    )
    for index in order:
        item = scene.objects[index]
        layer = _direct(item, view) if view == own else _marched(item, view, own)
        if layer is None:
            continue
        window = (layer.rows, layer.columns)
        behind = depth[window]
        in_front = layer.depth < behind
        alpha = layer.alpha * in_front
        image[:, layer.rows, layer.columns] = (
            image[:, layer.rows, layer.columns] * (1.0 - alpha) + layer.colour * in_front
        )
        depth[window] = torch.where(alpha[0] >= 0.5, layer.depth, behind)
        if index == 0:
            mask[window] = alpha[0]
        else:
            mask[window] = mask[window] * (1.0 - alpha[0])
    image.mul_(scene.exposure).clamp_(0.0, 1.0)
    if scene.brighten:
        image = image + (image - image * image) * scene.brighten
    pixels = image.mul_(255.0).round_().to(torch.uint8)
    return Rendering(pixels, depth[None], mask[None].clamp(0.0, 1.0), view)


def surface_points(view: Rendering) -> Tensor:
    """Return the place in the world, (3, H, W) float32 in metres, of the surface that each pixel shows."""
    size = view.camera.size
    rays = _Rays(view.camera, slice(0, size), slice(0, size))
    axes: tuple[Vector, ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    return torch.stack(
        [
            view.depth[0] * rays.along(axis) + place
            for axis, place in zip(axes, view.camera.position, strict=True)
        ]
    )


def correspondence(first: Rendering, second: Rendering) -> tuple[Tensor, Tensor]:
    """Return where each pixel of one view lies in another view of the same scene.

    Returns:
        pixels: (2, H, W) float32, x and y in the second image (the first pixel's centre is 0.5);
        visible: (1, H, W) bool: inside the second image and not hidden there, that is, one of the four
            pixels around the place shows a surface at most 1% nearer.
    """
    x, y, expected = second.camera.project_points(tuple(surface_points(first)))
    limit = second.camera.size
    inside = (expected > 0.05) & (x >= 0) & (x < limit) & (y >= 0) & (y < limit)
    column, row = (x - 0.5).floor(), (y - 0.5).floor()
    seen = torch.zeros_like(inside)
    for down in (0, 1):
        for right in (0, 1):
            i = (row + down).clamp(0, limit - 1).to(torch.int64)
            j = (column + right).clamp(0, limit - 1).to(torch.int64)
            shown = second.depth[0].flatten()[i * limit + j]
            # Not hidden by something nearer; and something is there (edges cover part of a pixel).
            seen = seen | ((expected <= 1.01 * shown) & (expected >= 0.93 * shown))
    return torch.stack([x, y]), (inside & seen)[None]


# --------------------------------------------------------------------------------------------------
# Making scenes
# --------------------------------------------------------------------------------------------------


def _stand(
    sprite: Pixels,
    camera: Camera,
    *,
    x: float,
    depth: float,
    side: float,
    key: str,
) -> Placement:
    """Return an object that stands on the ground, at pixel column ``x`` and a depth."""
    light = chance(key, "light", low=-1.0, high=1.0)
    strength = chance(key, "shading", low=0.08, high=0.2)
    item = Placement(
        sprite=sprite,
        centre=(0.0, 0.0, 0.0),
        side=side,
        relief=chance(key, "relief", low=0.6, high=0.9),
        light=(strength * light, strength),
    )
    height = item.lowest()
    # Depth along the optical axis: z·cos(pitch) + (camera height − y)·sin(pitch).
    sine, cosine = math.sin(camera.pitch), math.cos(camera.pitch)
    z = (depth - (camera.position[1] - height) * sine) / cosine
    return replace(item, centre=((x - camera.size / 2) / camera.focal * depth, height, z))


def neutral(sample: str, sprite: Pixels, size: int = 224) -> Scene:
    """Return the neutral scene of a sample: one upright object, about in the middle, well lit.

    The object's longest side takes 42% to 65% of the image's side (:data:`OBJECT_SHARE`); its centre
    lies within 4% of the image's centre; everything else (focal length, pitch, distances, wall, ground,
    light) varies.

    Args:
        sample: the sample's id; all parameters are hashes of it.
        sprite: (H, W, 4) uint8, straight alpha.
        size: side of the image in pixels.
    """
    focal = size * chance(sample, "focal", low=1.0, high=1.5)
    side = chance(sample, "side", low=0.5, high=1.5)
    share = chance(sample, "share", low=OBJECT_SHARE[0], high=OBJECT_SHARE[1])
    depth = focal * side / (share * size)
    pitch = math.radians(chance(sample, "pitch", low=4.0, high=13.0))
    right = chance(sample, "right", low=-0.04, high=0.04) * size
    down = chance(sample, "down", low=-0.03, high=0.04) * size
    # Camera height such that the centre of an object standing on the ground appears at that row.
    drop = down / focal * depth
    resting = Placement(sprite=sprite, centre=(0.0, 0.0, 0.0), side=side)
    height = resting.lowest() + drop * math.cos(pitch) + depth * math.sin(pitch)
    camera = Camera(size=size, focal=focal, position=(0.0, height, 0.0), pitch=pitch)
    item = _stand(sprite, camera, x=size / 2 + right, depth=depth, side=side, key=sample)
    return Scene(
        camera=camera,
        wall_distance=depth * chance(sample, "wall distance", low=3.2, high=5.0),
        wall_seed=hashed(sample, "wall"),
        ground_seed=hashed(sample, "ground"),
        ground_scale=depth * chance(sample, "ground scale", low=0.5, high=1.2),
        objects=(item,),
        exposure=chance(sample, "exposure", low=0.9, high=1.05),
        shadow=chance(sample, "shadow", low=0.35, high=0.65),
    )


def _inside(placement: Placement, camera: Camera) -> float:
    """Return the smallest distance of the billboard's corners to the frame, in image sides."""
    worst = math.inf
    for corner in placement.corners():
        x, y, _ = camera.project(corner)
        worst = min(worst, x, y, camera.size - x, camera.size - y)
    return worst / camera.size


def _posed(scene: Scene, sample: str) -> Scene:
    main = scene.objects[0]
    best, best_margin = main, -math.inf
    for attempt in range(12):
        sign = 1 if chance(sample, "pose sign", attempt) < 0.5 else -1
        turn = 1 if chance(sample, "pose turn", attempt) < 0.5 else -1
        mode = pick(3, sample, "pose mode", attempt)
        roll = chance(sample, "roll", attempt, low=40.0, high=140.0) * sign if mode != 1 else 0.0
        yaw = chance(sample, "yaw", attempt, low=35.0, high=62.0) * turn if mode != 0 else 0.0
        item = replace(main, roll=math.radians(roll), yaw=math.radians(yaw))
        lift = max(0.0, item.lowest() - item.centre[1])
        item = replace(item, centre=(item.centre[0], item.centre[1] + lift, item.centre[2]))
        margin = _inside(item, scene.camera)
        if margin > best_margin:
            best, best_margin = item, margin
        if margin > 0.02:
            break
    return replace(scene, objects=(best, *scene.objects[1:]))


def _moved(scene: Scene, *, depth: float, x: float) -> Scene:
    """Return the scene with its main object at another depth and pixel column, on the ground."""
    camera, main = scene.camera, scene.objects[0]
    sine, cosine = math.sin(camera.pitch), math.cos(camera.pitch)
    z = (depth - (camera.position[1] - main.centre[1]) * sine) / cosine
    item = replace(main, centre=((x - camera.size / 2) / camera.focal * depth, main.centre[1], z))
    return replace(scene, objects=(item, *scene.objects[1:]))


def _enlarged(scene: Scene, sample: str) -> Scene:
    """Bring the main object nearer, but leave most of it inside the frame."""
    camera, main = scene.camera, scene.objects[0]
    x, _, _ = camera.project(main.centre)
    share = chance(sample, "share", low=0.92, high=1.05)
    while True:
        near = _moved(scene, depth=camera.focal * main.side / (share * camera.size), x=x)
        rows = [camera.project(corner)[1] for corner in near.objects[0].corners()]
        cut = max(0.0, max(rows) - camera.size) + max(0.0, -min(rows))
        # A flat thing at the viewer's feet would leave the frame: then it comes less near.
        if share <= 0.7 or cut <= 0.15 * (max(rows) - min(rows)):
            return near
        share -= 0.04


_WORKING_SIDE = 64


def _coverage(scene: Scene, occluder: Placement) -> float:
    """Return the share of the main object that ``occluder`` hides, at a low resolution."""
    camera = scene.camera.resized(_WORKING_SIDE)
    layers = [_direct(scene.objects[0], camera), _direct(occluder, camera)]
    maps = []
    for layer in layers:
        canvas = torch.zeros(_WORKING_SIDE, _WORKING_SIDE)
        if layer is not None:
            canvas[layer.rows, layer.columns] = layer.alpha[0]
        maps.append(canvas)
    whole = float(maps[0].sum())
    return float((maps[0] * maps[1]).sum()) / whole if whole > 0 else 1.0


def _blocked(scene: Scene, sample: str, sprite: Pixels) -> Scene:
    camera, main = scene.camera, scene.objects[0]
    x, _, depth = camera.project(main.centre)
    width, height = (extent * camera.focal / depth for extent in main.extent)
    wanted = chance(sample, "coverage", low=0.35, high=0.55)
    first = 1 if chance(sample, "blocker side") < 0.5 else -1
    best: Placement | None = None
    best_error = math.inf
    for scale in (0.85, 1.05, 1.3):
        for offset in (0.5, 0.3, 0.1):
            for sign in (first, -first) if offset == 0.3 else (first,):
                near = depth * chance(sample, "blocker depth", low=0.72, high=0.85)
                side = max(width, height) * scale * near / camera.focal
                item = _stand(
                    sprite,
                    camera,
                    x=x + sign * offset * width,
                    depth=near,
                    side=side,
                    key=f"{sample} blocker",
                )
                error = abs(_coverage(scene, item) - wanted)
                if error < best_error:
                    best, best_error = item, error
            if best_error < 0.05:
                break
        if best_error < 0.05:
            break
    assert best is not None
    return replace(scene, objects=(*scene.objects, best))


def _crowded(scene: Scene, sample: str, sprites: Sequence[Pixels]) -> Scene:
    camera, main = scene.camera, scene.objects[0]
    x, _, depth = camera.project(main.centre)
    width = main.extent[0] * camera.focal / depth
    first = 1 if chance(sample, "companion side") < 0.5 else -1
    others = []
    for index, sprite in enumerate(sprites):
        sign = first if index % 2 == 0 else -first
        far = depth * chance(sample, "companion depth", index, low=0.95, high=1.6)
        side = main.side * chance(sample, "companion size", index, low=0.6, high=0.9)
        own = side * camera.focal / far * sprite.shape[1] / max(sprite.shape[:2])
        gap = chance(sample, "companion gap", index, low=-0.02, high=0.08) * camera.size
        # Beside the main object, yet almost wholly inside the frame.
        place = x + sign * (width / 2 + gap + own / 2)
        place = min(max(place, 0.42 * own), camera.size - 0.42 * own)
        # Where the frame leaves no room beside it, a companion stands behind and never in front.
        overlap = abs(place - x) < (width + own) / 2
        if overlap:
            far = max(far, depth * 1.15)
        others.append(
            _stand(sprite, camera, x=place, depth=far, side=side, key=f"{sample} {index}")
        )
    return replace(scene, objects=(*scene.objects, *others))


def _partial(scene: Scene, sample: str) -> Scene:
    camera, main = scene.camera, scene.objects[0]
    _, _, depth = camera.project(main.centre)
    width = main.extent[0] * camera.focal / depth
    visible = chance(sample, "visible", low=0.42, high=0.6)
    if chance(sample, "partial side") < 0.5:
        x = (visible - 0.5) * width
    else:
        x = camera.size - (visible - 0.5) * width
    return _moved(scene, depth=depth, x=x)


def vary(
    scene: Scene,
    factor: str,
    sample: str,
    *,
    other_style: Pixels | None = None,
    companions: Sequence[Pixels] = (),
) -> Scene:
    """Return ``scene`` with one visual factor changed, everything else as it was.

    Args:
        scene: a neutral scene.
        factor: one of :data:`FACTORS`.
        sample: the sample's id; how the factor varies is a hash of it.
        other_style: for ``style``: another drawing of the same thing.
        companions: sprites of other things: one for ``object_blocking``, one to three for
            ``multiple_objects``.

    Raises:
        ClipRobustError: the factor is unknown, or lacks the sprites that it needs.
    """
    if factor not in FACTORS:
        raise ClipRobustError(
            f"unknown visual factor {factor!r}.{did_you_mean(factor, FACTORS)} "
            f"Known are {', '.join(FACTORS)}"
        )
    if (factor == "style" and other_style is None) or (
        factor in ("object_blocking", "multiple_objects") and not companions
    ):
        raise ClipRobustError(
            f"visual factor {factor!r} needs further sprites; pass them to vary()"
        )
    key = f"{sample} {factor}"
    camera, main = scene.camera, scene.objects[0]
    x, _, depth = camera.project(main.centre)
    if factor == "pose":
        return _posed(scene, key)
    if factor == "smaller":
        return _moved(scene, depth=depth * chance(key, low=2.3, high=2.9), x=x)
    if factor == "larger":
        return _enlarged(scene, key)
    if factor == "object_blocking":
        return _blocked(scene, key, companions[0])
    if factor == "partial_view":
        return _partial(scene, key)
    if factor == "background":
        return replace(scene, wall_seed=hashed(key, "wall"), ground_seed=hashed(key, "ground"))
    if factor in ("color", "texture", "pattern"):
        painted = replace(main, paint=Paint(factor, hashed(key, "paint")))
        return replace(scene, objects=(painted, *scene.objects[1:]))
    if factor == "style":
        assert other_style is not None
        redrawn = replace(main, sprite=other_style)
        lower = redrawn.lowest() - main.centre[1]
        redrawn = replace(redrawn, centre=(main.centre[0], main.centre[1] + lower, main.centre[2]))
        return replace(scene, objects=(redrawn, *scene.objects[1:]))
    if factor == "brighter":
        # Over-exposed, yet with a shoulder: highlights crowd together before they clip.
        return replace(
            scene,
            exposure=scene.exposure * chance(key, low=1.2, high=1.45),
            brighten=chance(key, "curve", low=0.6, high=1.0),
        )
    if factor == "darker":
        return replace(scene, exposure=scene.exposure * chance(key, low=0.2, high=0.4))
    return _crowded(scene, key, companions)


def side_by_side(
    sample: str, things: tuple[Pixels, Pixels], tints: tuple[str, str], size: int = 224
) -> Scene:
    """Return a scene of two things, the first to the left of the second, both wholly in sight.

    They stand at one depth, apart from each other, each dyed in its colour. Camera, wall, ground and light
    are those of :func:`neutral`.

    Args:
        sample: the sample's id.
        things: sprites, (H, W, 4) uint8, straight alpha.
        tints: the colour of each, of :data:`TINTS`.
        size: side of the image in pixels.
    """
    scene = neutral(sample, things[0], size)
    camera = scene.camera
    _, _, depth = camera.project(scene.objects[0].centre)
    placed = []
    for number, (sprite, tint) in enumerate(zip(things, tints, strict=True)):
        # At most 0.42 of the side about 0.27 and 0.73 of it: between the two is a gap, whatever is drawn.
        share = chance(sample, "share of two", number, low=0.36, high=0.42)
        item = _stand(
            sprite,
            camera,
            x=size * (0.27 + 0.46 * number + chance(sample, "shift", number, low=-0.02, high=0.02)),
            depth=depth,
            side=share * size / camera.focal * depth,
            key=f"{sample} thing {number}",
        )
        placed.append(replace(item, paint=Paint("tint", list(TINTS).index(tint))))
    return replace(scene, objects=tuple(placed))


def second_camera(scene: Scene, sample: str, angle: float | None = None) -> tuple[Camera, float]:
    """Return another camera for the scene, and the angle in degrees by which it went round the object.

    It orbits the main object by 5° to 40° to either side, at 0.9 to 1.1 times the distance, and turns
    so that the object stays where it was in the picture.

    Args:
        scene: a scene.
        sample: the sample's id, hashed for all that is not given.
        angle: degrees; hashed from the id unless given.
    """
    camera, main = scene.camera, scene.objects[0]
    if angle is None:
        sign = 1.0 if chance(sample, "orbit side") < 0.5 else -1.0
        angle = sign * chance(sample, "orbit", low=5.0, high=40.0)
    turn = math.radians(angle)
    stretch = chance(sample, "orbit distance", low=0.9, high=1.1)
    dx = (camera.position[0] - main.centre[0]) * stretch
    dz = (camera.position[2] - main.centre[2]) * stretch
    c, s = math.cos(turn), math.sin(turn)
    x, z = main.centre[0] + dx * c + dz * s, main.centre[2] - dx * s + dz * c
    before = math.atan2(main.centre[0] - camera.position[0], main.centre[2] - camera.position[2])
    after = math.atan2(main.centre[0] - x, main.centre[2] - z)
    height = main.centre[1] + (camera.position[1] - main.centre[1]) * stretch
    moved = replace(camera, position=(x, height, z), yaw=camera.yaw + after - before)
    return moved, abs(angle)


def frontal_pattern(seed: int, size: int = 224, distance: float = 2.0) -> Rendering:
    """Return a picture that is one procedural pattern: a flat wall square to the camera, no object."""
    image = procedural.patterns(torch.tensor([seed]), size, size)[0]
    return Rendering(
        (image * 255.0).round().to(torch.uint8),
        torch.full((1, size, size), distance),
        torch.zeros(1, size, size),
        Camera(size=size, focal=1.2 * size, position=(0.0, 1.0, 0.0)),
    )


def interior(sprite: Pixels, size: int = 224, tiles: float = 2.5) -> Tensor:
    """Return the texture of a sprite without its outline: (3, size, size) float32 in [0, 1].

    The largest square that keeps clear of the drawing's edge, where outlines run, is cut out, enlarged
    and mirrored at its edges until it fills the frame, ``tiles`` times across. Nothing of the silhouette
    remains.
    """
    solid = sprite[..., 3] >= 250
    if not solid.any():
        raise ClipRobustError("a sprite that is transparent everywhere has no texture")
    # Outlines take some 4% of the longest side; a thin thing has nothing but its edge.
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(solid, 1)))[1:-1, 1:-1]
    clear = depth > 0.045 * max(solid.shape)
    solid = clear if clear.any() else solid
    inner = np.asarray(ndimage.distance_transform_cdt(np.pad(solid, 1), metric="chessboard"))
    inner = inner[1:-1, 1:-1]
    radius = int(inner.max())
    row, column = (int(i) for i in np.unravel_index(int(inner.argmax()), inner.shape))
    reach = max(0, radius - 1)
    square = np.ascontiguousarray(
        sprite[row - reach : row + reach + 1, column - reach : column + reach + 1, :3]
    )
    tile = torch.from_numpy(square).permute(2, 0, 1)[None].to(torch.float32) / 255.0
    side = torch.arange(size, dtype=torch.float32)
    place = ((side + 0.5) / size - 0.5) * (2.0 * tiles)
    y, x = torch.meshgrid(place, place, indexing="ij")
    return _sample(tile, x, y, "reflection").clamp(0.0, 1.0)


def digest_of(parts: Iterable[object]) -> str:
    """Return the hex sha256 of ``parts`` with the versions of everything that draws."""
    text = "\0".join(str(p) for p in (VERSION, procedural.VERSION, *parts))
    return hashlib.sha256(text.encode()).hexdigest()
