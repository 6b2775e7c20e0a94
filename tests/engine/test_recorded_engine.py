"""What the parts of the engine that need no run decide and say, as the record has it.

That it is right is for the other tests to show. After a change that is meant, look at what differs in
``recorded.txt`` and record anew::

    RECORD=1 python -m pytest -q tests/engine/test_recorded_engine.py
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import records
import torch
from torch import Tensor, nn

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.base import Batch, LazyExtras
from pytest_cliprobust.engine import (
    head,
    memory,
    mixing,
    multimodal,
    negatives,
    performance,
    probe,
    texts,
)
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.engine.recent import Recent
from pytest_cliprobust.engine.steps import steps_of
from pytest_cliprobust.engine.store import OddPictures, PictureStore
from pytest_cliprobust.engine.text_table import TextTable
from pytest_cliprobust.engine.transfer import Fetched, moved, pinned, pinned_tensor
from pytest_cliprobust.errors import ClipRobustError, NotRun

pytestmark = pytest.mark.floors

RECORD = Path(__file__).with_name("recorded.txt")


def tried(call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Return what a call gives, or its mistake."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(*given, **named)
    except (ClipRobustError, NotRun, OddPictures, torch.OutOfMemoryError) as error:
        return f"{type(error).__name__}: {error}"


def numbers(values: Any) -> str:
    """Return all numbers of an array, to three digits."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    return " ".join(f"{value:.3f}" for value in flat)


class Words:
    """A text encoder: random words, as many of them as it reads, in lower case if it is so told."""

    info = SimpleNamespace(name="words")
    embed_dim = 4

    def __init__(self, most: int = 99, lower: bool = False, constant: bool = False) -> None:
        self.most, self.lower, self.constant = most, lower, constant
        self.asked: list[int] = []

    def encode_text(self, given: Sequence[str]) -> Tensor:
        self.asked.append(len(given))
        return torch.stack([self._row(text) for text in given]).float()

    def _row(self, text: str) -> Tensor:
        if self.constant:
            return torch.ones(4)
        if text == "zero":
            return torch.zeros(4)
        if self.lower:
            text = "".join(c for c in text.casefold() if c.isalnum())
        rows = [
            np.random.default_rng(
                zlib.crc32(f"{place} {word}".encode("utf-8", "surrogatepass"))
            ).normal(size=4)
            for place, word in enumerate(text.split(" ")[: self.most])
        ]
        return torch.from_numpy(np.sum(rows, axis=0))


# --- Steps and conditions ---------------------------------------------------------------------------


def steps(root: Path) -> Iterator[str]:
    given: tuple[tuple[Any, ...], ...] = (
        *(("fog_3d",), ("fog_3d", 3), ("fog_3d", None, {"angle": 2.0}), ("clean",), ("clean", 1)),
        *(("clean", None, {"a": 1.0}), ([("fog_3d", 3), "blur"],), ([],), (["a", ("b", None)],)),
        *((("fog_3d", 3),), (("a", "b"),), ([("a", 1)], 2), ([("a", 1)], None, {"x": 1.0})),
        *((3,), (None,), ({"a": 1},), ([3],), ([("a", "b")],), ([("a", 1, 2)],), ([(1, "a")],)),
        *(("a", True), ("a", 1.5), ("a", "3"), ([("a", True)],), ("a", 0), ("a", -1)),
        *(("a", None, {"x": "y"}), ("a", None, {"x": float("nan")}), ("a", None, {"x": True})),
        *(("a", None, {"a": 1, "b": float("nan")}), ("a", None, {"z": 1, "b": 2.5})),
        *(("a", 2, {"x": float("inf")}), (iter(["a", "b"]),)),
    )
    for one in given:
        shown = re.sub(r"<.*?>", "…", repr(one))
        yield f"{shown}: {tried(steps_of, *one)}"


def conditions(root: Path) -> Iterator[str]:
    ids = [f"cat/{n}" for n in range(40)]
    names = ["fog_3d@1", "fog_3d@3", "noise@1", "blur", "ä"]
    for count in (1, 2, 5):
        yield f"{count} conditions: {mixing.drawn(ids, names[:count]).tolist()}"
    yield f"another order: {mixing.drawn(ids[::-1], names).tolist()}"
    for wrong in ((), ("a", "a"), ("a", "b", "a")):
        yield f"{wrong}: {tried(mixing.drawn, ids, wrong)}"
    yield f"no ids: {mixing.drawn([], names).tolist()}"


def configurations(root: Path) -> Iterator[str]:
    config = RunConfig(("a", "b"), sources={"a": "x=/y"})
    yield f"sources {config.source('a')}, {config.source('b')}"
    for field in dataclasses.fields(config):
        yield f"{field.name} = {getattr(config, field.name)!r}"


