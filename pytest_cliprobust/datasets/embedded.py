"""The embedded benchmark's data sets, composed on the fly from the sprites that ship in the package.

========================  =========================================================================
``clean``                 label classes in the held-out styles, neutral scenes
``calibration``           further samples of the same distribution, for fitting a temperature
``near_ood``              things outside the label set, of the same super-categories
``far_ood``               signs and symbols in scenes, and procedural patterns (group ``kind``)
``clipart``               label classes as clip art: a natural shift
``cue_conflict``          the shape of one class, the texture of another
``captioned``             one picture of each label class, with five captions
``compositional``         pairs of pictures of two coloured things that change places, with captions
                          that are true of one of them and hard negatives
``written``               the clean pictures with the name of another class written on each
``two_view``              pairs of views with exact correspondence
``factor-<name>``         the clean samples' own scenes with one visual factor changed
``style-<style>``         the label classes in one drawing style, the same scenes for every style
========================  =========================================================================

Sample ``i`` shows class ``i mod C`` (C classes); styles alternate so that every prefix is balanced over
classes, styles, and both together as far as its length allows. Composition is described in
:mod:`pytest_cliprobust.embedded.composer`.

The samples of ``clean`` and ``calibration`` share no scene: camera, size, place, light, wall and ground
all differ. They do share drawings, as there are only as many drawings of a class as held-out styles.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from pytest_cliprobust.datasets.base import Batch, LazyExtras, Links, PairBatch, check_limit
from pytest_cliprobust.datasets.profiles import PROFILES
from pytest_cliprobust.embedded import composer, sprites
from pytest_cliprobust.embedded.captions import EMBEDDED_TEMPLATES, caption, captions, phrase
from pytest_cliprobust.embedded.two_things import Thing, captions_of, choices_of
from pytest_cliprobust.errors import ClipRobustError, NotRun, did_you_mean
from pytest_cliprobust.perturbations.cue_conflict import texture_fill
from pytest_cliprobust.perturbations.registry import get, sample_seeds
from pytest_cliprobust.perturbations.typographic import distractors, render_text

__all__ = [
    "COMPOSED",
    "CUE_CONFLICT_CLASSES",
    "EMBEDDED_TEMPLATES",
    "SIZES",
    "EmbeddedDataset",
    "names",
]

#: Number of samples by data set (or family) and profile, in the order of :data:`PROFILES`: whole rounds
#: of the 134 label classes and the 58 near-OOD things, of the 15 x 16 conflicts; but where time is short, in
#: ``quick``, of what is judged by a mean over all, as many as fill forward passes. ``clipart`` and
#: ``style`` have as many at most: a class without a drawing is left out. ``calibration`` is the same in every
#: profile: figures hang on the temperature, the thresholds and the bank that are made of it, and those of one
#: model would differ between profiles, on the very same samples.
SIZES: dict[str, tuple[int, int, int]] = {
    "clean": (536, 1072, 4288),
    "calibration": (536, 536, 536),
    "near_ood": (116, 464, 2088),
    "far_ood": (128, 520, 2080),
    "clipart": (200, 400, 800),
    "cue_conflict": (240, 640, 1280),
    "captioned": (134, 134, 134),
    "compositional": (96, 268, 1072),
    "written": (32, 134, 1072),
    "two_view": (64, 134, 600),
    "factor": (32, 201, 2144),
    "style": (134, 268, 1072),
}

#: Label classes of the cue conflicts. Each has an outline that is unlike the others' and a surface that
#: is recognisable without it: stripes, spots, seeds, kernels, panels, or a colour of its own that no
#: other of the sixteen shares. Sixteen, as the entry-level categories of Geirhos et al. (2019).
CUE_CONFLICT_CLASSES: tuple[str, ...] = (
    "tiger",
    "strawberry",
    "cactus",
    "soccer-ball",
    "watermelon",
    "pizza",
    "elephant",
    "jeans",
    "grapes",
    "cheese-wedge",
    "bus",
    "castle",
    "butterfly",
    "mushroom",
    "hamburger",
    "doughnut",
)

#: The columns that are subgroups which should fare alike.
SUBGROUPS = ("style", "category")

#: The strength at which ``written`` is written on.
WRITTEN_SEVERITY = 3

_TINT_PAIRS = tuple(itertools.permutations(composer.TINTS, 2))
COMPOSED = 224
"""Side in pixels at which the published figures were measured; the drawings are no larger."""

#: Distances in pixels, and edges in degrees, by which pairs of views are judged.
PAIR_LIMITS = (5.0, 10.0, 20.0)
#: The same in space, in centimetres: the things are 0.5 to 1.5 m tall, and a pixel shows 1 to 3 cm of them.
PAIR_LIMITS_CM = (5.0, 10.0, 20.0)
PAIR_ANGLES = (0.0, 10.0, 20.0, 30.0, 45.0)
#: Side in pixels of the pictures of a pair: both are drawn anew for each, and smaller ones cost less.
PAIR_SIDE = 112
#: Places to match are that many pixels apart.
_PAIR_STEP = 3
#: With fewer places on the object in sight, all that is in sight is matched.
_FEWEST_PLACES = 8

_CHUNK = 64
_SPRITE_SIDE = 224

#: Things that stand in the way or beside: outside the label set, so that the label stays the one
#: right answer.
_PROPS = frozenset({"tool", "household", "clothing"})

T = TypeVar("T")


@dataclass(frozen=True)
class _Recipe:
    """What one sample is made of; ``key`` seeds its scene, and equal keys share a scene."""

    key: str
    label: int
    drawing: tuple[str, str, str, int]  # family of sprites, style, name, number
    factor: str = ""
    texture: tuple[str, str, str, int] | None = None
    groups: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _TwoThings(_Recipe):
    """A recipe of two things side by side; ``drawing`` is the left one.

    Attributes:
        right: the drawing of the right one.
        tints: the colours of both.
        absent: name of a class that is not shown, which false captions speak of.
        pair: what the picture shares with the one in which the things have changed places.
    """

    right: tuple[str, str, str, int] = ("", "", "", 0)
    tints: tuple[str, str] = ("", "")
    absent: str = ""
    pair: str = ""


# --------------------------------------------------------------------------------------------------
# Drawings
# --------------------------------------------------------------------------------------------------


def _sprite(drawing: tuple[str, str, str, int]) -> composer.Pixels:
    family, style, name, number = drawing
    if family == "label":
        return sprites.sprite(style, name)
    if family == "near":
        return sprites.near_ood_sprite(style, name)
    if family == "far":
        return sprites.far_ood_sprite(style, name)
    return sprites.clipart(name)[number]


@functools.cache
def _classes() -> tuple[sprites.LabelClass, ...]:
    return tuple(sorted(sprites.load_label_classes(), key=lambda c: c.index))


@functools.cache
def _near() -> tuple[sprites.LabelClass, ...]:
    return tuple(sprites.near_ood_classes())


@functools.cache
def _styles() -> tuple[str, ...]:
    return tuple(style.name for style in sprites.load_styles())


@functools.cache
def _held_out() -> tuple[str, ...]:
    return tuple(style.name for style in sprites.load_styles() if style.split == "held-out")


@functools.cache
def _props() -> tuple[str, ...]:
    return tuple(c.name for c in _near() if c.category in _PROPS)


@functools.lru_cache(maxsize=256)
def _texture(drawing: tuple[str, str, str, int], size: int) -> Tensor:
    """Return the surface of a drawing as a texture, (3, size, size) uint8."""
    return (composer.interior(_sprite(drawing), size) * 255.0).round().to(torch.uint8)


def _others(key: str, style: str, count: int) -> list[composer.Pixels]:
    """Return ``count`` different props, drawn in ``style``."""
    ranked = sorted(_props(), key=lambda name: composer.hashed(key, "prop", name))
    return [sprites.near_ood_sprite(style, name) for name in ranked[:count]]


def _texture_source(index: int, style: str) -> tuple[str, str, str, int]:
    """Return another class's drawing, whose surface a perturbation may put onto sample ``index``."""
    chosen = [c for c in CUE_CONFLICT_CLASSES if c != _classes()[index % len(_classes())].name]
    return ("label", style, chosen[composer.pick(len(chosen), "texture", index)], 0)


