"""What a batch has beside its pictures, made when somebody looks at it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import pytest
import torch

from pytest_cliprobust.datasets.base import LazyExtras
from pytest_cliprobust.datasets.cue_names import parse_cue_conflict_name
from pytest_cliprobust.datasets.fingerprints import workers
from pytest_cliprobust.errors import ClipRobustError


def test_extras_are_made_at_the_first_look() -> None:
    made: list[str] = []

    def makers(name: str, more: int = 0) -> list[Callable[[], torch.Tensor]]:
        def maker(row: int) -> torch.Tensor:
            made.append(f"{name}{row}")
            return torch.tensor(row * 10 + more)

        return [partial(maker, row) for row in range(4)]

    whole = LazyExtras(
        {"a": torch.arange(4), "b": -torch.arange(4)},
        {"c": makers("c"), "d": makers("d", 1), "a": makers("a")},
    )
    assert (set(whole), len(whole)) == ({"a", "b", "c", "d"}, 4)
    part = whole.part(slice(1, 3))
    assert made == []
    for name, values in {"a": [1, 2], "b": [-1, -2], "c": [10, 20], "d": [11, 21]}.items():
        assert part[name].tolist() == values
    # What is ready is not made, nor what is of other samples.
    assert made == ["c1", "c2", "d1", "d2"]
    more = part.joined(e=torch.zeros(2), c=torch.ones(2))
    assert set(more) == {"a", "b", "c", "d", "e"}
    assert more["c"].tolist() == [1, 1]
    assert more["d"].tolist() == [11, 21]
    assert set(part) == {"a", "b", "c", "d"}
    with pytest.raises(KeyError):
        part["e"]


@pytest.mark.parametrize("name", ["cat1-elephant3.v2.png", "cat-elephant.png", "1-2.png", ""])
def test_a_name_without_shape_and_texture_is_one_line(name: str) -> None:
    with pytest.raises(ClipRobustError, match="does not name its shape and texture"):
        parse_cue_conflict_name(name)


@pytest.mark.parametrize(("cores", "threads"), [(None, 1), (1, 1), (3, 3), (16, 16), (64, 16)])
def test_files_are_read_by_some_threads(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, threads: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert workers() == threads