# --- The zero-shot head -----------------------------------------------------------------------------


def heads(root: Path) -> Iterator[str]:
    labels = ["cat", "hot dog", "crane", "crane"]
    templates: list[head.Template] = ["a photo of a {}.", lambda name: f"{name}!", "{} and {}"]
    for template in templates:
        yield f"prompt {head.render(template, 'hot dog')!r}"
    yield f"no place: {tried(head.render, 'a photo', 'cat')}"
    words = Words()
    made = head.template_heads(words, labels, templates)
    yield f"heads {tuple(made.shape)} {made.dtype}: {numbers(made[0])}"
    yield f"asked for {words.asked} texts at a time"
    yield f"together: {numbers(head.ensemble_head(made))}"
    several: list[str | list[str]] = [["cat", "kitten"], "dog", ["a", "b", "c"]]
    yield f"several names: {numbers(head.zero_shot_head(words, several, templates))}"
    some = Words()
    some.at_once = 3  # type: ignore[attr-defined]
    head.zero_shot_head(some, labels, templates)
    yield f"three at a time: {some.asked}"
    for title, encoder, names in (
        ("no label", Words(), []),
        ("a zero", Words(), ["zero"]),
        ("constant", Words(constant=True), labels),
        ("short", Words(most=4), ["cat", "dog one", "dog two"]),
        ("shorter", Words(most=5), ["fine dog one", "fine dog two", "cat"]),
        ("ignoring case", Words(lower=True), ["Cat", "cat", "c-a-t", "dog"]),
        ("many", Words(most=4), [f"a thing {n}" for n in range(9)]),
        ("long", Words(most=4), [f"{'very ' * 20}long thing {n}" for n in range(3)]),
        ("equal names", Words(), ["crane", "crane"]),
    ):
        template = "{}" if title == "a zero" else "a photo of {}"
        found = tried(head.template_heads, encoder, names, [template])
        yield f"{title}: {found if isinstance(found, str) else tuple(found.shape)}"
        found = tried(head.template_heads, encoder, names, [template], distinct=False)
        yield f"  not distinct: {found if isinstance(found, str) else tuple(found.shape)}"
    yield f"no template: {tried(head.template_heads, words, labels, [])}"
    opposite = torch.stack([torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, -1.0]])]).double()
    yield f"cancelled: {tried(head.ensemble_head, opposite)}"
    images = torch.tensor([[1.0, 2.0], [-3.0, 0.5]])
    cosines = head.cosine_similarities(images, images)
    yield f"cosines {numbers(cosines)}"
    for wrong in (torch.zeros(1, 2), torch.ones(1, 3), torch.tensor([[float("nan"), 1.0]])):
        yield f"of {wrong.tolist()}: {tried(head.cosine_similarities, wrong, images, ids=['x'])}"
    for scale, bias in ((100.0, None), (10.0, -3.0), (0.0, None), (-1.0, None), (np.inf, None)):
        found = tried(head.zero_shot_logits, cosines, scale, bias)
        yield f"logits {scale} {bias}: {found if isinstance(found, str) else numbers(found)}"
    logits = head.zero_shot_logits(cosines, 5.0)
    yield f"softmax {numbers(head.probabilities(logits))}"
    yield f"sigmoid {numbers(head.probabilities(logits, 'sigmoid'))}"
    rows = np.array([[1.0, 0], [0, 1], [1, 1e-6], [0, 1], [1, 1e-4], [1, 0]])
    yield f"equal rows {[found.tolist() for found in texts.equal_rows(rows)]}"


def further_labels(root: Path) -> Iterator[str]:
    names = tuple(f"thing {n}" for n in range(150))
    for count in (0, 3, 150):
        clean: Any = SimpleNamespace(
            class_names=("cat", "Thing 1"),
            negative_phrases=(*names[:count], "CAT", "thing 2"),
            templates=("a {}.",),
        )
        found = tried(negatives.mined, Words(), clean, ("cat", "thing 1"))
        if isinstance(found, str):
            yield f"{count}: {found}"
        else:
            yield f"{count}: {found.names[:9]} of {len(found.names)}, {numbers(found.weights[:2])}"


# --- Memory, blocks, stores -------------------------------------------------------------------------


def recent(root: Path) -> Iterator[str]:
    kept: Recent[str] = Recent(10)
    for key, size, data in (
        *(("a", 4, "x"), ("b", 4, "x"), ("c", 4, "x"), ("d", 2, "x"), ("e", 1, "y"), ("f", 9, "y")),
        *(("f", 9, "y"), ("g", 11, "z"), ("h", 10, "z"), ("a", 1, "z"), ("i", 0, "z")),
    ):
        kept.keep(key, key.upper(), size, data)
        yield f"after {key}, {size} of {data}: {[*kept._entries]}, {kept._bytes} bytes"
        yield f"  a {kept.get('a')}, e {kept.get('e')}, {[*kept._entries]}"


