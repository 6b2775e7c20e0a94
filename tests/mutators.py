"""Small mistakes, one at a time: what can be changed in a module, and seeded samples of it.

Kinds: a changed constant, a comparison that includes its border or no longer does, ``and`` for ``or``, a
dropped or swapped clamp, plus for minus, an index off by one, a guard that never fires, a branch that is
always or never taken, a loop over its first item only. ``mutation.py`` shows which of them the tests notice.
"""

from __future__ import annotations

import ast
import copy
import difflib
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "pytest_cliprobust"

#: Keywords whose value only says how a mistake is told, or how a thing is shown.
_UNMUTATED_KEYWORDS = {"strict", "repr", "compare", "frozen", "stacklevel"}

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

    def aligned(self, source: bytes) -> bytes:
        """Return the mutated source with every later line where it was."""
        removed = source[self.start : self.end].count(b"\n") - self.text.count("\n")
        text = f"({self.text}" + "\n" * removed + ")" if removed > 0 else self.text
        return source[: self.start] + text.encode() + source[self.end :]

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


def one_of_each(mutations: Sequence[Mutation], count: int, seed: int) -> list[Mutation]:
    """Return one mutation of each of ``count`` modules: of each a kind is drawn, then one of it."""
    by_module: dict[str, list[Mutation]] = defaultdict(list)
    for mutation in mutations:
        by_module[mutation.path].append(mutation)
    generator = random.Random(seed)
    chosen = []
    for path in generator.sample(sorted(by_module), min(count, len(by_module))):
        kind = generator.choice(sorted({mutation.kind for mutation in by_module[path]}))
        chosen.append(generator.choice([m for m in by_module[path] if m.kind == kind]))
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
