"""The table of texts: what is new is encoded, and nothing else, whatever happened to its files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pytest_cliprobust.cache import Array, FeatureCache
from pytest_cliprobust.engine import encoding, head
from pytest_cliprobust.engine.encoding import Encoder
from pytest_cliprobust.engine.evaluation import CachedText
from pytest_cliprobust.engine.text_table import TextTable
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.base import TargetInfo


class TinyTarget:
    """The text tower of a target: sixteen numbers, the first of which is the text's length."""

    def __init__(self) -> None:
        self.info = TargetInfo("tiny", "lengths", "random", "0" * 64)
        self.device = torch.device("cpu")
        self.embed_dim = 16

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        rows = [[float(len(text)), *map(float, range(15))] for text in texts]
        return torch.nn.functional.normalize(torch.tensor(rows), dim=-1)


def encoder(path: Path, target: TinyTarget | None = None) -> Encoder:
    return Encoder(target or TinyTarget(), FeatureCache(path))  # type: ignore[arg-type]


def features_of(texts: Sequence[str]) -> Array:
    """Return three numbers that no two of the tests' texts share."""
    return np.array([[len(t), sum(map(ord, t)), ord(t[0]) if t else -1] for t in texts], np.float32)


class Tower:
    """Encodes in passes of ``size``, and remembers what it was asked for."""

    def __init__(self, size: int = 4, fails_after: int | None = None) -> None:
        self.size, self.fails_after = size, fails_after
        self.seen: list[str] = []

    def __call__(self, texts: list[str]) -> Iterator[Array]:
        for start in range(0, len(texts), self.size):
            if self.fails_after is not None and len(self.seen) >= self.fails_after:
                raise KeyboardInterrupt
            part = texts[start : start + self.size]
            self.seen += part
            yield features_of(part)


def table(root: Path, tower: Tower, save_seconds: float = 1e9) -> TextTable:
    cache = FeatureCache(root)
    return TextTable(cache, {"model": "m"}, tower, lambda features, texts: None, save_seconds)


def blocks(root: Path) -> list[Path]:
    return sorted(root.rglob("*.features"), key=lambda path: path.stat().st_mtime_ns)


def test_only_new_texts_are_encoded(tmp_path: Path) -> None:
    tower = Tower()
    first = table(tmp_path, tower)
    asked = ["b", "a", "b", "\udce9", ""]
    assert np.array_equal(first.rows(asked), features_of(asked))
    assert tower.seen == ["b", "a", "\udce9", ""]
    tower.seen.clear()
    assert np.array_equal(first.rows(["a", "new", "b"]), features_of(["a", "new", "b"]))
    assert tower.seen == ["new"]
    later = Tower()
    again = table(tmp_path, later)  # another process
    assert np.array_equal(again.rows(["new", *asked]), features_of(["new", *asked]))
    assert later.seen == []
    assert len(blocks(tmp_path)) == 2


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=6), min_size=1, max_size=8
    )
)
def test_two_processes_that_ask_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, asked: list[list[str]]
) -> None:
    root, towers = tmp_path_factory.mktemp("cache"), (Tower(), Tower())
    tables = [table(root, tower) for tower in towers]
    for turn, texts in enumerate(asked):
        assert np.array_equal(tables[turn % 2].rows(texts), features_of(texts))
    seen = [text for tower in towers for text in tower.seen]
    assert len(seen) == len(set(seen)), "a text was encoded twice"
    assert len(blocks(root)) <= len(asked)


def test_a_killed_run_loses_no_more_than_was_not_saved(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(20)]
    killed = Tower(fails_after=12)
    with pytest.raises(KeyboardInterrupt):
        table(tmp_path, killed, save_seconds=0).rows(texts)
    after = Tower()
    assert np.array_equal(table(tmp_path, after).rows(texts), features_of(texts))
    assert after.seen == texts[12:]
    assert list(tmp_path.rglob("*.unfinished")) == []