def batches(root: Path) -> Iterator[str]:
    made: list[str] = []

    def maker(row: int) -> Tensor:
        made.append("x")
        return torch.tensor(float(row))

    batch = Batch(
        tuple("abcdefghij"),
        torch.arange(10)[:, None, None, None].expand(10, 3, 1, 1).to(torch.uint8),
        depth=torch.arange(10.0)[:, None, None, None],
        extras=LazyExtras(
            {"one": torch.arange(10)}, {"two": [partial(maker, row) for row in range(10)]}
        ),
    )
    part = memory.part_of(batch, slice(3, 6))
    yield f"part {part.ids}, {part.images[:, 0, 0, 0].tolist()}, {part.depth is not None}, {part.mask}"
    yield f"  {part.extras['one'].tolist()}, {part.extras['two'].tolist()}, {sorted(part.extras)}"
    for most, size in ((10, 10), (4, 10), (3, 4), (1, 8), (0, 8)):
        sizes: list[int] = []

        def compute(some: Batch, most: int = most, sizes: list[int] = sizes) -> Any:
            sizes.append(len(some.ids))
            if len(some.ids) > most:
                raise RuntimeError("CUDA out of memory")
            return some.images[:, 0, 0, 0].double()

        def halve(count: int) -> int:
            if count == 1:
                raise ClipRobustError("a single one is too many")
            return -(-count // 2)

        found = tried(memory.in_parts, compute, batch, size, halve)
        yield f"at most {most}, from {size}: {sizes}, {found if isinstance(found, str) else numbers(found)}"
    cpu = torch.device("cpu")
    yield f"pinned {pinned(batch, cpu) is batch}, {pinned_tensor(batch.images, cpu) is batch.images}"
    yield f"moved {moved(batch.images, cpu) is batch.images}"
    into = np.zeros((6, 2), dtype=np.float32)
    rows = Fetched(into, 1)
    for count in (2, 1):
        rows.add(torch.full((count, 2), float(count)))
        yield f"fetched {rows.done} {rows.given}: {numbers(into)}"
    for some in ([], ["a"], ["", "ä", "a\0b"], ["x" * 300]):
        block = multimodal.packed(some)
        yield f"packed {len(some)}: {block.shape}, back {multimodal.unpacked(block) == some}"
    holder: Any = SimpleNamespace(layer=nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), other=3)
    yield f"weights {performance.weights_of(holder)}"


def text_tables(root: Path) -> Iterator[str]:
    asked: list[list[str]] = []

    def encode(some: list[str]) -> Iterator[Any]:
        asked.append(some)
        for start in range(0, len(some), 2):
            yield Words().encode_text(some[start : start + 2]).numpy()

    def table() -> TextTable:
        def check(features: Any, some: Sequence[str]) -> None:
            if "bad" in some:
                raise ClipRobustError(f"bad among {list(some)}")

        return TextTable(FeatureCache(root / "cache"), {"model": "m"}, encode, check, 0.0)

    own = table()
    for some in (["a", "b", "c"], ["b", "d", "b"], ["a"], ["x", "bad"], ["x", "y"], ["\udce9"]):
        found = tried(own.rows, some)
        yield f"{some!r}: {found if isinstance(found, str) else numbers(found[:, 0])}, asked {asked}"
        asked.clear()
    other = table()
    yield f"another: {numbers(other.rows(['d', 'a', 'new'])[:, 0])}, asked {asked}"
    yield f"blocks {own._blocks}, {other._blocks}"


