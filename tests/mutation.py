"""How strong are the tests? A seeded sample of small mistakes, and which of them no test notices.

Run by hand, from anywhere in the checkout; not collected by pytest and no part of CI::

    python tests/mutation.py --seed 7 --count 100 --modules figures properties
    python tests/mutation.py --seed 7 --count 40 --modules properties/ood.py --jobs 2

Each mutation is one small change of one module: a changed constant, a comparison that includes its
border or no longer does, ``and`` for ``or``, a dropped or swapped clamp, plus for minus, an index off
by one, a guard that never fires, a branch that is always or never taken, a loop over its first item
only. All kinds are drawn equally often while they last; the same seed draws the same sample of the
same sources. A mutated module stands in a temporary copy of the package, in which the tests that
belong to it run (:func:`tests_of`: ``pytest_cliprobust/properties/ood.py`` has
``tests/properties/test_ood.py``, and what is recorded of the whole folder), the quick ones first, then
the slow ones, until the first failure. A failure, an error or the time limit (many times what the tests
take without a mutation) notices the mutation; survivors are printed with their
place and the changed lines, then the shares by module and by kind.

A survivor is a missing test, code that nobody needs, or an equivalent mutation, that is one that
changes no result (a chunk of another size, a border that no number hits). Ends with status 1 if less
than ``--least`` of the sample is noticed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import multiprocessing
import multiprocessing.context
import os
import queue
import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "pytest_cliprobust"

#: Tests beside the mirrored file of a module. Without either it is the mirrored folder.
ALSO = {
    **{
        f"datasets/layouts/{name}.py": ["tests/datasets/test_layouts.py", *tests]
        for names, tests in (
            ("navi scannet spair", ["tests/datasets/test_paired.py"]),
            (
                "cifar_corrupted hf imagenet_d imagenet_variants imagenet_x laion_c manifest mmvp negbench "
                "objectnet scam",
                ["tests/datasets/test_published.py", "tests/datasets/test_cases.py"],
            ),
            ("hub", ["tests/datasets/test_hub_data.py"]),
            ("imagefolder", ["tests/datasets/test_datasets.py", "tests/datasets/test_cases.py"]),
            ("wds", ["tests/datasets/test_datacomp.py", "tests/datasets/test_cases.py"]),
        )
        for name in names.split()
    },
    "cli/card.py": ["tests/reporting/test_card.py"],
    "datasets/embedded.py": [
        "tests/datasets/test_datasets.py",
        "tests/embedded/test_recorded.py",
        "tests/embedded/test_two_things.py",
    ],
    "datasets/base.py": ["tests/datasets/test_datasets.py"],
    "datasets/cue_names.py": [
        *("tests/datasets/test_base.py", "tests/properties/test_shape_bias.py"),
        "tests/datasets/test_layouts.py",
    ],
    "datasets/imagenet.py": ["tests/datasets/test_layouts.py", "tests/datasets/test_published.py"],
    "datasets/label_sets.py": ["tests/datasets/test_cases.py"],
    "datasets/loading.py": ["tests/datasets/test_datasets.py", "tests/datasets/test_layouts.py"],
    "datasets/parquet.py": ["tests/datasets/test_hub_data.py", "tests/datasets/test_published.py"],
    "datasets/reading.py": [
        *("tests/datasets/test_cases.py", "tests/datasets/test_datasets.py"),
        "tests/datasets/test_jpeg.py",
    ],
    "datasets/registry.py": ["tests/datasets/test_layouts.py", "tests/test_registry.py"],
    "datasets/skipping.py": [
        *("tests/datasets/test_cases.py", "tests/datasets/test_framing.py"),
        "tests/datasets/test_paired.py",
    ],
    "datasets/wordnet.py": ["tests/datasets/test_published.py", "tests/datasets/test_layouts.py"],
    "datasets/provision.py": ["tests/datasets/test_prepared.py"],
    "datasets/walking.py": ["tests/datasets/test_cases.py", "tests/datasets/test_pictures.py"],
    "datasets/fingerprints.py": [
        *("tests/datasets/test_base.py", "tests/datasets/test_listed.py"),
        "tests/datasets/test_datasets.py",
    ],
    "engine/encoding.py": ["tests/engine/test_matches.py", "tests/engine/test_store.py"],
    "engine/evaluation.py": [
        *("tests/engine/test_view.py", "tests/engine/test_probe.py"),
        *("tests/engine/test_negatives.py", "tests/engine/test_multimodal.py"),
    ],
    "engine/config.py": ["tests/engine/test_view.py"],
    "engine/memory.py": ["tests/engine/test_encoding.py"],
    "engine/texts.py": ["tests/engine/test_probe.py"],
    "figures/compact.py": ["tests/results/test_outcomes.py"],
    "figures/samples.py": ["tests/properties/test_views.py"],
    "figures/taken.py": ["tests/properties/test_taken.py"],
    "figures/metrics.py": ["tests/properties/test_bridge.py", "tests/test_registry.py"],
    "gating/document.py": ["tests/gating/test_mistakes.py", "tests/gating/test_reading.py"],
    "gating/limits.py": ["tests/gating/test_authors.py", "tests/gating/test_reading.py"],
    "gating/policy.py": ["tests/gating/test_verdict.py", "tests/gating/test_unjudged.py"],
    "gating/reading.py": ["tests/gating/test_mistakes.py"],
    "gating/stale.py": ["tests/gating/test_waivers.py"],
    "gating/thresholds.py": ["tests/gating/test_waivers.py", "tests/gating/test_reading.py"],
    "gating/toml.py": ["tests/gating/test_recording.py"],
    "gating/unmet.py": ["tests/gating/test_unjudged.py", "tests/gating/test_mistakes.py"],
    "gating/verdict.py": ["tests/gating/test_waivers.py"],
    "gating/weak.py": ["tests/gating/test_reading.py", "tests/gating/test_mistakes.py"],
    "gating/words.py": ["tests/gating/test_message.py", "tests/gating/test_verdict.py"],
    "gating/editing.py": [
        "tests/gating/test_recording.py",
        "tests/gating/test_recording_margins.py",
    ],
    "gating/recording.py": ["tests/gating/test_recording_margins.py"],
    "perturbations/common/fields.py": [
        "tests/perturbations/test_weather.py",
        "tests/perturbations/test_digital.py",
    ],
    "perturbations/filters.py": [
        "tests/perturbations/test_kernels.py",
        "tests/perturbations/test_blur.py",
    ],
    "perturbations/registry.py": ["tests/perturbations/test_contract.py", "tests/test_registry.py"],
    "perturbations/imagecorruptions.py": ["tests/perturbations/test_digital.py"],
    "perturbations/common/reference.py": ["tests/perturbations/test_contract.py"],
    "perturbations/common/weather.py": ["tests/perturbations/test_weather.py"],
    "plugin/closing.py": ["tests/plugin/test_ends.py", "tests/plugin/test_picked.py"],
    "plugin/session.py": [
        *("tests/plugin/test_processes.py", "tests/plugin/test_known.py"),
        *("tests/plugin/test_ends.py", "tests/plugin/test_plugin.py"),
        *("tests/plugin/test_ungated.py", "tests/plugin/test_comparing.py"),
    ],
    "properties/accuracy.py": ["tests/properties/test_views.py"],
    "properties/calibration.py": [
        "tests/properties/test_views.py",
        "tests/properties/test_fitted_on.py",
    ],
    "properties/corruption.py": ["tests/properties/test_views.py"],
    "properties/frontier.py": ["tests/search/test_frontier.py"],
    "properties/labels.py": ["tests/properties/test_views.py"],
    "properties/ood.py": ["tests/properties/test_views.py", "tests/properties/test_fitted_on.py"],
    "properties/scaling.py": ["tests/properties/test_fitted_on.py"],
    "properties/selective.py": ["tests/properties/test_fitted_on.py"],
    "properties/shape_bias.py": ["tests/properties/test_views.py"],
    "properties/worst_case.py": ["tests/search/test_worst_case.py"],
    **{
        f"reporting/{name}.py": [
            "tests/reporting/test_machines.py",
            "tests/reporting/test_waived.py",
        ]
        for name in ("findings", "json", "sarif", "statement", "workflow")
    },
    **{
        f"reporting/html/{name}.py": ["tests/reporting/html"]
        for name in ("gallery", "page", "pictures", "plots", "room", "sections", "svg")
    },
    "reporting/loggers/mlflow.py": ["tests/reporting/loggers/test_mlflow.py"],
    "reporting/loggers/wandb.py": ["tests/reporting/loggers/test_wandb.py"],
    "reporting/shape_bias.py": ["tests/reporting/html/test_drawn.py"],
    **{
        f"targets/{name}.py": [
            *("tests/targets/test_loading.py", "tests/targets/test_targets.py"),
            "tests/targets/test_families.py",
        ]
        for name in (
            *("activation", "callable_target", "digest", "folder", "hub", "loading", "registry"),
            "runtime",
        )
    },
    "results/journal.py": ["tests/results/test_record.py"],
    "results/plain.py": ["tests/results/test_record.py", "tests/results/test_outcomes.py"],
    "results/run.py": ["tests/results/test_record.py", "tests/results/test_compare.py"],
    "results/tags.py": ["tests/results/test_history.py"],
    "properties/typographic.py": ["tests/properties/test_views.py"],
    "targets/open_clip_target.py": [
        *("tests/targets/test_targets.py", "tests/targets/test_families.py"),
        *("tests/targets/test_configuration.py", "tests/targets/test_dense.py"),
        *("tests/targets/test_loading.py", "tests/engine/test_local.py"),
    ],
    "targets/multimodal.py": ["tests/targets/test_multimodal_parts.py"],
    "targets/adapter.py": ["tests/targets/test_families.py"],
    "targets/adapter_folder.py": [
        "tests/targets/test_adapter.py",
        "tests/targets/test_families.py",
    ],
    "targets/checkpoint.py": ["tests/targets/test_archive.py", "tests/targets/test_targets.py"],
    "targets/checkpoint_file.py": [
        "tests/targets/test_archive.py",
        "tests/targets/test_targets.py",
    ],
    "targets/layers.py": ["tests/targets/test_dense.py", "tests/targets/test_quantised.py"],
    "targets/reference.py": [
        *("tests/targets/test_loading.py", "tests/targets/test_targets.py"),
        "tests/targets/test_fleet.py",
    ],
    "targets/graphs.py": ["tests/targets/test_graphs.py", "tests/targets/test_twins.py"],
    "targets/image_processor.py": ["tests/targets/test_families.py"],
    "targets/multimodal_folder.py": ["tests/targets/test_multimodal.py"],
    "targets/multimodal_loading.py": [
        *("tests/targets/test_loading.py", "tests/targets/test_multimodal.py"),
        "tests/targets/test_bundled_multimodal.py",
    ],
    "targets/configuration.py": ["tests/targets/test_configuration_limits.py"],
    "targets/preprocessing.py": ["tests/targets/test_preprocessing_limits.py"],
    "targets/sentence_transformers.py": ["tests/targets/test_families.py"],
    "targets/transformers_target.py": [
        "tests/targets/test_families.py",
        "tests/targets/test_targets.py",
    ],
    "targets/unpickling.py": ["tests/targets/test_archive.py"],
    "study/axes.py": ["tests/study/test_lines.py"],
}

#: Tests of whole folders: the records of what their modules make of a few pictures and samples, and what
#: holds for each.
RECORDS = {
    "perturbations": ["tests/perturbations/test_versions.py"],
    **{
        folder: [
            *("tests/properties/test_recorded.py", "tests/properties/test_degenerate.py"),
            "tests/properties/test_recorded_edges.py",
        ]
        for folder in ("properties", "figures")
    },
    "gating": ["tests/gating/test_recorded_verdicts.py", "tests/gating/test_recorded_files.py"],
    "cli": ["tests/cli/test_recorded_commands.py"],
    "study": ["tests/cli/test_recorded_commands.py"],
    "reporting": ["tests/reporting/test_recorded_reports.py"],
    "embedded": ["tests/embedded/test_recorded.py"],
    "datasets": ["tests/datasets/test_recorded_data.py"],
    "targets": ["tests/targets/test_recorded_targets.py"],
    "results": ["tests/results/test_recorded_results.py"],
    "plugin": ["tests/plugin/test_recorded_plugin.py"],
    "engine": ["tests/engine/test_recorded_engine.py"],
    "training": ["tests/training/test_recorded_training.py"],
}

#: Imported once, before the runs are forked off; never the package itself.
PRELOADED = [
    *("pytest", "hypothesis", "scipy.stats", "sklearn.covariance", "pytorch_ood.detector"),
    *("open_clip", "kornia", "torchvision"),
]

#: Keywords whose value only says how a mistake is told, or how a thing is shown.
_UNMUTATED_KEYWORDS = {"strict", "repr", "compare", "frozen", "stacklevel"}

#: pytest's exit statuses: the command line is wrong, no test was collected.
MISUSED, NOTHING_RAN = 4, 5

#: What a mutator proposes: the node to be replaced, and the source that takes its place.
Change: TypeAlias = "tuple[ast.AST, str]"


@dataclass(frozen=True)
class Mutation:
    """One small change of one file.

    Attributes:
        path: of the module, relative to the checkout.
        kind: name of the mutator.
        line: 1-based.
        start, end: bytes that are replaced.
        text: what replaces them.
    """

    path: str
    kind: str
    line: int
    start: int
    end: int
    text: str

    def applied(self, source: bytes) -> bytes:
        """Return the mutated source."""
        return source[: self.start] + self.text.encode() + source[self.end :]

    def diff(self, source: bytes) -> str:
        """Return the changed lines, before and after."""
        before, after = source.decode().splitlines(), self.applied(source).decode().splitlines()
        lines = difflib.unified_diff(before, after, n=0, lineterm="")
        return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


# --- Mutators: each proposes changes of one node ----------------------------------------------------

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
}
_OPPOSITE_CLAMP = {"max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum"}


def _source(node: ast.AST) -> str:
    return f"({ast.unparse(node)})"


def _constants(node: ast.AST) -> Iterator[Change]:
    if not isinstance(node, ast.Constant):
        return
    value = node.value
    if isinstance(value, bool):
        yield node, str(not value)
    elif isinstance(value, int):
        yield node, f"({value + 1})"
        yield node, f"({value - 1})"
    elif isinstance(value, float):
        # Twice a tolerance of 1e-9 is the same tolerance: tiny numbers grow by much.
        yield node, repr(1.0 if value == 0.0 else value * (2.0 if abs(value) > 1e-3 else 1e4))


def _comparisons(node: ast.AST) -> Iterator[Change]:
    if not isinstance(node, ast.Compare):
        return
    for position, operator in enumerate(node.ops):
        for other in _COMPARISONS[type(operator)]:
            changed = copy.deepcopy(node)
            changed.ops[position] = other()
            yield node, _source(changed)


def _logic(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield node, _source(ast.BoolOp(other, node.values))
    elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr)):
        bits = ast.BitOr() if isinstance(node.op, ast.BitAnd) else ast.BitAnd()
        yield node, _source(ast.BinOp(node.left, bits, node.right))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.Invert)):
        yield node, _source(node.operand)


def _arithmetic(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        if not isinstance(node.operand, ast.Constant):
            yield node, _source(node.operand)
        return
    if not isinstance(node, ast.BinOp) or type(node.op) not in _ARITHMETIC:
        return
    sides = (node.left, node.right)
    if any(isinstance(s, ast.JoinedStr | ast.Constant) and _is_text(s) for s in sides):
        return
    yield node, _source(ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right))


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    )


def _called(node: ast.AST) -> str:
    """Return the last name of what a call calls, ``maximum`` for ``np.maximum(...)``."""
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _clamps(node: ast.AST) -> Iterator[Change]:
    name = _called(node)
    if not isinstance(node, ast.Call) or any(isinstance(a, ast.Starred) for a in node.args):
        return
    if name == "clip" and len(node.args) == 3:
        yield node, _source(node.args[0])
    elif name in _OPPOSITE_CLAMP and len(node.args) == 2:
        kept = [a for a in node.args if not isinstance(a, ast.Constant)] or node.args[:1]
        for argument in kept:
            yield node, _source(argument)
        changed = copy.deepcopy(node)
        if isinstance(changed.func, ast.Attribute):
            changed.func.attr = _OPPOSITE_CLAMP[name]
        elif isinstance(changed.func, ast.Name):
            changed.func.id = _OPPOSITE_CLAMP[name]
        yield node, _source(changed)


def _offsets(node: ast.AST) -> Iterator[Change]:
    bounds: list[ast.expr | None] = []
    if isinstance(node, ast.Slice):
        bounds = [node.lower, node.upper]
    elif isinstance(node, ast.Call) and _called(node) in ("range", "arange"):
        # The end of a range in steps may be anywhere within the last step.
        bounds = list(node.args[:2] if len(node.args) < 3 else node.args[:1])
    for bound in bounds:
        if bound is not None and not isinstance(bound, ast.Constant):
            yield bound, f"{_source(bound)} + 1"
            yield bound, f"{_source(bound)} - 1"


def _guards(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.If) and not node.orelse:
        yield node.test, "False"


def _branches(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.IfExp) or (isinstance(node, ast.If) and node.orelse):
        yield node.test, "True"
        yield node.test, "False"


def _loops(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.For | ast.comprehension):
        yield node.iter, f"list({ast.unparse(node.iter)})[:1]"
    elif isinstance(node, ast.Break):
        yield node, "continue"
    elif isinstance(node, ast.Continue):
        yield node, "break"
        yield node, "pass"


MUTATORS: dict[str, Callable[[ast.AST], Iterator[Change]]] = {
    "constant": _constants,
    "comparison": _comparisons,
    "and/or/not": _logic,
    "arithmetic": _arithmetic,
    "clamp": _clamps,
    "off by one": _offsets,
    "guard": _guards,
    "branch": _branches,
    "loop": _loops,
}


# --- From a file to its mutations -------------------------------------------------------------------


def _visited(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that are worth a mutation: no annotations, messages, decorators or texts."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.Raise | ast.JoinedStr):
                continue
            if isinstance(child, ast.keyword) and child.arg in _UNMUTATED_KEYWORDS:
                continue
            if isinstance(child, ast.Subscript) and ast.unparse(child.value) == "Literal":
                continue
            yield from _visited(child)


def mutations_of(path: str) -> list[Mutation]:
    """Return every mutation of one module, ``path`` relative to the checkout."""
    source = (ROOT / path).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node in _visited(ast.parse(source)):
        for kind, mutator in MUTATORS.items():
            for old, text in mutator(node):
                if not isinstance(old, ast.expr | ast.stmt) or old.end_lineno is None:
                    continue
                start = starts[old.lineno - 1] + old.col_offset
                end = starts[old.end_lineno - 1] + (old.end_col_offset or 0)
                found.append(Mutation(path, kind, old.lineno, start, end, text))
    return found


def sample(mutations: Sequence[Mutation], count: int, seed: int) -> list[Mutation]:
    """Return ``count`` mutations, all kinds equally often while they last."""
    by_kind: dict[str, list[Mutation]] = defaultdict(list)
    for mutation in mutations:
        by_kind[mutation.kind].append(mutation)
    generator = random.Random(seed)
    for group in by_kind.values():
        generator.shuffle(group)
    chosen: list[Mutation] = []
    while len(chosen) < count and any(by_kind.values()):
        for group in by_kind.values():
            if group and len(chosen) < count:
                chosen.append(group.pop())
    return chosen


def modules_of(names: Sequence[str]) -> list[str]:
    """Return the modules that ``names`` (folders or files below the package) stand for."""
    found: list[str] = []
    for name in names:
        place = ROOT / PACKAGE / name
        files = [place] if place.is_file() else sorted(place.rglob("*.py"))
        if not files:
            raise SystemExit(f"no module at {place}")
        found += [str(file.relative_to(ROOT)) for file in files]
    return found


def tests_of(path: str) -> list[str]:
    """Return the tests that belong to a module: the file of its name, or else its whole folder.

    Tests stand one folder deep: ``perturbations/depth/light.py`` has
    ``tests/perturbations/test_light.py``, or else ``test_depth.py`` beside it.
    """
    inside = Path(path).relative_to(PACKAGE)
    folder = Path("tests", *inside.parts[:1]) if len(inside.parts) > 1 else Path("tests")
    also = ALSO.get(str(inside), [])
    records = RECORDS.get(inside.parts[0], [])
    for name in (inside.stem, *reversed(inside.parts[1:-1])):
        own = folder / f"test_{name}.py"
        if (ROOT / own).exists():
            found = [str(own), *(test for test in also if test != str(own))]
            return found + records
    return also or [str(folder)]


# --- Running ----------------------------------------------------------------------------------------


def workspace(folder: Path) -> Path:
    """Fill ``folder`` with a copy of the package's modules, and links to everything else."""
    for entry in ROOT.iterdir():
        if entry.name not in (PACKAGE, ".git", ".hypothesis", ".pytest_cache"):
            (folder / entry.name).symlink_to(entry)
    for file in (ROOT / PACKAGE).rglob("*"):
        target = folder / file.relative_to(ROOT)
        if file.is_file() and "__pycache__" not in file.parts:
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".py":
                shutil.copyfile(file, target)
            else:
                target.symlink_to(file)
    return folder


