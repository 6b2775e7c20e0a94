"""Builds the documentation site: the pages of ``docs/``, and those that are made of the code itself.

``python docs/site/build.py OUT`` writes HTML, which needs no network to be read. A page for each suite, each
property, each role and each command comes from what is registered (docstrings, metrics, the recorded figures
of the bundled model), so that none of them can be out of date. A warning, such as a link that leads nowhere,
ends the build.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pytest_cliprobust.datasets.roles import NEVER_EMBEDDED, ROLES  # noqa: E402
from pytest_cliprobust.figures.metrics import METRICS, Metric  # noqa: E402
from pytest_cliprobust.gating.baseline import Baseline, load_baseline  # noqa: E402
from pytest_cliprobust.gating.measurement import Measurement  # noqa: E402
from pytest_cliprobust.gating.reading import load_thresholds  # noqa: E402
from pytest_cliprobust.gating.thresholds import ThresholdFile  # noqa: E402
from pytest_cliprobust.gating.verdict import Verdict, judge  # noqa: E402
from pytest_cliprobust.reporting import terminal  # noqa: E402
from pytest_cliprobust.results.record import Record  # noqa: E402

DOCS = ROOT / "docs"
SUITES = ROOT / "suites"
PROPERTIES = "pytest_cliprobust.properties"
SEARCH = "pytest_cliprobust.search"
BASELINE = ROOT / "thresholds.baseline.safetensors"

#: The pages of ``docs/`` under a heading of the menu; what is in none of them stands under :data:`OTHERS`.
MENU = {
    "Use": ("thresholds", "data", "your-pictures", "models", "depth", "lmm", "report", "ci"),
    "Keep": ("history", "exit-codes", "study"),
    "Understand": ("properties", "perturbations", "worst-case", "embedded-benchmark"),
    "Speed": ("accelerator", "perturbation-speed", "perturbation-speed-opencv"),
}

OTHERS = "Further"

#: Parts of properties that name no metric and no suite's figures.
NO_PAGE = {"data"}

#: Columns of the terminal whose output the pages of suites show.
WIDTH = 100

#: With all that is in it.
MEMBERS = "   :members:\n"


@dataclass(frozen=True)
class Suite:
    """A shipped suite, as its file says.

    Attributes:
        name: of the suite.
        tree: its file, parsed.
    """

    name: str
    tree: ast.Module

    @classmethod
    def all(cls) -> list[Suite]:
        """Return the shipped suites."""
        files = sorted(SUITES.glob("test_*.py"))
        return [cls(f.stem.removeprefix("test_"), ast.parse(f.read_text("utf-8"))) for f in files]

    @property
    def told(self) -> str:
        """What its file says of it."""
        return ast.get_docstring(self.tree) or ""

    @cached_property
    def tests(self) -> list[ast.FunctionDef]:
        """Its tests."""
        functions = (node for node in self.tree.body if isinstance(node, ast.FunctionDef))
        return [function for function in functions if function.name.startswith("test_")]

    @cached_property
    def roles(self) -> list[str]:
        """The roles that it asks for: as fixtures, or by name."""
        words = {node.arg for node in ast.walk(self.tree) if isinstance(node, ast.arg)}
        words |= {str(n.value) for n in ast.walk(self.tree) if isinstance(n, ast.Constant)}
        return [role for role in ROLES if role in words - self._parameters]

    @property
    def _parameters(self) -> set[str]:
        """The arguments of tests that it parametrizes itself."""
        calls = (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))
        made = [
            c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "parametrize"
        ]
        first = (node for call in made for one in call.args[:1] for node in ast.walk(one))
        words = (str(node.value) for node in first if isinstance(node, ast.Constant))
        return {name.strip() for word in words for name in word.split(",")}

    @cached_property
    def needs_second_model(self) -> bool:
        """Whether all of its tests compare with a second model of the run."""
        return all("clip_against" in {a.arg for a in test.args.args} for test in self.tests)

    @cached_property
    def modules(self) -> list[str]:
        """The properties and searches that its figures come from, by their dotted names."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                if node.module in (PROPERTIES, SEARCH):
                    found += [f"{node.module}.{alias.name}" for alias in node.names]
                elif node.module.startswith((f"{PROPERTIES}.", f"{SEARCH}.")):
                    found.append(node.module)
        return sorted(set(found))

    @property
    def command(self) -> str:
        """The command that runs it alone on what is bundled, or on what it needs."""
        model, given = "reference", ""
        if self.needs_second_model:
            given = " --clip-against=fleet:smaller"
        if self.name in NEVER_EMBEDDED:
            model, given = "MODEL", f" --clip-data=DATA --clip-data={self.name}=THEIRS"
        return f"pytest --clip-model={model}{given} --clip-suites -m {self.name}"