# --------------------------------------------------------------------------------------------------
# Recipes
# --------------------------------------------------------------------------------------------------


def _alternate(index: int, count: int, choices: Sequence[T]) -> T:
    """Return a choice that alternates along a round of ``count`` classes and from round to round."""
    return choices[(index % count + index // count) % len(choices)]


def _label_recipes(split: str, total: int, factor: str = "") -> list[_Recipe]:
    classes, styles = _classes(), _held_out()
    recipes = []
    for index in range(total):
        item = classes[index % len(classes)]
        style = _alternate(index, len(classes), styles)
        key = f"{split}-{index:05d}"
        shown = style
        if factor == "style":
            others = [s for s in _styles() if s != style and sprites.has_sprite(s, item.name)]
            shown = others[composer.pick(len(others), key, "other style")]
        recipes.append(
            _Recipe(
                key=key,
                label=item.index,
                drawing=("label", style, item.name, 0),
                factor=factor,
                texture=_texture_source(index, style) if split == "clean" and not factor else None,
                groups={
                    "class": item.name,
                    "category": item.category,
                    "style": shown,
                    "factor": factor or "clean",
                    "caption": caption(key, phrase(item.article, item.label)),
                },
            )
        )
    return recipes


def _near_recipes(total: int) -> list[_Recipe]:
    things, styles = _near(), _held_out()
    recipes = []
    for index in range(total):
        item = things[index % len(things)]
        style = _alternate(index, len(things), styles)
        key = f"near_ood-{index:05d}"
        recipes.append(
            _Recipe(
                key=key,
                label=-1,
                drawing=("near", style, item.name, 0),
                groups={
                    "class": item.name,
                    "category": item.category,
                    "style": style,
                    "caption": caption(key, phrase(item.article, item.label)),
                },
            )
        )
    return recipes


def _far_recipes(total: int) -> list[_Recipe]:
    symbols, styles = sprites.far_ood_names(), _held_out()
    recipes: list[_Recipe] = []
    for index in range(total):
        key = f"far_ood-{index:05d}"
        if index % 2:
            recipes.append(
                _Recipe(
                    key=key,
                    label=-1,
                    drawing=("pattern", "", "", 0),
                    groups={"kind": "pattern", "class": "", "style": "procedural"},
                )
            )
            continue
        name = symbols[index // 2 % len(symbols)]
        style = _alternate(index // 2, len(symbols), styles)
        recipes.append(
            _Recipe(
                key=key,
                label=-1,
                drawing=("far", style, name, 0),
                groups={"kind": "symbol", "class": name, "style": style},
            )
        )
    return recipes


def _clipart_recipes(total: int) -> list[_Recipe]:
    """One sample per picture: the first of each class, then the second, and so on."""
    numbers = [(item, len(sprites.clipart(item.name))) for item in _classes()]
    recipes: list[_Recipe] = []
    for number in range(max(count for _, count in numbers)):
        for item, count in numbers:
            if number < count and len(recipes) < total:
                key = f"clipart-{item.name}-{number}"
                recipes.append(
                    _Recipe(
                        key=key,
                        label=item.index,
                        drawing=("clipart", "", item.name, number),
                        groups={
                            "class": item.name,
                            "category": item.category,
                            "style": "clipart",
                            "caption": caption(key, phrase(item.article, item.label)),
                        },
                    )
                )
    return recipes


def _style_recipes(style: str, total: int) -> list[_Recipe]:
    """Scenes are those of every other style: a class without a drawing leaves a gap in the ids."""
    classes = _classes()
    recipes = []
    for index in range(total):
        item = classes[index % len(classes)]
        if not sprites.has_sprite(style, item.name):
            continue
        key = f"style-{index:05d}"
        recipes.append(
            _Recipe(
                key=key,
                label=item.index,
                drawing=("label", style, item.name, 0),
                groups={
                    "class": item.name,
                    "category": item.category,
                    "style": style,
                    "caption": caption(key, phrase(item.article, item.label)),
                },
            )
        )
    return recipes


def _conflict_recipes(total: int) -> list[_Recipe]:
    """Sixteen in a row have sixteen shapes and sixteen textures; no pair comes twice in 240."""
    by_name = {item.name: item for item in _classes()}
    chosen = [by_name[name] for name in CUE_CONFLICT_CLASSES]
    count, styles = len(chosen), _held_out()
    recipes = []
    for index in range(total):
        block = index // count
        shape = chosen[index % count]
        surface = chosen[(index + 1 + block % (count - 1)) % count]
        number = block // (count - 1) + 1
        style = styles[(index + block + number) % len(styles)]
        other = styles[(index + block // 2 + number) % len(styles)]
        recipes.append(
            _Recipe(
                key=f"{shape.name}{number}-{surface.name}{number}",
                label=shape.index,
                drawing=("label", style, shape.name, 0),
                texture=("label", other, surface.name, 0),
                groups={
                    "shape_label": shape.label,
                    "texture_label": surface.label,
                    "style": style,
                    "texture_style": other,
                },
            )
        )
    return recipes


def _composed_recipes(total: int) -> list[_Recipe]:
    """Two in a row show the same two classes; no two classes come together twice.

    In the second picture the things have changed places, and with them colours: what is true of one
    picture, of places or colours, is false of the other, so that words alone give half of the answers.
    """
    classes, styles = _classes(), _held_out()
    count = len(classes)
    # A step of more than half of the classes would meet the same pairs from the other side.
    steps = sorted(
        range(2, (count + 1) // 2), key=lambda step: composer.hashed("compositional", step)
    )
    recipes: list[_Recipe] = []
    for index in range(total):
        number = index // 2
        pair = f"compositional-{number:05d}"
        first = number % count
        second = (first + steps[number // count % len(steps)]) % count
        other = (second + 1 + composer.pick(count - 2, pair, "absent")) % count
        absent = other if other != first else (second + count - 1) % count
        style = _alternate(number, count, styles)
        tints = _TINT_PAIRS[composer.pick(len(_TINT_PAIRS), pair, "tints")]
        left, right = classes[first], classes[second]
        if index % 2:
            left, right = right, left
        recipes.append(
            _TwoThings(
                key=f"{pair}-{'ba' if index % 2 else 'ab'}",
                label=-1,  # two classes are in sight
                drawing=("label", style, left.name, 0),
                groups={"class": left.name, "second": right.name, "style": style, "pair": pair},
                right=("label", style, right.name, 0),
                tints=tints,
                absent=classes[absent].name,
                pair=pair,
            )
        )
    return recipes


def _written_recipes(total: int) -> list[_Recipe]:
    """Return the clean samples' recipes, each with the class whose name is written on it."""
    recipes = _label_recipes("clean", total)
    names = [item.label for item in _classes()]
    chosen = distractors([r.key for r in recipes], [r.label for r in recipes], names, 0)
    return [
        replace(recipe, texture=None, groups={**recipe.groups, "written_label": names[word]})
        for recipe, word in zip(recipes, chosen, strict=True)
    ]


def _write(recipes: Sequence[_Recipe], images: Tensor) -> Tensor:
    """Return (B, 3, H, W) uint8 with a word on each, one by one."""
    names = [item.label for item in _classes()]
    words = [names.index(recipe.groups["written_label"]) for recipe in recipes]
    stickers = render_text(names, rows=words)
    seeds = sample_seeds(tuple(recipe.key for recipe in recipes), "typographic", 0)
    attack = get("typographic")
    written = [
        attack(
            images[i : i + 1].to(torch.float32) / 255.0,
            WRITTEN_SEVERITY,
            text=stickers[i : i + 1],
            seeds=seeds[i : i + 1],
        )
        for i in range(len(images))
    ]
    return (torch.cat(written) * 255.0).round().to(torch.uint8)


def _things(recipe: _TwoThings) -> tuple[Thing, Thing, Thing]:
    """Return what stands left and right, and what is not there."""
    by_name = {item.name: item for item in _classes()}
    items = (by_name[name] for name in (recipe.drawing[2], recipe.right[2], recipe.absent))
    tints = (*recipe.tints, "")
    left, right, absent = (
        Thing(item.article, item.label, tint) for item, tint in zip(items, tints, strict=True)
    )
    return left, right, absent


def _captions(recipe: _Recipe) -> tuple[str, ...]:
    """Return five captions of a picture."""
    if isinstance(recipe, _TwoThings):
        left, right, _ = _things(recipe)
        return captions_of(recipe.pair, left, right)
    item = _classes()[recipe.label]
    return captions(recipe.key, phrase(item.article, item.label))


def _unit(recipe: _Recipe) -> str:
    """Return what a sample was drawn from: its drawing, or its two."""
    drawings = (
        (recipe.drawing, recipe.right) if isinstance(recipe, _TwoThings) else (recipe.drawing,)
    )
    return "+".join(sorted("/".join(map(str, drawing)) for drawing in drawings))


def _pair_recipes(total: int) -> list[_Recipe]:
    recipes = _label_recipes("two_view", total)
    for recipe in recipes:
        _, angle = composer.second_camera(_pair_scene(recipe, 64), recipe.key)
        recipe.groups["angle"] = f"{angle:.2f}"
    return recipes


def _pair_scene(recipe: _Recipe, size: int) -> composer.Scene:
    """Return the scene of a pair; every other one has a second thing in it, which may hide the first."""
    scene = composer.neutral(recipe.key, _sprite(recipe.drawing), size)
    if composer.pick(2, recipe.key, "companion"):
        companions = _others(recipe.key, recipe.drawing[1], 1)
        scene = composer.vary(scene, "multiple_objects", recipe.key, companions=companions)
    return scene


_MAKERS: dict[str, Callable[[int], list[_Recipe]]] = {
    "clean": functools.partial(_label_recipes, "clean"),
    "calibration": functools.partial(_label_recipes, "calibration"),
    "near_ood": _near_recipes,
    "far_ood": _far_recipes,
    "clipart": _clipart_recipes,
    "cue_conflict": _conflict_recipes,
    "written": _written_recipes,
    "captioned": functools.partial(_label_recipes, "captioned"),
    "compositional": _composed_recipes,
    "two_view": _pair_recipes,
}


def names() -> tuple[str, ...]:
    """Return the names of all embedded data sets."""
    factors = tuple(f"factor-{factor}" for factor in composer.FACTORS)
    return (*_MAKERS, *factors, *(f"style-{style}" for style in _styles()))


# --------------------------------------------------------------------------------------------------
# The data set
# --------------------------------------------------------------------------------------------------


def _check_asked(name: str, profile: str, limit: int | None) -> None:
    if name not in names():
        raise ClipRobustError(
            f"unknown embedded data set {name!r}.{did_you_mean(name, names())} "
            f"Known are {', '.join(names())}"
        )
    if profile not in PROFILES:
        raise ClipRobustError(
            f"unknown profile {profile!r}.{did_you_mean(profile, PROFILES)} "
            f"Known are {', '.join(PROFILES)}"
        )
    check_limit(limit)


def _recipes_of(name: str, profile: str, limit: int | None) -> list[_Recipe]:
    """Return the recipes of a data set, a prefix of them where there is a limit."""
    family, _, detail = name.partition("-")
    total = SIZES[family][PROFILES.index(profile)]
    if family == "style":  # some of the total have no drawing, and are left out
        return _style_recipes(detail, total)[:limit]
    count = total if limit is None else min(limit, total)
    made = _label_recipes("clean", count, detail) if family == "factor" else _MAKERS[name](count)
    return made[:limit]


class EmbeddedDataset:
    """One embedded data set, as a :class:`~pytest_cliprobust.datasets.base.Dataset`.

    Pictures are (3, size, size) uint8, depth is in metres along the optical axis, the mask is the
    coverage by the main object (zero for patterns, which show none). Columns of ``groups`` are
    ``class`` (CLDR name), ``category``, ``style``, ``caption`` and, where they make sense, ``factor``,
    ``kind``, ``shape_label``, ``texture_label``, ``texture_style``, ``angle`` (degrees between two
    views), ``written_label``, and of two things ``second`` and ``pair``.

    ``extras`` hold ``focal`` (B,), the focal length in pixels; for ``clean`` also what perturbations may
    ask for: ``occluder`` (B, 4, 224, 224), straight RGBA in [0, 1], a thing outside the label set, and
    ``texture`` (B, 3, size, size) in [0, 1], the surface of another class; for ``cue_conflict`` the
    ``texture`` that it was filled with; for ``two_view`` ``second_image`` (uint8), ``second_depth``,
    ``second_mask``, ``second_focal``, ``correspondence`` (B, 2, size, size), the place (x, y, pixel
    centres at 0.5) of each pixel in the second view, and ``visible`` (B, 1, size, size) bool.

    Args:
        name: one of :func:`names`.
        profile: ``"quick"``, ``"standard"`` or ``"full"``.
        limit: use that many samples at most, a prefix.
        size: side of the pictures in pixels.

    Attributes:
        phrases: per class what fills the placeholder of the templates (``"a dog"``).
        templates: the benchmark's own prompt templates.
        negative_phrases: further things that the reference model was trained on, outside the label set.
        units: the drawing behind each sample; samples of one drawing are not independent.
        captions, choices: of ``captioned`` and ``compositional``, see
            :class:`~pytest_cliprobust.figures.samples.Captioned`.
        subgroups: the columns that are compared group by group.
        content: the digest that the same scenes have at 224 pixels.

    Raises:
        ClipRobustError: name or profile unknown, or the limit is not positive.
    """

    has_depth = True

    def __init__(
        self, name: str, *, profile: str = "standard", limit: int | None = None, size: int = 224
    ) -> None:
        _check_asked(name, profile, limit)
        self._recipes = _recipes_of(name, profile, limit)
        self._size = size
        self.name = name
        self.ids = tuple(recipe.key for recipe in self._recipes)
        self.labels = tuple(recipe.label for recipe in self._recipes)
        self.class_names = tuple(item.label for item in _classes())
        self.phrases = tuple(phrase(item.article, item.label) for item in _classes())
        self.templates = EMBEDDED_TEMPLATES
        self.negative_phrases = sprites.training_only_phrases()
        self.captions = (
            tuple(map(_captions, self._recipes)) if name in ("captioned", "compositional") else ()
        )
        self.choices = tuple(
            choices_of(recipe.pair, *_things(recipe))
            for recipe in self._recipes
            if isinstance(recipe, _TwoThings)
        )
        self.limits, self.limits_cm, self.angle_edges = PAIR_LIMITS, PAIR_LIMITS_CM, PAIR_ANGLES
        self.unit = "pair" if name == "compositional" else "drawing"
        self.units = tuple(map(_unit, self._recipes))
        columns = dict.fromkeys(column for recipe in self._recipes for column in recipe.groups)
        self.groups = {
            column: tuple(recipe.groups.get(column, "") for recipe in self._recipes)
            for column in columns
        }
        self.subgroups = tuple(column for column in SUBGROUPS if column in self.groups)
        described = hashlib.sha256(repr(self._recipes).encode()).hexdigest()
        self.digest, self.content = (
            composer.digest_of(
                ["embedded", name, side, sprites.digest(), described, *self.class_names]
            )
            for side in (size, COMPOSED)
        )
        # What a recipe says, its scene follows: the first 200 of 1,072 are the same pictures.
        self.sample_keys = self._keys(size)
        # Runs of models that see other sizes show the same scenes, and are paired by them.
        self.sample_digests = self._digests()

    def _keys(self, size: int) -> tuple[str, ...]:
        kind = f"{self.name}\0{size}\0{sprites.digest()}"
        return tuple(
            hashlib.sha256(f"{kind}\0{recipe!r}".encode()).hexdigest() for recipe in self._recipes
        )

    def _digests(self) -> tuple[str, ...]:
        keys = self._keys(COMPOSED)
        if not self.captions:
            return tuple(key[:16] for key in keys)
        # The same picture with other captions is another sample.
        said = zip(keys, self.captions, self.choices or self.captions, strict=True)
        return tuple(hashlib.sha256(repr(sample).encode()).hexdigest()[:16] for sample in said)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._recipes)

    def load(self, indices: Sequence[int]) -> Batch:
        """Compose the samples at ``indices``; each is the same, bit for bit, in any company."""
        chosen = [self._recipes[i] for i in indices]
        renderings: list[composer.Rendering] = []
        seconds: list[composer.Rendering] = []
        for start in range(0, len(chosen), _CHUNK):
            part = chosen[start : start + _CHUNK]
            if self.name == "two_view":
                pairs = [self._pair(recipe) for recipe in part]
                drawn = composer.compose_all([view for pair in pairs for view in pair])
                renderings += drawn[::2]
                seconds += drawn[1::2]
            else:
                renderings += self._compose(part)
        size = self._size
        if not chosen:
            return Batch(
                ids=(),
                images=torch.empty(0, 3, size, size, dtype=torch.uint8),
                depth=torch.empty(0, 1, size, size),
                mask=torch.empty(0, 1, size, size),
            )
        extras = {"focal": torch.tensor([r.camera.focal for r in renderings])}
        later: dict[str, list[Callable[[], Tensor]]] = {}
        if self.name == "two_view":
            links = [
                composer.correspondence(a, b) for a, b in zip(renderings, seconds, strict=True)
            ]
            extras |= {
                "second_image": torch.stack([r.image for r in seconds]),
                "second_depth": torch.stack([r.depth for r in seconds]),
                "second_mask": torch.stack([r.mask for r in seconds]),
                "second_focal": torch.tensor([r.camera.focal for r in seconds]),
                "correspondence": torch.stack([pixels for pixels, _ in links]),
                "visible": torch.stack([visible for _, visible in links]),
            }
        textures = [recipe.texture for recipe in chosen if recipe.texture is not None]
        if textures:
            later["texture"] = [functools.partial(_surface, one, size) for one in textures]
        if self.name == "clean":
            later["occluder"] = [functools.partial(_occluder, recipe) for recipe in chosen]
        beside = LazyExtras(extras, later)
        images = torch.stack([r.image for r in renderings])
        mask = torch.stack([r.mask for r in renderings])
        if self.name == "cue_conflict":
            images = _fill(images, mask, beside["texture"])
        if self.name == "written":
            images = _write(chosen, images)
        return Batch(
            ids=tuple(recipe.key for recipe in chosen),
            images=images,
            depth=torch.stack([r.depth for r in renderings]),
            mask=mask,
            extras=beside,
        )

    def load_pairs(self, indices: Sequence[int]) -> PairBatch:
        """Compose pairs of ``two_view``, their pictures with a side of :data:`PAIR_SIDE`.

        Places to match lie on the object where both views see it; candidates on the object in the second.

        Raises:
            NotRun: the samples of this data set are no pairs.
        """
        if self.name != "two_view":
            raise NotRun(f"the samples of data set {self.name!r} are no pairs of pictures")
        chosen = [self._recipes[i] for i in indices]
        scenes = [_pair_scene(recipe, PAIR_SIDE) for recipe in chosen]
        cameras = [composer.second_camera(s, r.key)[0] for s, r in zip(scenes, chosen, strict=True)]
        firsts = composer.compose_all([(scene, None) for scene in scenes])
        seconds = composer.compose_all(list(zip(scenes, cameras, strict=True)))
        ids = tuple(recipe.key for recipe in chosen)
        return PairBatch(
            _batch(ids, firsts),
            _batch(ids, seconds),
            tuple(_links(a, b) for a, b in zip(firsts, seconds, strict=True)),
        )

    def _compose(self, recipes: Sequence[_Recipe]) -> list[composer.Rendering]:
        """Return the renderings of recipes, of which some may be patterns without a scene."""
        scenes = {i: self._scene(r) for i, r in enumerate(recipes) if r.drawing[0] != "pattern"}
        drawn = dict(
            zip(scenes, composer.compose_all([(s, None) for s in scenes.values()]), strict=True)
        )
        return [
            drawn[i]
            if i in drawn
            else composer.frontal_pattern(composer.hashed(recipe.key, "pattern"), self._size)
            for i, recipe in enumerate(recipes)
        ]

    def _scene(self, recipe: _Recipe) -> composer.Scene:
        if isinstance(recipe, _TwoThings):
            things = (_sprite(recipe.drawing), _sprite(recipe.right))
            return composer.side_by_side(recipe.pair, things, recipe.tints, self._size)
        _, style, name, _ = recipe.drawing
        scene = composer.neutral(recipe.key, _sprite(recipe.drawing), self._size)
        if not recipe.factor:
            return scene
        redrawn = sprites.sprite(recipe.groups["style"], name) if recipe.factor == "style" else None
        number = {"object_blocking": 1, "multiple_objects": 2}.get(recipe.factor, 0)
        return composer.vary(
            scene,
            recipe.factor,
            recipe.key,
            other_style=redrawn,
            companions=_others(recipe.key, style, number) if number else (),
        )

    def _pair(
        self, recipe: _Recipe
    ) -> tuple[
        tuple[composer.Scene, composer.Camera | None], tuple[composer.Scene, composer.Camera | None]
    ]:
        scene = _pair_scene(recipe, self._size)
        camera, _ = composer.second_camera(scene, recipe.key)
        return (scene, None), (scene, camera)


def _batch(ids: tuple[str, ...], renderings: Sequence[composer.Rendering]) -> Batch:
    return Batch(
        ids,
        torch.stack([r.image for r in renderings]),
        torch.stack([r.depth for r in renderings]),
        torch.stack([r.mask for r in renderings]),
        {"focal": torch.tensor([r.camera.focal for r in renderings])},
    )


def _links(first: composer.Rendering, second: composer.Rendering) -> Links:
    """Return which places of the object in one view are which in another."""
    places, visible = composer.correspondence(first, second)
    step = _lattice(first.camera.size)
    seen = visible[0] & step
    shown, there = (r.mask[0] > 0.5 for r in (first, second))
    if int((seen & shown).sum()) < _FEWEST_PLACES or int((there & step).sum()) < _FEWEST_PLACES:
        shown, there = torch.ones_like(shown), torch.ones_like(there)
    rows, columns = torch.nonzero(seen & shown, as_tuple=True)
    candidates = torch.nonzero(there & step)
    in_space, found_in_space = composer.surface_points(first), composer.surface_points(second)
    return Links(
        points=torch.stack([columns, rows], 1) + 0.5,
        truth=places[:, rows, columns].T.contiguous(),
        candidates=candidates.flip(1) + 0.5,
        truth_3d=in_space[:, rows, columns].T.contiguous(),
        candidates_3d=found_in_space[:, candidates[:, 0], candidates[:, 1]].T.contiguous(),
    )


def _lattice(size: int) -> Tensor:
    """Return which pixels (size, size) are places to match."""
    every = torch.arange(size) % _PAIR_STEP == _PAIR_STEP // 2
    return every[:, None] & every[None]


def _surface(drawing: tuple[str, str, str, int], size: int) -> Tensor:
    """Return the surface of a drawing, (3, size, size) in [0, 1]."""
    return _texture(drawing, size).to(torch.float32) / 255.0


def _occluder(recipe: _Recipe) -> Tensor:
    """Return a prop in the middle of a transparent canvas, (4, 224, 224) in [0, 1]."""
    canvas = torch.zeros(4, _SPRITE_SIDE, _SPRITE_SIDE, dtype=torch.uint8)
    pixels = _others(recipe.key, recipe.drawing[1], 1)[0]
    height, width = pixels.shape[:2]
    top, left = (_SPRITE_SIDE - height) // 2, (_SPRITE_SIDE - width) // 2
    canvas[:, top : top + height, left : left + width] = torch.from_numpy(
        pixels.transpose(2, 0, 1).copy()
    )
    return canvas.to(torch.float32) / 255.0


def _fill(images: Tensor, mask: Tensor, texture: Tensor) -> Tensor:
    """Return (B, 3, H, W) uint8 with the object's surface replaced, one by one."""
    filled = [
        texture_fill(
            images[i : i + 1].to(torch.float32) / 255.0,
            mask=mask[i : i + 1],
            texture=texture[i : i + 1],
            strength=1.0,
        )
        for i in range(len(images))
    ]
    return (torch.cat(filled) * 255.0).round().to(torch.uint8)
