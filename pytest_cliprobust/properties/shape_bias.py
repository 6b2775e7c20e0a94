"""Shape bias on cue-conflict images (Geirhos et al. 2019; model-vs-human, Geirhos et al. 2021).

shape bias = shape decisions / (shape decisions + texture decisions), over images whose shape and
texture come from different classes; decisions for any third class do not enter, and their share is
reported beside it. People, and models that answer in words, may name no class at all: that is a decision
for neither cue.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.datasets.cue_names import parse_cue_conflict_name as parse_cue_conflict_name
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Bools, Floats, Ints, as_labels, as_matrix, softmax
from pytest_cliprobust.figures.bootstrap import (
    DEFAULT,
    Bootstrap,
    bootstrap_figure,
    mean_figure,
    proportion_figure,
)
from pytest_cliprobust.figures.condition import against
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.means import (
    IN_A_CHANGE,
    compare_means,
    quotient_values,
    ratio_values,
)
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.outcomes import Outcomes, quotient, ratio, sums
from pytest_cliprobust.figures.samples import Samples, shared
from pytest_cliprobust.figures.taken import takes_samples


def _span(*parts: int | tuple[int, int]) -> tuple[int, ...]:
    indices: list[int] = []
    for part in parts:
        indices.extend([part] if isinstance(part, int) else range(part[0], part[1] + 1))
    return tuple(indices)


IMAGENET_CLASSES = 1000

#: The decision of an answer that names no class: for neither cue.
NO_CLASS = -1

#: Where people's decisions lie, with their source.
PEOPLE = Path(__file__).parent / "data" / "human_shape_bias.toml"

#: The 16 entry-level classes of Geirhos et al. 2018/2019 as ImageNet-1k class indices, as
#: model-vs-human (bethgelab/model-vs-human, human_categories.py) groups them.
ENTRY_LEVEL_CLASSES: Mapping[str, tuple[int, ...]] = {
    "airplane": (404,),
    "bear": _span((294, 297)),
    "bicycle": (444, 671),
    "bird": _span(
        8, (10, 16), (18, 20), (22, 24), (80, 83), (87, 96), (98, 100), (127, 133), (135, 145)
    ),
    "boat": (472, 554, 625, 814, 914),
    "bottle": (440, 720, 737, 898, 899, 901, 907),
    "car": (436, 511, 817),
    "cat": _span((281, 286)),
    "chair": (423, 559, 765, 857),
    "clock": (409, 530, 892),
    "dog": _span(
        (152, 191),
        (193, 203),
        (205, 226),
        (228, 241),
        (243, 250),
        (252, 257),
        259,
        (261, 263),
        (265, 268),
    ),
    "elephant": (385, 386),
    "keyboard": (508, 878),
    "knife": (499,),
    "oven": (766,),
    "truck": (555, 569, 656, 675, 717, 734, 864, 867),
}


@takes_samples
def shape_bias_of(samples: Samples) -> dict[str, Figure]:
    """Return the shape-bias figures of cue-conflict samples: see :func:`shape_bias_figures`.

    The columns ``shape_label`` and ``texture_label`` name the two classes of each sample. Each name is
    a class of the label set, or, with ImageNet's 1,000 classes, one of the sixteen entry-level classes.
    Decisions are among the classes that the samples show; where these are of the sixteen, among all of them.

    Raises:
        ClipRobustError: no such columns, or a name that is neither.
    """
    cues = _cues(samples)
    figures = shape_bias_figures(
        _decisions(samples, cues.names),
        cues.shapes,
        cues.textures,
        cues.names,
        bootstrap=samples.bootstrap,
    )
    return {metric: figure.measured_on(samples.condition) for metric, figure in figures.items()}


@dataclass(frozen=True)
class _Cues:
    """What samples show: ``names`` of the classes that compete, and (N,) indices into them."""

    names: list[str]
    shapes: Ints
    textures: Ints


def _cues(samples: Samples) -> _Cues:
    for column in ("shape_label", "texture_label"):
        if column not in samples.groups:
            raise ClipRobustError(
                f"data set {samples.condition.dataset!r} has no column {column!r}, so it holds no cue "
                "conflicts"
            )
    shapes, textures = samples.groups["shape_label"], samples.groups["texture_label"]
    names = _competing({*shapes, *textures}, samples.class_names)
    index = {name: number for number, name in enumerate(names)}
    return _Cues(
        names,
        np.array([index[name] for name in shapes], dtype=np.int64),
        np.array([index[name] for name in textures], dtype=np.int64),
    )


def _competing(shown: set[str], class_names: Sequence[str]) -> list[str]:
    """Return the names of the classes that decisions are among, sorted: those that the samples show.

    Of the published sixteen all compete, as in model-vs-human, so that a part of the set is decided as all of
    it is.
    """
    sixteen, head = set(ENTRY_LEVEL_CLASSES), set(class_names)
    grouped = len(class_names) == IMAGENET_CLASSES and not sixteen & head
    every = shown <= sixteen and (grouped or sixteen <= head)
    return sorted(sixteen if every else shown)


@dataclass(frozen=True)
class CueDecisions:
    """What was decided on N samples.

    Attributes:
        conflict: (N,) whether shape and texture are of different classes.
        shape, either: (N,) whether it was decided for the shape, or for one of the two; never without a
            conflict.
    """

    conflict: Bools
    shape: Bools
    either: Bools


@takes_samples
def cue_decisions(samples: Samples) -> CueDecisions:
    """Return which cue-conflict samples were decided for a cue.

    Raises:
        ClipRobustError: as for :func:`shape_bias_of`.
    """
    cues = _cues(samples)
    chosen = _decisions(samples, cues.names)
    conflict = cues.shapes != cues.textures
    shape = (chosen == cues.shapes) & conflict
    return CueDecisions(conflict, shape, shape | ((chosen == cues.textures) & conflict))


def _decisions(samples: Samples, names: Sequence[str]) -> Ints:
    members = [_members(name, samples.class_names) for name in names]
    return group_decisions(softmax(samples.logits), members)


def _members(name: str, class_names: Sequence[str]) -> list[int]:
    """Return the classes of the head that stand for a class of the conflict."""
    if name in class_names:
        return [class_names.index(name)]
    if len(class_names) == IMAGENET_CLASSES and name in ENTRY_LEVEL_CLASSES:
        return list(ENTRY_LEVEL_CLASSES[name])
    raise ClipRobustError(f"cue-conflict class {name!r} is no class of the label set")


def group_decisions(probabilities: ArrayLike, groups: Sequence[Sequence[int]]) -> Ints:
    """Return the decided group (N,): the largest *mean* class probability within the groups.

    Model-vs-human's decision mapping: probabilities (after the softmax over all classes) are
    averaged within each group, so that a group with many classes gains nothing by their number.
    Classes outside all groups do not compete. With one class to each group this is the arg max.

    Args:
        probabilities: (N, C) in [0, 1], softmax over all C classes.
        groups: class indices of each of the G groups.

    Raises:
        ClipRobustError: values outside [0, 1] (logits, say), an empty group, or an index >= C.
    """
    matrix = as_matrix(probabilities, "probabilities")
    if matrix.min() < 0.0 or matrix.max() > 1.0 + 1e-9:
        raise ClipRobustError(
            "cue-conflict decisions average probabilities in [0, 1]; apply the softmax first."
        )
    means = []
    for number, members in enumerate(groups):
        if not members or min(members) < 0 or max(members) >= matrix.shape[1]:
            raise ClipRobustError(
                f"group {number} is empty or names a class outside the {matrix.shape[1]} classes."
            )
        means.append(matrix[:, list(members)].mean(axis=1))
    return np.asarray(np.stack(means, axis=1).argmax(axis=1), dtype=np.int64)


@register_metric(
    "shape_bias", higher_is_better=True, meaning="shape decisions among shape and texture decisions"
)
@register_metric(
    "cue_accuracy",
    higher_is_better=True,
    meaning="share of cue-conflict images decided for either cue",
)
@register_metric(
    "other_decisions",
    higher_is_better=False,
    meaning="share of cue-conflict images decided for neither cue",
)
def shape_bias_figures(
    decisions: ArrayLike,
    shapes: ArrayLike,
    textures: ArrayLike,
    class_names: Sequence[str],
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return ``shape_bias``, ``cue_accuracy`` and ``other_decisions``, each with Wilson's interval.

    Images whose shape and texture are of one class have no conflict and are dropped (80 of the 1,280
    of the published set). ``shape_bias`` rests on the images decided for one of the two cues, which
    is its n, and is undefined where there is none; ``cue_accuracy`` is the share of images decided
    for either cue, ``other_decisions`` its complement. The details of ``shape_bias`` hold
    ``per_class`` (by shape class: shape and texture decisions, n, shape bias or None), the ``class_mean``
    of the defined ones, how many decisions were for ``neither`` and of them for ``no_class`` at all, and
    the number of images dropped.

    Args:
        decisions: (N,) class indices in [0, G), or :data:`NO_CLASS`.
        shapes, textures: (N,) class indices in [0, G).
        class_names: (G,), for the details; kept by index.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: indices outside [0, G), or no image with a conflict.
    """
    count, groups = len(np.asarray(shapes)), len(class_names)
    chosen = np.asarray(decisions)
    named = as_labels(np.where(chosen == NO_CLASS, 0, chosen), count, groups, "decisions")
    chosen = np.where(chosen == NO_CLASS, NO_CLASS, named)
    shape = as_labels(shapes, count, groups, "shape classes")
    texture = as_labels(textures, count, groups, "texture classes")
    conflict = shape != texture
    if not conflict.any():
        raise ClipRobustError(
            f"none of the {count} images has a cue conflict: shape and texture are always of the "
            "same class."
        )
    own = bootstrap.subset(np.flatnonzero(conflict).astype(np.int64))
    chosen, shape, texture = chosen[conflict], shape[conflict], texture[conflict]
    by_shape, by_texture = chosen == shape, chosen == texture
    decided = by_shape | by_texture
    per_class = _per_class(by_shape, by_texture, shape, class_names)
    details = {
        "shape": int(by_shape.sum()),
        "texture": int(by_texture.sum()),
        "neither": int((~decided).sum()),
        "no_class": int((chosen == NO_CLASS).sum()),
        "dropped_without_conflict": int((~conflict).sum()),
        "per_class": per_class,
        "class_mean": _class_mean(per_class),
    }
    figures = [
        _shape_bias_figure(by_shape, decided, details, own),
        proportion_figure("cue_accuracy", decided, own),
        proportion_figure("other_decisions", ~decided, own),
    ]
    return {figure.metric: figure for figure in figures}


