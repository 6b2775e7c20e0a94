"""Model cards: what a model is, in the factors of the study.

The facts come from three places, each of which overrides those after it: a TOML file of the user's, the
table of open_clip's models (``zoo.csv``, its training sets with their sources in ``zoo_data.csv``), and the
tags that a run has of each model (those of a folder's ``model_card.json`` are among them).
"""

from __future__ import annotations

import csv
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pytest_cliprobust.errors import ClipRobustError, as_toml, did_you_mean
from pytest_cliprobust.files import shown_path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Card:
    """What a model is; an empty text or None is a fact that is not known.

    Attributes:
        architecture: family of the image tower (``ViT``, ``ResNet``, ``ConvNeXt``).
        parameters: how many the model has.
        data: the distribution that it was trained on.
        set_size: how many pairs of image and text, or drawings, are in its training set.
        fine_tuning: on what it was fine-tuned, ``none`` if it was not.
        loss: the contrastive loss.
        seed: of the training; models that differ in it alone show the spread between trainings.
        base: the model that it was fine-tuned from, by its name.
    """

    architecture: str = ""
    parameters: float | None = None
    data: str = ""
    set_size: float | None = None
    fine_tuning: str = ""
    loss: str = ""
    seed: str = ""
    base: str = ""

    def updated(self, facts: Mapping[str, Any], source: str) -> Card:
        """Return the card with ``facts`` in place of its own.

        Raises:
            ClipRobustError: a fact of another name, or a size that is no number above 0.
        """
        known = [field.name for field in fields(self)]
        changes: dict[str, Any] = {}
        for name, value in facts.items():
            if name not in known:
                raise ClipRobustError(
                    f"{source}: a model card has no {name!r}.{did_you_mean(name, known)} It has "
                    f"{', '.join(known)}"
                )
            changes[name] = _size(value, name, source) if name in SIZES else str(value)
        return replace(self, **changes)


SIZES = ("parameters", "set_size")
"""The facts that are numbers; their logarithms are what the study is about."""

UNKNOWN = Card()


def _size(value: Any, name: str, source: str) -> float:
    try:
        number = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise ClipRobustError(f"{source}: {name} = {as_toml(value)} is no number above 0")
    return number


@functools.cache
def zoo() -> Mapping[tuple[str, str], Card]:
    """Return the cards of open_clip's models, by architecture and tag."""
    sizes = {row["data"]: row["set_size"] for row in _rows("zoo_data.csv")}
    cards = {}
    for row in _rows("zoo.csv"):
        key = (row.pop("model"), row.pop("pretrained"))
        facts: dict[str, Any] = dict(row)
        if size := sizes[row["data"]]:
            facts["set_size"] = size
        cards[key] = UNKNOWN.updated(facts, "zoo.csv")
    return cards


def sources() -> Mapping[str, str]:
    """Return where the facts about each training set of :func:`zoo` were published."""
    return {row["data"]: row["source"] for row in _rows("zoo_data.csv")}


def _rows(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_cards(path: Path) -> dict[str, dict[str, Any]]:
    """Return the facts of a user's TOML file: tables ``[model."NAME"]``.

    Raises:
        ClipRobustError: the file cannot be read, or holds something else.
    """
    shown = shown_path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClipRobustError(f"{shown}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ClipRobustError(f"{shown}: not a TOML file: {error}") from None
    models = content.get("model", {})
    others = sorted(content.keys() - {"model"})
    if (
        others
        or not isinstance(models, dict)
        or not all(isinstance(m, dict) for m in models.values())
    ):
        raise ClipRobustError(
            f'{shown}: cards stand in tables [model."NAME"]'
            + (f", not in {others[0]!r}" if others else "")
        )
    for name, facts in models.items():
        UNKNOWN.updated(facts, f"{shown}: model {name}")
    return models


def card_of(
    name: str, model: Mapping[str, Any], given: Mapping[str, Mapping[str, Any]] | None = None
) -> Card:
    """Return the card of a model.

    Args:
        name: the model's, in the run.
        model: what the run says of it (:class:`~pytest_cliprobust.results.run.ModelSummary`).
        given: the user's facts by name, see :func:`read_cards`.
    """
    tags = dict(model.get("tags", {}))
    if "training_data" in tags:
        tags.setdefault("data", tags["training_data"])
    if tags.get("fine_tuned") == "no":
        tags.setdefault("fine_tuning", "none")
    known = {field.name for field in fields(Card)}
    card = UNKNOWN.updated({k: v for k, v in tags.items() if k in known}, f"model {name}")
    pair = (str(model.get("architecture", "")), str(model.get("pretrained", "")))
    listed = zoo().get(pair)
    if listed is not None:
        facts = {field.name: getattr(listed, field.name) for field in fields(Card)}
        card = card.updated({k: v for k, v in facts.items() if v}, "zoo.csv")
    return card.updated((given or {}).get(name, {}), f"model {name}")