def first_sentence(text: str) -> str:
    """Return the first sentence of a docstring, on one line."""
    return re.split(r"(?<=[.?!])\s", " ".join(text.split()), maxsplit=1)[0]


def as_markdown(text: str) -> str:
    """Return a docstring's text as Markdown: its roles and literals become code."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?([\w]+)`", r"`\1`", text)
    return re.sub(r"``(.+?)``", r"`\1`", text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", r"\|") for c in line) + " |" for line in lines
    )


def toctree(names: Iterable[str], caption: str = "") -> str:
    """Return what puts pages into the menu."""
    told = f":caption: {caption}\n" if caption else ""
    return "```{toctree}\n:hidden:\n" + told + "\n" + "\n".join(names) + "\n```\n"


# --- Metrics -------------------------------------------------------------------------------------


def metrics_of(module: str) -> list[Metric]:
    """Return the metrics that a module of properties registers."""
    homes = METRICS.modules()
    return [metric for name, metric in METRICS.items() if homes[name] == module]


def metric_row(metric: Metric) -> list[str]:
    """Return the row of a metric in a table of them."""
    better = {True: "higher", False: "lower", None: "neither"}[metric.higher_is_better]
    ends = ["" if end is None else f"{end:g}" for end in (metric.low, metric.high)]
    scale = f"{ends[0] or 'any'} to {ends[1] or 'any'}"
    gated = "yes" if metric.gateable else "no"
    if metric.gateable != metric.change_gateable:
        gated = "its value alone" if metric.gateable else "its change alone"
    why = f": {metric.why_not_gateable}" if metric.why_not_gateable else ""
    return [
        f"`{metric.name}`",
        metric.meaning,
        better,
        f"{scale} {metric.unit}".strip(),
        gated + why,
    ]


def metric_table(metrics: Iterable[Metric]) -> str:
    """Return the table of metrics."""
    head = ["metric", "meaning", "better is", "range", "can be gated"]
    return table(head, map(metric_row, metrics))


# --- Pages ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorded:
    """What the bundled model measured, with the bounds that it is held to.

    Attributes:
        thresholds: the threshold file.
        baseline: the recorded figures.
    """

    thresholds: ThresholdFile
    baseline: Baseline

    @classmethod
    def shipped(cls) -> Recorded:
        """Return that of this package: the standard profile."""
        return cls(
            load_thresholds(ROOT / "thresholds.toml", profile="standard"), load_baseline(BASELINE)
        )

    def measurements(self, suite: str) -> list[Measurement]:
        """Return the recorded figures of a suite."""
        (model,) = self.baseline.models
        return [one for one in self.baseline.measurements(model) if one.suite == suite]

    def transcript(self, suite: str) -> str:
        """Return the table that the terminal prints of the recorded model, by the terminal's own code.

        The model is held against its own recording, as in a run in which nothing has changed: each margin is
        kept, and absolute bounds are judged.
        """
        records = [Record(one, self._verdict(one), "") for one in self.measurements(suite)]
        return "\n".join(line.plain for line in terminal.table(records, WIDTH)).rstrip()

    def _verdict(self, one: Measurement) -> Verdict:
        rule, policy = self.thresholds.lookup(one), self.thresholds.policy
        absolute = rule and replace(rule, max_increase=None, max_decrease=None)
        if rule is None or absolute is None or absolute.bounds:
            return judge(one, absolute, policy)
        kind, limit = next(iter(rule.bounds.items()))
        kept = judge(one, None, policy)
        return replace(kept, status="pass", outcome="pass", kind=kind, limit=limit)


def suite_page(suite: Suite, recorded: Recorded) -> str:
    """Return the page of a suite."""
    parts = [f"# {suite.name}", as_markdown(suite.told), "```\n" + suite.command + "\n```"]
    if suite.needs_second_model:
        parts.append("It needs a second model: `--clip-against=MODEL`.")
    rows = [
        [f"[`{role}`](../roles.md#{role})", ROLES[role], _bundled(role)] for role in suite.roles
    ]
    parts += ["## Data", table(["role", "what plays it", "bundled"], rows)]
    parts.append("## Tests")
    parts.append(
        table(["test", "what it measures"], [[f"`{t.name}`", _of_test(t)] for t in suite.tests])
    )
    parts.append("## Figures")
    pages = [f"[{module.rpartition('.')[2]}](../{_place(module)}.md)" for module in suite.modules]
    parts.append(f"They come from {', '.join(pages)}, which say how each is computed.")
    metrics = list(dict.fromkeys(m.metric for m in recorded.measurements(suite.name)))
    if not metrics:
        parts.append(_no_example(suite))
    else:
        parts += [
            "This is what the terminal prints of the bundled model in the standard profile, of the "
            "figures that have a bound:",
            f"```text\n$ {suite.command}\n...\n{recorded.transcript(suite.name)}\n...\n```",
            table(["metric", "meaning"], [[f"`{name}`", _meaning(name)] for name in metrics]),
        ]
    return "\n\n".join(parts) + "\n"


def _of_test(test: ast.FunctionDef) -> str:
    told = ast.get_docstring(test) or test.name.removeprefix("test_").replace("_", " ")
    return as_markdown(" ".join(told.split()))


def _bundled(role: str) -> str:
    return "no: data of your own" if role in NEVER_EMBEDDED else "yes"


def _place(module: str) -> str:
    folder, _, name = module.rpartition(".")
    return f"{folder.rpartition('.')[2]}/{name}"


def _meaning(name: str) -> str:
    metric = METRICS.find(name)
    return "" if metric is None else metric.meaning


def _no_example(suite: Suite) -> str:
    known = [metric for module in suite.modules for metric in metrics_of(module)]
    return f"None are recorded of the bundled model. What it measures:\n\n{metric_table(known)}"


def module_page(module: str) -> str:
    """Return the page of a property or a search: its metrics, and what its docstrings say."""
    name = module.rpartition(".")[2]
    parts = [f"# {name.replace('_', ' ').capitalize()}"]
    known = metrics_of(module)
    if known:
        parts.append(metric_table(known))
    anchor = _definitions(name)
    if anchor:
        parts.append(f"Definitions side by side: [Properties](../properties.md#{anchor}).")
    within = module.removeprefix("pytest_cliprobust.")
    parts.append(autodoc("module", within, f"{MEMBERS}   :ignore-module-all:\n"))
    return "\n\n".join(parts) + "\n"


def _definitions(name: str) -> str:
    """Return the anchor of a property's section in docs/properties.md, as GitHub names it; empty: none."""
    page = (DOCS / "properties.md").read_text("utf-8")
    for heading in re.findall(r"^## (.*)$", page, re.MULTILINE):
        if f"`{name}.py`" in heading:
            return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    return ""


