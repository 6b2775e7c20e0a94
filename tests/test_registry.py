"""The registry that all idioms share: look-ups, mistakes, resolvers, and putting things back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.registry import Registry


@pytest.fixture
def fruit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[int]:
    """A registry whose folder is a package of three modules, one in a sub-package."""
    files = {
        "orchard/__init__.py": "from pytest_cliprobust.registry import Registry\n"
        "FRUIT: Registry[int] = Registry('fruit', 'orchard', first=('pear',), remedy='Pick one')\n",
        "orchard/__main__.py": "raise SystemExit('not to be imported')\n",
        "orchard/apple.py": "from orchard import FRUIT\nFRUIT.add('apple', 1, module=__name__)\n",
        "orchard/citrus/__init__.py": "",
        "orchard/citrus/lemon.py": "from orchard import FRUIT\nFRUIT.add('lemon', 2, module=__name__)\n",
        "orchard/pear.py": "from orchard import FRUIT\nFRUIT.add('pear', 3, module=__name__)\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in [name for name in sys.modules if name.partition(".")[0] == "orchard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    import orchard  # type: ignore[import-not-found]

    found: Registry[int] = orchard.FRUIT
    return found


def test_the_folder_is_imported_at_the_first_look_up(fruit: Registry[int]) -> None:
    assert "orchard.apple" not in sys.modules
    assert list(fruit) == ["pear", "apple", "lemon"]
    assert len(fruit) == 3
    assert fruit["lemon"] == fruit.named("lemon") == fruit.find("lemon") == 2
    assert fruit.find("quince") is None
    assert "quince" not in fruit


def test_mistakes_are_told_in_one_style(fruit: Registry[int]) -> None:
    with pytest.raises(ClipRobustError) as unknown:
        fruit.named("aple")
    assert str(unknown.value) == "unknown fruit 'aple'. Did you mean 'apple'? Pick one"
    with pytest.raises(ClipRobustError) as taken:
        fruit.add("apple", 9, module="conftest")
    assert str(taken.value) == (
        "fruit 'apple' is registered already, by orchard.apple; choose another name"
    )
    assert fruit["apple"] == 1


def test_the_same_module_replaces(fruit: Registry[int]) -> None:
    fruit.load()
    fruit.add("apple", 9, module="orchard.apple")
    assert fruit["apple"] == 9
    assert list(fruit) == ["pear", "apple", "lemon"]


def test_resolvers_make_members_on_demand(fruit: Registry[int]) -> None:
    @fruit.resolver("box:")
    def boxed(name: str) -> int | None:
        rest = name.removeprefix("box:")
        return int(rest) if rest.isdigit() else None

    assert fruit.named("box:12") == 12
    assert "box:12" not in fruit
    assert fruit.find("box:of apples") is None
    assert fruit.find("12") is None

    @fruit.resolver()
    def any_name(name: str) -> int | None:
        return -1

    assert fruit.find("12") == -1
    assert fruit.find("box:12") == 12
    assert fruit.find("box:of apples") == -1
    any_name.__module__ = "elsewhere"
    with pytest.raises(ClipRobustError, match="'' is registered already"):
        fruit.resolver()(any_name)


def test_everything_is_put_back(fruit: Registry[int]) -> None:
    with pytest.raises(KeyError), fruit.preserved():  # noqa: PT012
        fruit.forget("apple")
        fruit.forget("never there")
        fruit.add("fig", 4, module="test")
        fruit.resolver()(lambda name: 5)
        assert list(fruit) == ["pear", "lemon", "fig"]
        assert fruit.find("anything") == 5
        fruit["apple"]
    assert list(fruit) == ["pear", "apple", "lemon"]
    assert fruit.find("anything") is None


def test_a_broken_file_is_named_with_the_line(fruit: Registry[int], tmp_path: Path) -> None:
    plum = tmp_path / "orchard" / "plum.py"
    for text, words in {
        "\nimport no_such_library\n": r"^orchard\.plum cannot be imported \(ModuleNotFoundError: .*, at "
        r".*plum\.py:2\); mend or remove its file$",
        "x =\n": r"^orchard\.plum cannot be imported \(SyntaxError: invalid syntax, at .*plum\.py:1\)",
        "from pytest_cliprobust import ClipRobustError\nraise ClipRobustError('too ripe')\n": (
            r"plum\.py:2: too ripe$"
        ),
    }.items():
        plum.write_text(text)
        with pytest.raises(ClipRobustError, match=words):
            fruit.named("pear")
    plum.unlink()
    assert fruit.named("pear") == 3