@dataclass(frozen=True)
class Stage:
    """Tests that run together, until the first of them fails.

    Attributes:
        tests: files or folders, relative to the checkout.
        marks: which of them, as ``pytest -m`` takes it.
    """

    tests: tuple[str, ...]
    marks: str


def stages_of(path: str) -> list[Stage]:
    """Return what runs on a mutation of a module: most are noticed by quick tests, without a session."""
    tests = tuple(tests_of(path))
    return [Stage(tests, "not slow"), Stage(tests, "slow")]


def _run(folder: str, stage: Stage, log: str) -> None:
    """Run the tests in a process of its own, which ends with pytest's exit status."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    os.environ["CI"] = "1"  # the same examples in every run
    os.environ["PYTHONPATH"] = folder  # what the tests start imports the mutated package, too
    sys.dont_write_bytecode = True  # two mutations of one second and one size would share a file
    sys.path.insert(0, folder)
    import pytest

    chosen = [*stage.tests, "-m", stage.marks]
    status = pytest.main([*chosen, "-x", "-q", "-p", "no:cacheprovider", "--no-header"])
    sys.stdout.flush()
    os._exit(int(status))


def status_of(folder: Path, stage: Stage, limit: float) -> int | None:
    """Return pytest's exit status in a workspace, None if it ran into the time limit."""
    context = multiprocessing.get_context("forkserver")
    log = str(folder / "mutation.log")
    process = context.Process(target=_run, args=(str(folder), stage, log))
    process.start()
    process.join(limit)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def noticed(folder: Path, mutation: Mutation, limit: float) -> bool:
    """Return whether the tests of a module notice one mutation of it, and print which did."""
    target = folder / mutation.path
    source = target.read_bytes()
    target.write_bytes(mutation.applied(source))
    ran = False
    status: int | None = 0
    try:
        for stage in stages_of(mutation.path):
            status = status_of(folder, stage, limit)
            ran = ran or status != NOTHING_RAN
            if status not in (0, NOTHING_RAN):
                break
    finally:
        target.write_bytes(source)
    if not ran or status == MISUSED:
        raise SystemExit(f"no tests ran for {mutation.path}: see {folder / 'mutation.log'}")
    seen = status not in (0, NOTHING_RAN)
    if seen:
        log = (folder / "mutation.log").read_text().splitlines()
        told = [line for line in log if line.startswith(("FAILED", "ERROR"))]
        how = told[0] if told else "the time limit" if status is None else f"status {status}"
        print(f"noticed  {mutation.path}:{mutation.line} [{mutation.kind}] by {how}", flush=True)
    return seen