def autodoc(kind: str, name: str, options: str = "") -> str:
    """Return what stands for the docstrings of a module, class or function of the package."""
    return f"```{{eval-rst}}\n.. auto{kind}:: pytest_cliprobust.{name}\n{options}```"


def roles_page(suites: Sequence[Suite]) -> str:
    """Return the page of all roles."""
    parts = [
        "# Roles",
        "A suite asks for a role, and whatever data plays it is measured; how to give data of your own "
        "says [Data](data.md), role by role.",
    ]
    for role, meaning in ROLES.items():
        asking = [f"[{s.name}](suites/{s.name}.md)" for s in suites if role in s.roles]
        bundled = "The embedded benchmark has no data for it." if role in NEVER_EMBEDDED else ""
        parts += [
            f"## {role}",
            f"{meaning[0].upper()}{meaning[1:]}. {bundled}".strip(),
            f"How to give it: [data of your own](data.md#{role}). Suites that ask for it: "
            + (", ".join(asking) or "none of the shipped ones")
            + ".",
        ]
    return "\n\n".join(parts) + "\n"


def commands_page() -> str:
    """Return the page of the commands, with what ``--help`` says of each."""
    from pytest_cliprobust import cli

    parts = ["# Commands", "`cliprobust COMMAND --help` says the same."]
    for name, command in cli.commands().items():
        parser = argparse.ArgumentParser(prog=f"cliprobust {name}", formatter_class=_Wide)
        command.add_options(parser)
        parts += [
            f"## {name}",
            command.DESCRIPTION,
            "```\n" + parser.format_help().rstrip().replace(str(Path.home()), "~") + "\n```",
        ]
    return "\n\n".join(parts) + "\n"


class _Wide(argparse.HelpFormatter):
    """Help as wide as the page, whatever terminal builds it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=88)


def options_page() -> str:
    """Return the page of pytest's options that the plugin adds."""
    from pytest_cliprobust.plugin.options import OPTIONS

    rows = [
        [
            f"`{option.flag}`",
            f"`{option.key}`",
            option.help + (f" ({', '.join(option.choices)})" if option.choices else ""),
            "" if option.default is None else f"`{option.default}`",
        ]
        for option in OPTIONS
    ]
    return (
        "# Options\n\n`--clip-model`, `--clip-data`, `--clip-report`, `--clip-tag` and `--clip-require` may "
        "be given several times, and `pytest --help` says what they take. The others have one value "
        "each:\n\n" + table(["option", "ini key", "what it does", "default"], rows) + "\n"
    )


