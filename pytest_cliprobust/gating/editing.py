"""Writing bounds into the text of a threshold file, so that all the rest stays byte by byte.

Bounds are replaced where they stand. New ones become rows of the table that is for their suite and
metric, or of a new table. Afterwards the text is parsed again and held against what was meant.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_cliprobust.gating import toml
from pytest_cliprobust.gating.measured import (
    RECORDED,
    Measured,
    comment_on,
    find_comment,
    renewed,
)
from pytest_cliprobust.gating.positions import Positions
from pytest_cliprobust.gating.rules import BOUNDS, CHANGES, Kind, Place, literal

#: The order in which a row names what it selects.
_ORDER = ("suite", "metric", "dataset", "perturbation", "severity", "model", "profile")
#: Of a new table's rows these stand in the table if all rows agree, even if it is only one.
_SHARED = ("dataset", "model", "profile")
_INDENT = "    "

Table = dict[str, Any]


@dataclass(frozen=True)
class Update:
    """New values of bounds of a rule that the file has.

    Attributes:
        place: where it stands.
        values: the bounds by kind.
        measured: what they come from.
        replaced: by kind, the bound that stands there so far under another name.
    """

    place: Place
    values: Mapping[Kind, float]
    measured: Measured
    replaced: Mapping[Kind, Kind] = field(default_factory=dict)


@dataclass(frozen=True)
class Addition:
    """A rule that the file does not have: its whole selector, its bounds.

    Attributes:
        fields: the names and the severity that it selects; a field that is missing is open.
        values: its bounds.
        measured: what they come from.
    """

    fields: Mapping[str, str | int]
    values: Mapping[Kind, float]
    measured: Measured


def written_with(text: str, updates: Iterable[Update], additions: Iterable[Addition]) -> str:
    """Return the text with the bounds in it.

    Raises:
        RuntimeError: anything else would have changed, which is a mistake of this module.
    """
    return _Editor(text).result(list(updates), list(additions))


@dataclass(frozen=True)
class _Row:
    """An addition, or several that differ only in severity and so stand in one row."""

    parts: tuple[Addition, ...]

    @property
    def fields(self) -> dict[str, Any]:
        """What it selects, with a list of severities where there are several."""
        first: dict[str, Any] = dict(self.parts[0].fields)
        if len(self.parts) > 1:
            first["severity"] = [part.fields["severity"] for part in self.parts]
        return first

    @property
    def values(self) -> dict[Kind, Any]:
        """Its bounds: numbers, or lists with one for each severity."""
        several = len(self.parts) > 1
        return {
            kind: [part.values[kind] for part in self.parts] if several else value
            for kind, value in self.parts[0].values.items()
        }

    @property
    def comment(self) -> str:
        return str(comment_on([part.measured for part in self.parts]))

    def below(self, given: Mapping[str, Any]) -> Table:
        """Return the row as a table that inherits ``given``."""
        return _named(self.fields, given) | {str(k): value for k, value in self.values.items()}


class _Editor:
    """Collects edits of one text; see :func:`written_with`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.positions = Positions(text)
        self.data = toml.loads(text)
        self.defaults: Table = self.data.get("defaults", {})
        self.tables: list[Table] = self.data.get("threshold", [])
        self.expected: list[Table] = copy.deepcopy(self.tables)
        self.following: dict[int, list[Table]] = {}  # New tables, by the table that they follow.
        self.edits: list[tuple[int, int, int, str]] = []  # start, stop, order, replacement

    def result(self, updates: Sequence[Update], additions: Sequence[Addition]) -> str:
        groups: dict[tuple[str | int, ...], list[Update]] = {}
        for update in updates:
            groups.setdefault(update.place.path, []).append(update)
        for group in groups.values():
            self._update(group)
        self._add(_rows(additions))
        text = self._edited()
        if toml.loads(text) != self._expected():
            raise RuntimeError("recording would have changed more of the file than it should")
        return text

    def _edit(self, start: int, stop: int, replacement: str, order: int = 0) -> None:
        self.edits.append((start, stop, order, replacement))

    def _edited(self) -> str:
        parts, at = [], 0
        for start, stop, _, replacement in sorted(self.edits, key=lambda edit: (edit[0], edit[2])):
            parts += [self.text[at:start], replacement]
            at = stop
        return "".join([*parts, self.text[at:]])

    def _expected(self) -> Table:
        tables = list(self.following.get(-1, []))
        for index, table in enumerate(self.expected):
            tables += [table, *self.following.get(index, [])]
        last = self.following.get(len(self.expected), [])
        expected = copy.deepcopy(self.data)
        if tables or last:
            expected["threshold"] = [*tables, *last]
        return expected

    # Bounds that stand in the file.

    def _update(self, group: Sequence[Update]) -> None:
        """Replace bounds of one table or row; nothing is touched where nothing is new."""
        place = group[0].place
        table = self.tables[place.table]
        target = self.expected[place.table]
        if place.row is not None:
            table, target = table["bounds"][place.row], target["bounds"][place.row]
        changed = [one for one in group if not _holds(table, one)]
        if not changed:
            return
        names = {kind: old for one in changed for kind, old in one.replaced.items() if old in table}
        for kind, name in names.items():
            self._rename(place, name, kind)
            del target[name]
        size = max((len(table[k]) for k in BOUNDS if isinstance(table.get(k), list)), default=0)
        whole = {one.place.element or 0: one.measured for one in changed}
        every = {one.place.element or 0: one.measured for one in group}
        comment = str(comment_on([every.get(element) for element in range(max(size, 1))]))
        for kind in BOUNDS:
            news = {one.place.element: one.values[kind] for one in changed if kind in one.values}
            if news:
                old = names.get(kind, kind)
                target[kind] = self._set(place, old, table.get(old), news, size, comment)
        self._renew(place, table, target, whole, comment, max(size, 1))

    def _rename(self, place: Place, old: Kind, new: Kind) -> None:
        """Give a bound the name of another kind."""
        found = self.positions.at(*place.path, old)
        assert found is not None
        key = self.text[found.start : found.value_start]
        self._edit(found.start, found.value_start, key.replace(old, new, 1))

    def _set(
        self,
        place: Place,
        kind: Kind,
        old: Any,
        news: Mapping[int | None, float],
        size: int,
        comment: str,
    ) -> Any:
        """Write one bound, of one severity or of several, and return its value then."""
        if not size:
            value: Any = news[None]
        elif isinstance(old, list):
            for element, new in news.items():
                self._put((*place.path, kind, element or 0), new)
            return [news.get(element, each) for element, each in enumerate(old)]
        else:
            # One number for all severities, or none so far.
            value = [news.get(element, old) for element in range(size)]
        if old is None:
            self._insert(place, kind, value, comment)
        else:
            self._put((*place.path, kind), value)
        return value

    def _put(self, path: tuple[str | int, ...], value: Any) -> None:
        found = self.positions.at(*path)
        assert found is not None
        if self.text[found.value_start : found.value_end] != toml.written(value):
            self._edit(found.value_start, found.value_end, toml.written(value))

    def _insert(self, place: Place, kind: Kind, value: Any, comment: str) -> None:
        """Write a key that a table or a row does not have yet, behind its last one.

        A margin in a table says what it comes from: only so recording knows it again.
        """
        last = max(self.positions.inside(*place.path), key=lambda statement: statement.start)
        pair = f"{kind} = {toml.written(value)}"
        if place.row is not None:
            self._edit(last.value_end, last.value_end, f", {pair}")
            return
        line = self.text[self.positions.line_start(last.start) : last.start] + pair
        recorded = str(self.tables[place.table].get("because", "")).startswith(RECORDED)
        line += f"  {comment}" if kind in CHANGES and not recorded else ""
        ended = self.text[last.value_end : last.end].endswith("\n")
        self._edit(last.end, last.end, line + self.newline if ended else self.newline + line, 2)

    def _renew(
        self,
        place: Place,
        table: Table,
        target: Table,
        changed: Mapping[int, Measured],
        comment: str,
        size: int,
    ) -> None:
        """Renew what recording once wrote of where the bounds come from, and nothing else."""
        because = self.positions.at(*place.path, "because")
        if because is not None and table["because"].startswith(RECORDED) and size == 1:
            target["because"] = changed[0].reason
            self._edit(because.value_start, because.value_end, toml.written(changed[0].reason))
        if place.row is None:
            for kind in BOUNDS:
                found = self.positions.at(*place.path, kind)
                if found is not None:
                    self._renew_comment(found.value_end, changed, size)
            return
        row = self.positions.at(*place.path)
        assert row is not None
        end = self._behind_comma(row.end)
        if not self._renew_comment(end, changed, size) and because is None:
            rest = self.text[end : self.positions.line_end(end)]
            if not rest.strip():
                self._edit(end, end, f"  {comment}", 1)

    def _renew_comment(self, end: int, changed: Mapping[int, Measured], size: int) -> bool:
        """Renew the comment of recording in the rest of a line; return whether there is one."""
        rest = self.text[end : self.positions.line_end(end)]
        if not rest.lstrip().startswith("#"):
            return False
        span = find_comment(self.text, end, end + len(rest))
        if span is None:
            return False
        comment = renewed(self.text[slice(*span)], changed, size)
        self._edit(*span, str(comment))
        return True

    def _behind_comma(self, end: int) -> int:
        """Return the offset behind the comma that follows on the same line, if one does."""
        at = end
        while at < len(self.text) and self.text[at] in " \t":
            at += 1
        return at + 1 if self.text.startswith(",", at) else end

    # Bounds that are new.

    def _add(self, rows: Sequence[_Row]) -> None:
        known: dict[int, list[_Row]] = {}
        new: dict[tuple[Any, Any], list[_Row]] = {}
        for row in rows:
            table = self._table_for(row)
            if table is not None:
                known.setdefault(table, []).append(row)
            else:
                new.setdefault((row.fields.get("suite"), row.fields["metric"]), []).append(row)
        for table, group in known.items():
            self._append_rows(table, group)
        for group in new.values():
            self._append_table(group)

    def _given(self, table: int) -> Table:
        return {**self.defaults, **self.tables[table]}

    def _table_for(self, row: _Row) -> int | None:
        """Return the table whose rows are for this suite and metric, or None.

        One that names the metric comes before one whose rows do, then the one with most in common.
        """
        best, found = (False, -1), None
        for index, table in enumerate(self.tables):
            given = self._given(index)
            if "bounds" not in table or not _agrees(row.fields, given, "suite"):
                continue
            named = "metric" in table
            if named and not _agrees(row.fields, given, "metric"):
                continue
            common = sum(name in table and _agrees(row.fields, given, name) for name in _ORDER)
            if (named, common) > best:
                best, found = (named, common), index
        return found

    def _append_rows(self, table: int, rows: Sequence[_Row]) -> None:
        """Put rows at the end of a table's ``bounds``."""
        given = self._given(table)
        content = [row.below(given) for row in rows]
        self.expected[table]["bounds"] += content
        bounds = self.positions.at("threshold", table, "bounds")
        last = self.positions.at(
            "threshold", table, "bounds", len(self.tables[table]["bounds"]) - 1
        )
        assert bounds is not None
        assert last is not None
        if not self.text.startswith(",", self.positions.after(last.end)):
            self._edit(last.end, last.end, ",")
        start = self.positions.line_start(last.start)
        before = self.text[start : last.start]
        indent = _INDENT if before.strip() else before
        lines = [
            f"{indent}{_inline(each)},  {row.comment}{self.newline}"
            for each, row in zip(content, rows, strict=True)
        ]
        bracket = bounds.value_end - 1
        start = self.positions.line_start(bracket)
        if self.text[start:bracket].strip():
            self._edit(bracket, bracket, self.newline + "".join(lines), 2)
        else:
            self._edit(start, start, "".join(lines), 2)

    def _append_table(self, rows: Sequence[_Row]) -> None:
        """Write a new table, behind the last one of its suite or at the end of the file."""
        shared = _shared_fields(rows)
        table = {k: v for k, v in shared.items() if not _agrees(shared, self.defaults, k)}
        content = [row.below({**self.defaults, **table}) for row in rows]
        lines = ["[[threshold]]"]
        lines += [f"{name} = {toml.written(value)}" for name, value in table.items()]
        lines += ["bounds = ["]
        lines += [
            f"{_INDENT}{_inline(each)},  {row.comment}"
            for each, row in zip(content, rows, strict=True)
        ]
        text = self.newline.join(["", *lines, "]", ""])
        after = self._last_of_suite(rows[0])
        if after is None:
            index, at = len(self.tables), len(self.text)
            if not self._ends_line():
                text = self.newline + text
        else:
            index, at = after, self._table_end(after)
        self._edit(at, at, text, 3)
        self.following.setdefault(index, []).append({**table, "bounds": content})

    def _ends_line(self) -> bool:
        """Whether what is appended to the text begins on a line of its own."""
        own = [e for e in self.edits if e[1] == len(self.text)]
        last = max(own, key=lambda edit: (edit[0], edit[2]))[3] if own else self.text
        return last.endswith("\n")

    def _last_of_suite(self, row: _Row) -> int | None:
        """Return the last table of the row's suite behind which a new one can stand."""
        for index in reversed(range(len(self.tables))):
            if _agrees(row.fields, self._given(index), "suite"):
                return index if self._table_end(index) < len(self.text) else None
        return None

    def _table_end(self, table: int) -> int:
        """Return the offset behind the last line of a table."""
        return max(pair.end for pair in self.positions.inside("threshold", table))


