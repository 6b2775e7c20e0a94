"""What tests share, and what each has of its own: the kinds that are left out, one model, one import."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
import torch
import warm
from kinds import order
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets import reference


class Item:
    """A collected test."""

    def __init__(self, *marks: str, fixtures: tuple[str, ...] = ()) -> None:
        self.marks = list(marks)
        self.fixturenames = fixtures

    def iter_markers(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=mark) for mark in self.marks]

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.marks.append(mark.name)


@pytest.mark.parametrize(
    ("asked", "left_out"),
    [
        ("", {"long", "exhaustive"}),
        ("long", {"exhaustive"}),
        ("not slow", {"exhaustive"}),  # of which pytest itself leaves out what is long
        ("not exhaustive", set()),
        ("(exhaustive or long) and not smoke", set()),
    ],
)
def test_a_plain_run_leaves_out_the_longest(asked: str, left_out: set[str]) -> None:
    kinds = [Item(), Item("smoke"), Item("slow"), Item("long"), Item("exhaustive")]
    items: list[Any] = list(kinds)
    gone: list[Any] = []
    hook = SimpleNamespace(pytest_deselected=lambda items: gone.extend(items))
    config: Any = SimpleNamespace(option=SimpleNamespace(markexpr=asked), hook=hook)
    order(config, items)
    assert {item.marks[0] for item in gone} == left_out
    assert [item for item in kinds if item not in gone] == items


def test_what_starts_sessions_or_takes_long_is_slow() -> None:
    starts = ("pytester",)
    items: list[Any] = [
        *(Item(), Item("smoke", fixtures=starts), Item(fixtures=starts)),
        *(Item("long"), Item("exhaustive"), Item("floors")),
    ]
    hook = SimpleNamespace(pytest_deselected=lambda items: None)
    config: Any = SimpleNamespace(option=SimpleNamespace(markexpr="not exhaustive"), hook=hook)
    order(config, items)
    assert ["slow" in item.marks for item in items] == [False, False, True, True, True, True]


# --- One model for all sessions of a process -------------------------------------------------------


class Model:
    """A bundled model of which every weight is one."""

    embed_dim = 4

    def __init__(self) -> None:
        self.info = SimpleNamespace(name="reference", digest="as bundled")
        self.tokenizer = object()
        self.weights = torch.ones(4)

    def preprocess(self, images: Tensor) -> Tensor:
        return images

    def encode_image(self, pixels: Tensor) -> Tensor:
        return pixels.mean(dim=(1, 2, 3))[:, None] * self.weights

    def encode_text(self, texts: list[str]) -> Tensor:
        return self.weights.expand(len(texts), 4)


def test_a_model_is_loaded_once_and_each_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "data_folder", lambda: tmp_path)
    (tmp_path / "reference").mkdir()
    weights = tmp_path / "reference" / "weights"
    weights.write_text("1")
    loads: list[str] = []

    def load(name: str, **_: Any) -> Any:
        loads.append(name)
        return Model()

    loaded = warm.loading_once(load)
    first: Any = loaded("reference", device="cpu")
    first.weights.add_(1.0)
    second: Any = loaded("reference", device="cpu")
    assert loads == ["reference"]
    assert second.weights.tolist() == [1.0] * 4
    assert second.tokenizer is first.tokenizer
    # Other options, other files and other models are loaded anew.
    loaded("reference", device="meta")
    weights.write_text("12")
    loaded("reference", device="cpu")
    for name in ("reference@int8", "./reference", "reference@int8"):
        loaded(name, device="cpu")
    assert loads[1:] == [*["reference"] * 2, "reference@int8", "./reference", "reference@int8"]


def test_a_model_that_gives_other_features_is_probed_anew() -> None:
    probed: list[Any] = []

    def check(target: Any, images: Tensor, precision: str) -> int:
        probed.append(target)
        if not bool(target.weights.any()):
            raise ClipRobustError("the same features for different pictures")
        return 24

    checked = warm.checking_once(check)
    images = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    model, same, other, dead = (Model() for _ in range(4))
    other.weights[1] += 1e-6
    dead.weights.zero_()
    assert [checked(one, images, "fp32") for one in (model, same, other)] == [24] * 3  # type: ignore[arg-type]
    with pytest.raises(ClipRobustError, match="different pictures"):
        checked(dead, images, "fp32")  # type: ignore[arg-type]
    assert probed == [model, other, dead]
    checked(same, images.flip(0), "fp32")  # type: ignore[arg-type]
    checked(same, images, "bf16")  # type: ignore[arg-type]
    assert probed == [model, other, dead, same, same]


# --- Processes of their own ------------------------------------------------------------------------

MINE = """
import os
import sys

print(os.environ.get("SAID"), os.environ.get("HELD"), os.getcwd(), sys.argv[1:], sys.path[0])
print("to the other", file=sys.stderr)
if "die" in sys.argv:
    os.kill(os.getpid(), 9)
sys.exit(3)
"""


@pytest.mark.slow
@pytest.mark.parametrize("available", [True, False])
def test_a_command_runs_as_in_a_process_from_scratch(
    available: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked, "AVAILABLE", available and forked.AVAILABLE)
    monkeypatch.setenv("HELD", "back")
    (tmp_path / "mine.py").write_text(MINE)
    for words in (["mine", "a", "b c"], ["python", "mine.py", "a", "b c"]):
        code, said = forked.command(words, tmp_path, {"SAID": "so"})
        assert code == 3
        line, other = said.splitlines()
        assert line == f"so None {tmp_path} ['a', 'b c'] {tmp_path}"
        assert other == "to the other"
    assert forked.command(["mine", "die"], tmp_path, {})[0] == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.skipif(not forked.AVAILABLE, reason="nothing is forked here")
def test_it_has_imported_torch_and_nothing_of_ours(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import sys\nprint(*sys.modules, sep='\\n')")
    _, said = forked.command(["mine"], tmp_path, {})
    assert "torch" in said.splitlines()
    assert not [name for name in said.splitlines() if name.startswith("pytest_cliprobust")]