def unmutated_seconds(folder: Path, paths: Sequence[str], limit: float) -> dict[str, float]:
    """Return how long the tests of each module take; end the program if some fail without a mutation."""
    took: dict[Stage, float] = {}
    seconds: dict[str, float] = defaultdict(float)
    for path in sorted(set(paths)):
        for stage in stages_of(path):
            if stage not in took:
                begin = time.perf_counter()
                if status_of(folder, stage, limit) not in (0, NOTHING_RAN):
                    log = (folder / "mutation.log").read_text()
                    raise SystemExit(f"{stage} fails without any mutation:\n{log[-3000:]}")
                took[stage] = time.perf_counter() - begin
            seconds[path] = max(seconds[path], took[stage])
    return seconds


def _report(mutation: Mutation) -> None:
    print(f"SURVIVED {mutation.path}:{mutation.line} [{mutation.kind}]")
    print(mutation.diff((ROOT / mutation.path).read_bytes()), flush=True)


def measure(
    chosen: Sequence[Mutation], jobs: int, limit: float, unmutated: bool = True
) -> list[tuple[Mutation, bool]]:
    """Run all mutations, ``jobs`` at a time, and print each survivor as it is found.

    ``unmutated``: run the tests without a mutation first, which must pass.
    """
    seconds: dict[str, float] = {}
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()

    def one(mutation: Mutation) -> tuple[Mutation, bool]:
        folder = free.get()
        try:
            # Tests that are merely slow today must not count as having noticed.
            seen = noticed(folder, mutation, max(limit, 5 * seconds.get(mutation.path, 0.0)))
        finally:
            free.put(folder)
        if not seen:
            _report(mutation)
        return mutation, seen

    with tempfile.TemporaryDirectory(prefix="mutation-") as base:
        for job in range(jobs):
            folder = Path(base, str(job))
            folder.mkdir()
            free.put(workspace(folder))
        if unmutated:
            seconds |= unmutated_seconds(Path(base, "0"), [m.path for m in chosen], 10 * limit)
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, chosen))