def _holds(table: Mapping[str, Any], update: Update) -> bool:
    """Whether the table has these bounds already."""
    for kind, value in update.values.items():
        old = table.get(kind)
        if isinstance(old, list):
            old = old[update.place.element or 0]
        if old != value:
            return False
    return True


def _rows(additions: Iterable[Addition]) -> list[_Row]:
    """Put what differs only in severity into one row, the mildest first."""
    groups: dict[Any, list[Addition]] = {}
    for addition in additions:
        others = tuple((k, v) for k, v in addition.fields.items() if k != "severity")
        has = "severity" in addition.fields
        groups.setdefault((has, others, tuple(addition.values)), []).append(addition)
    return [
        _Row(tuple(sorted(group, key=lambda one: one.fields.get("severity", 0))))
        for group in groups.values()
    ]


def _agrees(fields: Mapping[str, Any], given: Mapping[str, Any], name: str) -> bool:
    """Whether what a table has given for a field is just what is wanted."""
    wanted, has = fields.get(name), given.get(name)
    if wanted is None or has is None:
        return wanted is None and has in (None, "*")
    if isinstance(wanted, str) and isinstance(has, str):
        return literal(has) is not None and literal(has) == literal(wanted)
    return bool(wanted == has)


def _named(fields: Mapping[str, Any], given: Mapping[str, Any]) -> Table:
    """Return what must be named to select ``fields`` where ``given`` is inherited."""
    return {name: fields.get(name, "*") for name in _ORDER if not _agrees(fields, given, name)}


def _shared_fields(rows: Sequence[_Row]) -> dict[str, Any]:
    """Return what a new table names once for all of its rows."""
    first = rows[0].fields
    shared: dict[str, Any] = {n: first[n] for n in ("suite", "metric") if n in first}
    names = (*_SHARED, "perturbation") if len(rows) > 1 else _SHARED
    for name in _ORDER:
        if name in names and name in first and all(r.fields.get(name) == first[name] for r in rows):
            shared[name] = first[name]
    return shared


def _inline(table: Mapping[str, Any]) -> str:
    return "{ " + ", ".join(f"{key} = {toml.written(value)}" for key, value in table.items()) + " }"
