"""The documentation site: pages that are made of the code. Its links are proved by the strict build in CI."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers import DOCS, ROOT, SUITES, Sessions, module_of

from pytest_cliprobust import cli
from pytest_cliprobust.datasets.roles import ROLES
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.gating.baseline import load_baseline
from pytest_cliprobust.gating.reading import load_thresholds


def loaded(name: str) -> ModuleType:
    """Return a file of the site's folder as a module."""
    return module_of(DOCS / "site" / f"{name}.py", known_as=f"site_{name}")


@pytest.fixture(scope="module")
def site() -> ModuleType:
    return loaded("build")


@pytest.fixture(scope="module")
def pages(site: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("site")
    site.write(folder)
    return {
        str(path.relative_to(folder).with_suffix("")): path.read_text(encoding="utf-8")
        for path in folder.rglob("*.md")
    }


def test_every_suite_role_and_command_has_its_place(pages: dict[str, str]) -> None:
    for path in SUITES.glob("test_*.py"):
        name = path.stem.removeprefix("test_")
        assert f"-m {name}\n" in pages[f"suites/{name}"]
    for role in ROLES:
        assert f"\n## {role}\n" in pages["roles"]
    for command in cli.commands():
        assert f"\n## {command}\n" in pages["reference/commands"]
    for path in DOCS.glob("*.md"):
        assert path.stem in pages


def test_every_metric_stands_on_the_page_of_what_computes_it(pages: dict[str, str]) -> None:
    for name, module in METRICS.modules().items():
        if module.startswith("pytest_cliprobust.properties."):
            assert f"`{name}`" in pages[f"properties/{module.rpartition('.')[2]}"], name


def test_every_page_is_in_the_menu(pages: dict[str, str]) -> None:
    named = {line for text in pages.values() for line in text.splitlines()}
    assert set(pages) - named == {"index"}


def test_a_suite_says_what_it_asks_for_and_shows_a_figure(pages: dict[str, str]) -> None:
    page = pages["suites/ood"]
    assert "[`far_ood`](../roles.md#far_ood)" in page
    assert "[ood](../properties/ood.md)" in page
    row = next(line for line in page.splitlines() if line.startswith("| `auroc_mcm` |"))
    assert METRICS.named("auroc_mcm").meaning in row
    assert "[ood](suites/ood.md)" in pages["roles"].partition("## far_ood")[2]
    second = pages["suites/performance"]
    assert "--clip-against=" in second
    assert "`relative_latency`" in second
    assert "properties.md#performance-performancepy" in pages["properties/performance"]


def test_a_suite_shows_what_the_terminal_prints(pages: dict[str, str]) -> None:
    page = pages["suites/accuracy"]
    assert "$ pytest --clip-model=reference --clip-suites -m accuracy\n" in page
    shown = page.partition("```text\n")[2].partition("```")[0]
    assert "\nproperty " in shown
    assert re.search(r"    clean +0\.\d+ \[0\.\d+, 0\.\d+\] +1072  margin 0\.\d+ +pass\n", shown)
    assert max(map(len, shown.splitlines())) <= 100


def test_what_a_suite_shows_is_what_a_session_prints(
    site: ModuleType, run: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = """
from pytest_cliprobust.properties import accuracy

def test_mine(clip, gate):
    clean, noisy = clip.on("clean"), clip.on("clean", "gaussian_noise", 3)
    gate(accuracy.accuracy_of(clean), accuracy.accuracy_drop(clean, noisy))
"""
    bounds = 'schema = 1\n[[threshold]]\nsuite = "mine"\nmetric = "accuracy"\nmin = 0.1\nbecause = "ours"\n'
    monkeypatch.setenv("COLUMNS", str(site.WIDTH))
    run("--clip-record", suite=suite, thresholds=bounds)
    said = run.again().outlines
    file, own = run.path / "thresholds.toml", run.path / "thresholds.baseline.safetensors"
    recorded = site.Recorded(load_thresholds(file, profile="quick"), load_baseline(own))
    shown = recorded.transcript("mine").splitlines()
    assert len(shown) == 4
    assert " margin " in shown[-1]
    assert [line.rstrip() for line in said if line.rstrip() in shown] == shown


def test_the_menu_takes_pages_that_nobody_named(
    site: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "MENU", {"Use": ("thresholds",)})
    site.write(tmp_path)
    index = (tmp_path / "index.md").read_text(encoding="utf-8")
    assert ":caption: Further" in index
    assert "\nproperties\n" in index.partition(":caption: Further")[2]


@pytest.mark.parametrize(
    ("line", "prose"),
    [
        ("ECE = Σ |a_b - c_b| over 5*s", r"ECE = Σ \|a_b - c_b\| over 5\*s"),
        ("``|a|`` stays, |b| not", r"``|a|`` stays, \|b\| not"),
        ("names end in _figure or group_", r"names end in _figure or group\_"),
        ("see :func:`~a.b_`, (*views)", r"see :func:`~a.b_`, (\*views)"),
    ],
)
def test_formulas_in_docstrings_are_no_markup(line: str, prose: str) -> None:
    conf: Any = loaded("conf")
    assert conf.as_prose(line) == prose


def test_the_readme_says_how_it_is_built() -> None:
    assert "python docs/site/build.py" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert 'python docs/site/build.py "$work/site"' in (ROOT / ".ci/run").read_text("utf-8")