def public_page() -> str:
    """Return the page of the names that a user imports."""
    import pytest_cliprobust

    parts = [
        "# Public names",
        "Imported from `pytest_cliprobust`; fixtures need no import.",
        "## Fixtures",
    ]
    fixtures = ("clip", "gate", "clip_model", "clip_against")
    source = ast.parse((ROOT / "pytest_cliprobust/plugin/fixtures.py").read_text("utf-8"))
    told = {
        n.name: ast.get_docstring(n) or "" for n in source.body if isinstance(n, ast.FunctionDef)
    }
    rows = [[f"`{name}`", as_markdown(told[name])] for name in fixtures]
    rows.append(["each [role](../roles.md)", "the data sets that play it, in turn"])
    parts.append(table(["fixture", "what it is"], rows))
    for name, (home, own) in sorted(pytest_cliprobust._HOMES.items()):
        kind = "class" if isinstance(getattr(pytest_cliprobust, name), type) else "function"
        if kind == "class" and issubclass(getattr(pytest_cliprobust, name), Exception):
            kind = "exception"
        members = "" if kind == "function" else MEMBERS
        told_as = "" if own == name else f"\nImported as `{name}`.\n"
        parts.append(f"## {name}\n{told_as}\n" + autodoc(kind, f"{home}.{own}", members))
    for title, home, own in (
        ("What `clip` offers", "engine.evaluation", "Evaluation"),
        ("What `clip.on` gives", "engine.view", "View"),
    ):
        parts.append(f"## {title}\n\n" + autodoc("class", f"{home}.{own}", MEMBERS))
    return "\n\n".join(parts) + "\n"


# --- The site ------------------------------------------------------------------------------------


def modules_of(package: str) -> Iterator[str]:
    """Yield the modules of a package that have a page."""
    folder = Path(importlib.import_module(package).__file__ or "").parent
    for path in sorted(folder.glob("*.py")):
        if not path.stem.startswith("_") and path.stem not in NO_PAGE:
            yield f"{package}.{path.stem}"


def write(source: Path) -> None:
    """Write all pages of the site into a folder."""
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    others = sorted(pages.difference(*MENU.values()))
    headings = {**MENU, **({OTHERS: others} if others else {})}
    for path in (*DOCS.glob("*.md"), Path(__file__).with_name("conf.py")):
        shutil.copy(path, source)
    shutil.copytree(DOCS / "images", source / "images")
    suites, recorded = Suite.all(), Recorded.shipped()
    modules = [*modules_of(PROPERTIES), *modules_of(SEARCH)]
    made = {f"suites/{suite.name}": suite_page(suite, recorded) for suite in suites}
    made |= {_place(module): module_page(module) for module in modules}
    rows = [
        [f"[{s.name}](suites/{s.name}.md)", as_markdown(first_sentence(s.told))] for s in suites
    ]
    made["suites"] = "\n\n".join(
        [
            "# Suites",
            "`pytest --clip-model=MODEL --clip-suites` runs all of them, `-m NAME` one.",
            table(["suite", "what it measures"], rows),
            toctree(f"suites/{suite.name}" for suite in suites),
        ]
    )
    rows = [[f"[{_place(m).partition('/')[2]}]({_place(m)}.md)", _told(m)] for m in modules]
    made["modules"] = "\n\n".join(
        [
            "# Property by property",
            "What each figure means says [Properties](properties.md); here is what the code says.",
            table(["module", "what it computes"], rows),
            toctree(map(_place, modules)),
        ]
    )
    made |= {
        "roles": roles_page(suites),
        "reference/commands": commands_page(),
        "reference/options": options_page(),
        "reference/public": public_page(),
    }
    for name, text in made.items():
        path = source / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    menus = [toctree([*names], caption) for caption, names in headings.items()]
    menus.insert(1, toctree(["suites", "roles"], "Suites"))
    menus.append(
        toctree(
            ["modules", "reference/public", "reference/options", "reference/commands"], "Reference"
        )
    )
    with (source / "index.md").open("a", encoding="utf-8") as file:
        file.write("\n" + "\n".join(menus))


def _told(module: str) -> str:
    return as_markdown(first_sentence(importlib.import_module(module).__doc__ or ""))


def main() -> int:
    """Build the site, and return Sphinx's exit code."""
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("out", type=Path, help="folder of the HTML")
    options = parser.parse_args()
    from sphinx.cmd.build import main as sphinx

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        source.mkdir()
        write(source)
        trees = str(Path(folder, "trees"))
        return int(sphinx(["-W", "--keep-going", "-q", "-d", trees, str(source), str(options.out)]))


if __name__ == "__main__":
    sys.exit(main())