def pictures(root: Path) -> Iterator[str]:
    decoded: list[int] = []

    def decode(rows: list[int]) -> Tensor:
        decoded.extend(rows)
        return torch.stack([torch.full((3, 2, 2), row, dtype=torch.uint8) for row in rows])

    for turn in range(2):
        store = PictureStore(root / "a.store", 6, (2, 2))
        for rows in ([0, 1], [1, 2, 0], [5], [4, 4]):
            found = tried(store.get, rows, decode)
            told = found if isinstance(found, str) else found[:, 0, 0, 0].tolist()
            yield f"turn {turn}, {rows}: {told}, decoded {decoded}"
            decoded.clear()
    store._make()  # as another process has by now: nothing of it is lost
    yield f"made again: {tried(store.get, [0, 5], decode)[:, 0, 0, 0].tolist()}, decoded {decoded}"
    content = bytearray((root / "a.store").read_bytes())
    yield f"{len(content)} bytes"
    for place in (0, len(content) // 2, len(content) - 1):
        broken = bytearray(content)
        broken[place] ^= 255
        (root / "a.store").write_bytes(broken)
        again = PictureStore(root / "a.store", 6, (2, 2))
        found = tried(again.get, [0, 1, 5], decode)
        told = found if isinstance(found, str) else found[:, 0, 0, 0].tolist()
        yield f"byte {place} turned: {told}, decoded {decoded}"
        decoded.clear()
    for title, odd in (
        ("of another size", lambda rows: torch.zeros(len(rows), 3, 3, 2, dtype=torch.uint8)),
        ("of floats", lambda rows: torch.zeros(len(rows), 3, 2, 2)),
        ("too few", lambda rows: torch.zeros(1, 3, 2, 2, dtype=torch.uint8)),
    ):
        store = PictureStore(root / f"{title}.store", 6, (2, 2))
        found = tried(store.get, [3, 2], odd)
        yield f"{title}: {found if isinstance(found, str) else tuple(found.shape)}"


# --- The probe --------------------------------------------------------------------------------------


class Towers:
    """A model whose pictures' features are means of their channels; faults can be planted."""

    info = SimpleNamespace(name="towers")
    embed_dim = 3

    def __init__(self, fault: str = "") -> None:
        self.fault, self.calls = fault, 0
        self.layer = nn.Sequential(nn.Identity(), nn.Dropout(0.5)).train("training" in fault)
        self.layer[0].eval()
        if fault.startswith("coarse"):
            self.rounding = fault.split()[1]

    def preprocess(self, images: Tensor) -> Tensor:
        return images

    def encode_image(self, pixels: Tensor) -> Any:
        self.calls += 1
        rows = pixels.mean((2, 3)) + torch.tensor([0.0, 0.5, 0.0])
        rows /= rows.norm(dim=1, keepdim=True)
        size = {"slightly": 1e-3, "somewhat": 8e-3, "much": 0.1}.get(self.fault.split(" ")[0], 0.0)
        changes: dict[str, Callable[[], Any]] = {
            "fails": lambda: 1 / 0,
            "fails alone": lambda: rows if len(rows) > 1 else 1 / 0,
            "constant": lambda: torch.ones_like(rows),
            "one row": lambda: rows[:1],
            "a list": lambda: rows.tolist(),
            "nan": lambda: rows * float("nan"),
            "too wide": lambda: torch.cat([rows, rows], 1),
        }
        if self.fault in changes:
            found: Tensor = changes[self.fault]()
            return found
        if "again" in self.fault:
            return rows + size * (self.calls % 2)
        if "alone" in self.fault or self.fault.startswith("coarse"):
            return rows + (size or 0.02) * (len(rows) == 1)
        return rows

    def encode_text(self, given: list[str]) -> Any:
        rows = Words().encode_text(given)[:, :3]
        if self.fault == "constant texts":
            return torch.ones(len(given), 3)
        if self.fault == "texts by company":
            rows = rows + (len(rows) == 1)
        return rows / rows.norm(dim=1, keepdim=True)


def probes(root: Path) -> Iterator[str]:
    images = torch.linspace(0, 1, 4 * 3 * 2 * 2).reshape(4, 3, 2, 2) ** 2
    for fault in (
        *("", "fails", "fails alone", "constant", "one row", "a list", "nan", "too wide"),
        *("slightly again", "somewhat again", "much again", "slightly alone", "somewhat alone"),
        *("much alone", "coarse bf16", "coarse fp16", "constant texts", "texts by company"),
        *("much again in training", "fails in training", "training"),
    ):
        for precision in ("fp32", "fp16", "bf16"):
            target: Any = Towers(fault)
            found = tried(probe.check_target, target, images, precision)
            if precision == "fp32" or not isinstance(found, str) or "again" in fault:
                yield f"{fault or 'none'}, {precision}: {found}"
    same: Any = Towers("constant")
    yield f"equal pictures: {tried(probe.check_target, same, images[:1].repeat(3, 1, 1, 1), 'fp32')}"
    yield f"rounding {probe.rounding_of(same, 'fp32')}, {probe.rounding_of(Towers('coarse x'), 'fp32')}"  # type: ignore[arg-type]


PARTS: dict[str, Callable[[Path], Iterator[str]]] = {
    "steps": steps,
    "conditions": conditions,
    "configuration": configurations,
    "heads": heads,
    "negative labels": further_labels,
    "recent": recent,
    "batches": batches,
    "texts": text_tables,
    "pictures": pictures,
    "probe": probes,
}


def recorded(part: str) -> list[str]:
    """Return what is recorded of one part."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        told = [str(line).replace(str(root), "ROOT") for line in PARTS[part](root)]
        return [re.sub(r", at [^ ]*\.py:\d+", ", at HERE", line) for line in told]


@pytest.mark.parametrize("part", PARTS)
def test_what_is_decided_is_what_the_record_says(part: str) -> None:
    records.check(RECORD, PARTS, part, recorded(part))