def _shape_bias_figure(
    by_shape: Bools, decided: Bools, details: dict[str, Any], bootstrap: Bootstrap
) -> Figure:
    """Return the share of shape among the decisions for either cue.

    Which images these are depends on the model: runs are compared over all of them.
    """
    among = bootstrap.subset(np.flatnonzero(decided).astype(np.int64))
    outcomes = Outcomes(
        {"hits": by_shape, "trials": decided},
        quotient,
        keys=bootstrap.keys,
        compare=compare_means(quotient_values),
    )
    figure = proportion_figure("shape_bias", by_shape[decided], among, details)
    return replace(figure, outcomes=outcomes)


def _class_mean(per_class: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean over the classes whose shape bias is defined, None without any."""
    defined = [entry["shape_bias"] for entry in per_class if entry["shape_bias"] is not None]
    return float(np.mean(np.asarray(defined, np.float64))) if defined else None


def _per_class(
    by_shape: Bools, by_texture: Bools, shape: Ints, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return what was decided on the images of each shape class, JSON-able."""
    entries = []
    for number in np.unique(shape).tolist():
        rows = shape == number
        decided = Decided(
            int(by_shape[rows].sum()),
            int(by_texture[rows].sum()),
            int((~(by_shape | by_texture)[rows]).sum()),
        )
        entries.append(
            {
                "class": number,
                "name": class_names[number],
                "shape": decided.shape,
                "texture": decided.texture,
                "n": int(rows.sum()),
                "shape_bias": decided.shape_bias,
            }
        )
    return entries


def decisions_of(answers: Iterable[str], class_names: Sequence[str]) -> Ints:
    """Return the class (N,) that each answer in words names, :data:`NO_CLASS` where it names none.

    For people's answers (``na`` is none) and a model's that speaks. The whole answer must be a class's
    name, whatever its case, articles and full stop.

    Example:
        >>> decisions_of(["A cat.", "na", "dog"], ["cat", "dog"])
        array([ 0, -1,  1])
    """
    known = {_plain(name): number for number, name in reversed(list(enumerate(class_names)))}
    return np.array([known.get(_plain(answer), NO_CLASS) for answer in answers], dtype=np.int64)


def _plain(text: str) -> str:
    words = text.lower().strip(" .!\n\t\"'").split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words)


