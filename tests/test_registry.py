"""The registry that all idioms share: look-ups, mistakes, resolvers, and putting things back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pytest_cliprobust
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.registry import WORD, Registry


@pytest.fixture
def fruit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[int]:
    """A registry whose folder is a package of three modules, one in a sub-package."""
    files = {
        "orchard/__init__.py": "from pytest_cliprobust.registry import Registry\n"
        "FIRST = ('pear', 'citrus', 'quince')\n"
        "FRUIT: Registry[int] = Registry('fruit', 'orchard', first=FIRST, remedy='Pick one')\n",
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
    assert list(fruit) == ["pear", "lemon", "apple"]
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
    fruit.add("fig", 4, module="theirs")
    with pytest.raises(ClipRobustError) as between_users:
        fruit.add("fig", 5, module="conftest")
    assert str(between_users.value) == (
        "fruit 'fig' is registered already, by theirs; choose another name"
    )
    assert fruit.modules() == {
        "pear": "orchard.pear",
        "lemon": "orchard.citrus.lemon",
        "apple": "orchard.apple",
        "fig": "theirs",
    }


def test_two_files_of_the_folder_with_one_name(
    fruit: Registry[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is the one to mend, as whoever adds a file has just written it."""
    text = "from orchard import FRUIT\nFRUIT.add('apple', 9, module=__name__)\n"
    (tmp_path / "orchard" / "zapple.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ClipRobustError) as taken:
        fruit.load()
    assert str(taken.value) == (
        "orchard/zapple.py:2: fruit 'apple' is registered already, by orchard.apple; choose another name"
    )


def test_the_same_module_replaces(fruit: Registry[int]) -> None:
    fruit.load()
    fruit.add("apple", 9, module="orchard.apple")
    assert fruit["apple"] == 9
    assert list(fruit) == ["pear", "lemon", "apple"]


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
    assert list(fruit) == ["pear", "lemon", "apple"]
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
        "from pytest_cliprobust import ClipRobustError\n"
        "raise ClipRobustError('too ripe, at crate.txt:7') from ValueError()\n": (
            r"^too ripe, at crate\.txt:7$"  # it says where
        ),
    }.items():
        plum.write_text(text)
        with pytest.raises(ClipRobustError, match=words):
            fruit.named("pear")
    plum.unlink()
    assert fruit.named("pear") == 3