@pytest.mark.parametrize("harm", ["cut", "removed"])
def test_a_block_that_is_damaged_or_gone_costs_its_texts_alone(tmp_path: Path, harm: str) -> None:
    whole = table(tmp_path, Tower())
    for text in "abc":
        whole.rows([text])
    middle = blocks(tmp_path)[1]
    if harm == "cut":
        middle.write_bytes(middle.read_bytes()[:-1])
    else:
        middle.unlink()
    tower = Tower()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(table(tmp_path, tower).rows(["a", "b"]), features_of(["a", "b"]))
        assert tower.seen == ["b"]
    later = Tower()
    assert np.array_equal(table(tmp_path, later).rows(list("abc")), features_of("abc"))
    assert later.seen == []


def test_features_that_are_refused_are_not_kept(tmp_path: Path) -> None:
    target = TinyTarget()
    really = target.encode_text
    target.encode_text = lambda texts: torch.full((len(texts), 16), torch.nan)  # type: ignore[method-assign]
    with pytest.raises(ClipRobustError, match="NaN or infinite features on text"):
        encoder(tmp_path, target).text(["a"])
    target.encode_text = really  # type: ignore[method-assign]
    assert torch.equal(encoder(tmp_path, target).text(["a"]), really(["a"]))


class Counted(TinyTarget):
    """Knows which texts it was given beside padding."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self.texts += [
            text for text in texts if text.startswith(("one 0", "one n", "two 0", "two n"))
        ]
        rows = [[*map(float, text.encode()[:16].ljust(16))] for text in texts]
        return torch.nn.functional.normalize(torch.tensor(rows), dim=-1)


def test_another_template_or_class_costs_its_own_prompts(tmp_path: Path) -> None:
    """A head of 1,000 classes and 80 templates is 80,000 texts; one more class is 80."""
    labels = [f"{n:03d}" for n in range(30)]

    def made(labels: Sequence[str], templates: Sequence[str]) -> tuple[Tensor, Counted]:
        target = Counted()
        told: list[tuple[str, int, int]] = []
        engine = Encoder(
            target,  # type: ignore[arg-type]
            FeatureCache(tmp_path),
            progress=lambda *line: told.append(line),
        )
        weights = head.zero_shot_head(CachedText(engine), labels, templates)
        assert all(what == "texts" for what, _, _ in told)
        assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
        return weights, target

    first, target = made(labels, ["one {}", "two {}"])
    assert len(target.texts) == 60
    again, target = made(labels, ["one {}", "two {}"])
    assert torch.equal(first, again)
    assert target.texts == []
    _, target = made([*labels[:7], "new", *labels[8:]], ["one {}", "two {}"])
    assert sorted(target.texts) == ["one new", "two new"]
    _, target = made(labels[::-1], ["two {}!", "one {}"])
    assert sorted(target.texts) == [f"two {label}!" for label in labels]
    assert len(list(tmp_path.rglob("*.features"))) <= 4


def test_long_requests_tell_how_far_they_are(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    engine = encoder(tmp_path)
    engine.progress = lambda *line: told.append(line)
    engine.text([str(n) for n in range(70)])
    assert told == [("texts", 32, 70), ("texts", 64, 70), ("texts", 70, 70)]
    engine.text([str(n) for n in range(70, 80)])
    assert len(told) == 3, "a single pass is over at once"


class Sociable(TinyTarget):
    """The last bits of a text's features depend on what stands in front of it."""

    calls = 0

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self.calls += 1
        features = super().encode_text(texts)
        before = torch.tensor([0, *(len(text) for text in texts[:-1])])
        return features + 1e-7 * before[:, None]


def test_a_model_whose_rows_depend_on_their_company_keeps_its_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "TEXT_BLOCK", 40)
    target = Sociable()
    texts = [str(n) for n in range(100)]
    features = encoder(tmp_path, target).text(texts)
    assert target.calls == 2 + 2 + 2 + 1
    fresh = encoder(tmp_path / "other", Sociable())
    fresh.text(texts[3:5])  # what was asked for before changes nothing
    assert torch.equal(fresh.text(texts), features)
    calls = target.calls
    again = encoder(tmp_path, target)
    assert torch.equal(again.text(texts), features)
    assert target.calls == calls
    looked_up: list[object] = []
    real = again.cache.get_or_compute

    def counted(key: Mapping[str, Any], compute: Callable[[], Array]) -> Array:
        looked_up.append(key["kind"])
        return real(key, compute)

    monkeypatch.setattr(again.cache, "get_or_compute", counted)
    again.text(texts[:9])
    assert looked_up == ["text"]  # whether texts stand alone is known by now