@register_metric(
    "shape_bias_change",
    higher_is_better=None,
    meaning="shape bias under a perturbation minus shape bias of the same images without",
    low=-1.0,
)
@takes_samples
def shape_bias_change(clean: Samples, shifted: Samples) -> Figure:
    """Return ``shape_bias_change``: shape bias of ``shifted`` minus that of ``clean``, in [-1, 1].

    On the samples that both have, paired. Which of them are decided for a cue differs between the two.
    Undefined where none is in one of them.

    Raises:
        ClipRobustError: no sample is in both, or they hold no cue conflicts.
    """
    common = shared(clean, shifted)
    columns: dict[str, Bools] = {}
    for view, rows, when in zip((clean, shifted), common.rows, ("before", "after"), strict=True):
        decided = cue_decisions(view)
        columns[f"hits_{when}"] = decided.shape[rows]
        columns[f"trials_{when}"] = decided.either[rows]
    figure = _change_figure(columns, common.bootstrap)
    return figure.measured_on(against(shifted.condition, clean.condition))


def _change_figure(columns: Mapping[str, Bools], bootstrap: Bootstrap) -> Figure:
    """Return the change of the quotient of ``hits_after`` and ``trials_after`` from that before."""
    outcomes = Outcomes(columns, _difference)
    return mean_figure(
        "shape_bias_change",
        _difference_values(outcomes),
        bootstrap,
        outcomes=outcomes,
        linear=_difference_values,
        value=outcomes.value(),
        supposed=(1.0, -1.0),
        worth=IN_A_CHANGE,
        bounds=(-1.0, 1.0),
        details={name: int(column.sum()) for name, column in columns.items()},
    )