def summary(results: Sequence[tuple[Mutation, bool]]) -> str:
    """Return the shares noticed, by module, by kind and in all."""
    shares: dict[str, list[bool]] = defaultdict(list)
    modules = sorted({mutation.path for mutation, _ in results})
    for name in (*modules, *MUTATORS, "all"):
        shares[name] = [
            seen for mutation, seen in results if name in (mutation.path, mutation.kind, "all")
        ]
    return "\n".join(
        f"{name:50} {sum(seen):4} of {len(seen):4}  {sum(seen) / len(seen):6.1%}"
        for name, seen in shares.items()
        if seen
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    parser.add_argument("--count", type=int, default=100, help="size of the sample (100)")
    parser.add_argument(
        "--modules", nargs="+", default=["."], help="folders or files below the package (all)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (1)")
    parser.add_argument(
        "--limit",
        type=float,
        default=120.0,
        help="seconds for one run, or 5 times the unmutated (120)",
    )
    parser.add_argument("--least", type=float, default=0.95, help="share to be noticed (0.95)")
    parser.add_argument(
        "--passing",
        action="store_true",
        help="the tests are known to pass without a mutation: do not run them so first",
    )
    options = parser.parse_args(arguments)
    every = [m for path in modules_of(options.modules) for m in mutations_of(path)]
    chosen = sample(every, options.count, options.seed)
    print(f"{len(chosen)} of {len(every)} mutations, seed {options.seed}", flush=True)
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    results = measure(chosen, options.jobs, options.limit, not options.passing)
    print(summary(results))
    share = sum(seen for _, seen in results) / max(1, len(results))
    return int(share < options.least)


if __name__ == "__main__":
    sys.exit(main())