def test_a_users_name_that_the_folder_has_is_told_with_the_users_file(
    fruit: Registry[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is imported later, and its file is not the one to mend."""
    (tmp_path / "theirs.py").write_text("")
    __import__("theirs")
    monkeypatch.chdir(tmp_path)
    fruit.add("lemon", 9, module="theirs")
    with pytest.raises(ClipRobustError) as taken:
        fruit.named("pear")
    assert str(taken.value) == (
        "theirs.py: fruit 'lemon' is registered already, by orchard.citrus.lemon; choose another name"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\nimport no_such_library\n", r"ModuleNotFoundError: .*, at .*bad\.py:2\); mend or"),
        (
            "from pytest_cliprobust import ClipRobustError\nraise ClipRobustError('no')\n",
            r"bad\.py:2: no$",
        ),
    ],
)
def test_a_broken_file_of_an_installed_folder_is_named_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    folder = tmp_path / "site-packages" / "installed_grove"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "bad.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.delitem(sys.modules, "installed_grove", raising=False)
    trees: Registry[int] = Registry("tree", "installed_grove")
    with pytest.raises(ClipRobustError, match=words):
        trees.load()


def test_a_module_without_a_file_is_told_by_its_name(fruit: Registry[int]) -> None:
    fruit.add("lemon", 9, module="typed_in")
    with pytest.raises(ClipRobustError, match=r"^typed_in: fruit 'lemon' is registered already"):
        fruit.load()


def test_a_folder_that_is_none_is_one_line() -> None:
    nothing: Registry[int] = Registry("tree", "no_such_folder")
    with pytest.raises(ClipRobustError, match=r"^no_such_folder cannot be imported \(ModuleNot"):
        nothing.load()


def test_the_folder_is_imported_once(fruit: Registry[int], tmp_path: Path) -> None:
    fruit.load()
    text = "from orchard import FRUIT\nFRUIT.add('fig', 4, module=__name__)\n"
    (tmp_path / "orchard" / "fig.py").write_text(text)
    assert "fig" not in fruit


def test_names_are_words_where_they_stand_in_keys() -> None:
    herbs: Registry[int] = Registry("herb", "orchard", letters=WORD, reserved=("clean",))
    for name in ("dill", "basil_2", "lemon-balm.v2"):
        herbs.check_name(name)
    for wrong in ("", "a/b", "fog@3", "a+b", "a b", "a\n", 3, None):
        with pytest.raises(
            ClipRobustError, match="the name of a herb is a text of letters, digits, "
        ):
            herbs.check_name(wrong)
    with pytest.raises(ClipRobustError, match="herb 'clean': that name means something else"):
        herbs.add("clean", 1, module="test")


WORDS = {"higher_is_better": True, "meaning": "mine"}


def mine(images: Any, *, amount: float = 1.0) -> Any: ...


@pytest.mark.parametrize(
    ("decorator", "name", "given", "words"),
    [
        ("perturbation", mine, {}, "@register_perturbation above mine has no brackets"),
        ("layout", mine, {}, r"write @register_layout\('mine', …\)$"),
        ("target", mine, {}, "has no brackets"),
        ("logger", mine, {}, "has no brackets"),
        ("metric", mine, WORDS, "has no brackets"),
        ("target", "a=b", {}, "letters other than '=', which --clip-model NAME=MODEL has"),
        ("layout", "embedded", {}, "means something else"),
        ("layout", "mine:", {}, "a text of letters, digits"),
        (
            "layout",
            "mine",
            {"plays": "clean"},
            r"plays takes several names: plays=\('clean',\), not 'cl",
        ),
        (
            "layout",
            "mine",
            {"plays": ("far_od",)},
            "'far_od', which is no role. Did you mean 'far_ood'?",
        ),
        ("perturbation", "clean", {}, "means something else"),
        ("perturbation", "fog@3", {}, "a text of letters, digits"),
        (
            "perturbation",
            None,
            {"inputs": "seeds"},
            r"'mine': inputs takes several names: .*'seeds',\)",
        ),
        ("perturbation", None, {"optional": "mask"}, "optional takes several names"),
        (
            "perturbation",
            None,
            {"severities": {"amount": 1}},
            "'mine': severities are the parameters",
        ),
        ("perturbation", None, {"severities": (1, 2)}, "severities are the parameters of each"),
        ("perturbation", None, {"severities": ({"amount": "big"},)}, "as numbers by name"),
        ("perturbation", None, {"envelope": {"amount": 3}}, "two numbers, .* not amount=3"),
        ("perturbation", None, {"envelope": {"amount": (1, 2, 3)}}, "two numbers"),
        ("perturbation", None, {"envelope": {"amount": ("0", 3)}}, "two numbers"),
        (
            "metric",
            "mine",
            {**WORDS, "higher_is_better": "yes"},
            "is True, False or None, not 'yes'",
        ),
        (
            "metric",
            "mine",
            {**WORDS, "low": "0"},
            "low is a number, or None for no such limit, not '0'",
        ),
        ("metric", "mine", {**WORDS, "chance": "half"}, "chance is a number"),
        ("metric", "mine/2", WORDS, "'-', and of '\\*' for a family, not 'mine/2'"),
    ],
)
def test_a_decorator_held_wrongly_is_one_line_and_registers_nothing(
    decorator: str, name: object, given: dict[str, Any], words: str
) -> None:
    decorate: Callable[..., Any] = getattr(pytest_cliprobust, f"register_{decorator}")
    with pytest.raises(ClipRobustError, match=words) as caught:
        decorate(name, **given)(mine)
    assert "\n" not in str(caught.value)
    from pytest_cliprobust.perturbations.registry import PERTURBATIONS

    assert "mine" not in PERTURBATIONS