def _difference(weights: Floats, outcomes: Outcomes) -> Floats:
    before, after = (
        ratio(sums(weights, outcomes[f"hits_{w}"]), sums(weights, outcomes[f"trials_{w}"]))
        for w in ("before", "after")
    )
    return after - before


def _difference_values(outcomes: Outcomes) -> Floats:
    before, after = (
        ratio_values(
            outcomes[f"hits_{w}"].astype(np.float64), outcomes[f"trials_{w}"].astype(np.float64)
        )
        for w in ("before", "after")
    )
    return after - before


@register_metric(
    "prompt_mean_shape_bias", higher_is_better=True, meaning="mean shape bias over prompt templates"
)
@register_metric(
    "prompt_shape_bias_spread",
    higher_is_better=None,
    meaning="largest minus smallest shape bias over prompt templates",
    gateable=False,
    why_not_gateable="noise alone sets templates apart; bound prompt_mean_shape_bias",
)
@takes_samples
def shape_bias_over_prompts(
    samples: Samples, singles: Iterable[tuple[str, Samples]]
) -> list[Figure]:
    """Return how the shape bias of ``samples`` varies over prompt templates.

    ``prompt_mean_shape_bias``, the mean over single templates, with ``templates`` in its details (of each
    template shape bias, its interval, and the share decided for neither cue); and
    ``prompt_shape_bias_spread``, the largest minus the smallest. A template without a decision for either
    cue leaves both undefined.

    Args:
        samples: cue conflicts.
        singles: each template with the same samples as it alone answers them
            (``clip.under_each_template(view)``).

    Raises:
        ClipRobustError: other samples under a template, or no cue conflicts.
    """
    table, columns, keys = _by_template(samples, singles)
    outcomes = Outcomes(columns, _mean_of_templates)
    own = samples.bootstrap.of(keys)
    spread = replace(outcomes, statistic=_spread_of_templates)
    made = [
        mean_figure(
            "prompt_mean_shape_bias",
            _template_values(outcomes),
            own,
            outcomes=outcomes,
            linear=_template_values,
            value=outcomes.value(),
            supposed=(1.0, 0.0),
            bounds=(0.0, 1.0),
            details={"templates": table},
        ),
        bootstrap_figure(
            "prompt_shape_bias_spread",
            spread.value(),
            spread,
            own,
            method="basic",
            bounds=(0.0, 1.0),
            trials=len(outcomes),
        ),
    ]
    return [figure.measured_on(samples.condition) for figure in made]


def _by_template(
    samples: Samples, singles: Iterable[tuple[str, Samples]]
) -> tuple[list[dict[str, Any]], dict[str, Bools], SampleKeys | None]:
    """Return a line of each template, its decisions as columns (N, T), and whose they are."""
    table, hits, trials = [], [], []
    keys: SampleKeys | None = None
    for template, view in singles:
        if view.ids != samples.ids:
            raise ClipRobustError(f"template {template!r} answers other samples than the ensemble")
        figures = shape_bias_of(view)
        bias = figures["shape_bias"]
        assert bias.outcomes is not None
        hits.append(bias.outcomes["hits"])
        trials.append(bias.outcomes["trials"])
        keys = bias.outcomes.keys
        table.append(
            {
                "template": template,
                "shape_bias": bias.value,
                "low": bias.low,
                "high": bias.high,
                "n": bias.n,
                "other_decisions": figures["other_decisions"].value,
            }
        )
    return table, {"hits": np.stack(hits, 1), "trials": np.stack(trials, 1)}, keys


def _each_template(weights: Floats, outcomes: Outcomes) -> Floats:
    return ratio(sums(weights, outcomes["hits"]), sums(weights, outcomes["trials"]))


def _mean_of_templates(weights: Floats, outcomes: Outcomes) -> Floats:
    return np.asarray(_each_template(weights, outcomes).mean(axis=1))


def _spread_of_templates(weights: Floats, outcomes: Outcomes) -> Floats:
    return np.asarray(np.ptp(_each_template(weights, outcomes), axis=1))


def _template_values(outcomes: Outcomes) -> Floats:
    """Return values (N,) of which the mean over templates of their shape biases is the mean, nearly."""
    pairs = zip(outcomes["hits"].T, outcomes["trials"].T, strict=True)
    each = [ratio_values(h.astype(np.float64), t.astype(np.float64)) for h, t in pairs]
    return np.asarray(np.mean(each, axis=0))


@dataclass(frozen=True)
class Decided:
    """How many decisions on images of one shape class were for the shape, the texture, and neither."""

    shape: int
    texture: int
    neither: int

    @property
    def shape_bias(self) -> float | None:
        """Shape decisions among those for either cue, None without any."""
        either = self.shape + self.texture
        return self.shape / either if either else None


def people_decided() -> dict[str, Decided]:
    """Return what people decided on the published cue conflicts, by shape class.

    Ten people, 1,200 images (Geirhos et al. 2019), from :data:`PEOPLE`, which names the source: shape
    bias 0.959 over all.
    """
    classes = tomllib.loads(PEOPLE.read_text(encoding="utf-8"))["classes"]
    return {name: Decided(*map(int, counts)) for name, counts in classes.items()}
