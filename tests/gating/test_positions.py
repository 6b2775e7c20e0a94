"""Where things stand in a TOML text."""

from __future__ import annotations

from gating_helpers import FILE
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_cliprobust.gating.positions import Positions
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.toml import loads


def test_nothing_misleads_the_search_for_lines() -> None:
    text = '''\
schema = 1  # [[threshold]]
[[threshold]]
metric = "nll"
max = 1
"because" = """
[[threshold]]
metric = "no"
\\""" # still inside """
[[ "threshold" ]] # one
metric = [  # a list, "with a ] quote"
  'ece',    # ]
  "nll",
]
model = 'a\\'
because = \'\'\'
mx = 1 \'\'\'\'
suite = "a\\\\"; max = 0.1
'''.replace("; ", "\n")
    file = parse_thresholds(text, "t.toml")
    first, second = file.rules
    assert (first.line, second.line) == (2, 9)
    assert first.because == '[[threshold]] metric = "no" """ # still inside'
    assert dict(second.lines) == {
        "metric": 10,
        "model": 14,
        "because": 15,
        "suite": 17,
        "max": 18,
    }
    assert second.because == "mx = 1 '"
    crlf = parse_thresholds(FILE.replace("\n", "\r\n"), "t.toml")
    assert [rule.lines for rule in crlf.rules] == [
        rule.lines for rule in parse_thresholds(FILE, "t.toml").rules
    ]


def test_what_stands_inside_a_table() -> None:
    text = 'schema = 1\n[[rule]]\nmetric = "nll"\nmodel = { name = "a", size = [1, 2] }\n[other]\nx = 1\n'
    found = Positions(text)

    def keys(*path: str | int) -> list[str | int]:
        return [statement.path[-1] for statement in found.inside(*path)]

    assert keys() == ["schema"]
    assert keys("rule", 0) == ["metric", "model"]
    assert keys("rule", 0, "model") == ["name", "size"]
    assert keys("other") == ["x"]
    assert keys("rule") == keys("absent") == []


def test_what_does_not_stand_in_the_text_has_the_line_of_its_nearest_parent() -> None:
    text = "schema = 1\n\n[[rule]]\nx = 1\n[[rule]]\n  y = {z = 2}  # end"
    found = Positions(text)
    assert found.line("rule", 1, "y", "z") == 6
    assert found.line("rule", 1, "y", "gone", "deeper") == 6
    assert found.line("rule", 1, "gone", "and", "deeper", "still") == 5
    assert found.line("rule", 0, "gone") == 3
    assert found.line("gone", "entirely") == found.line() == 1
    assert found.at("rule", 1, "gone") is None
    at = found.at("rule", 1, "y")
    assert at is not None
    assert (text[at.start], text[at.value_start : at.value_end]) == ("y", "{z = 2}")
    assert text[found.line_start(at.start) :] == "  y = {z = 2}  # end"
    # The last line has no newline, the first has.
    assert found.line_end(at.start) == at.end == len(text)
    assert found.line_end(3) == len("schema = 1\n")
    assert found.line_at(len("schema = 1")) == 1
    assert found.line_at(len("schema = 1\n")) == 2
    # A parent is where it is first mentioned.
    dotted = Positions("x = 1\na.b.c = 1\na.b.d = 2\n")
    assert [dotted.line(*path) for path in (("a",), ("a", "b"), ("a", "b", "d"))] == [2, 2, 3]


PIECES = st.lists(
    st.sampled_from(
        [
            "# [[threshold]] max = 0.9\n",
            "\n",
            "  \t\n",
            'k{} = "a # \\" b"\n',
            "k{} = 'a \\'  # x\n",
            'k{} = """\n[[threshold]]\n""""\n',
            "k{} = '''x''y\n'''''\n",
            "k{} = [1, [2, # ]\n 'x]'], {{a = \"}}\"}}]\n",
            "k{}.'q.r'.s = 1979-05-27 07:32:00 # date\n",
            '  "k{} \\u00e9" = 0x1F\n',
            "[t{}.a]\n",
            "[[a{}.'b c']]\nx = 1\n[a{}.'b c'.sub]\ny = 2\n",
        ]
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(PIECES, st.booleans())
def test_the_position_scan_agrees_with_the_parser(pieces: list[str], crlf: bool) -> None:
    text = "".join(piece.format(i, i) for i, piece in enumerate(pieces))
    text = text.replace("\n", "\r\n") if crlf else text
    data = loads(text)
    positions = Positions(text)
    pairs = [s for s in positions.statements if s.kind == "pair"]
    for statement in pairs:
        found = data
        for part in statement.path:
            found = found[part]  # type: ignore[index]
        value = text[statement.value_start : statement.value_end]
        assert loads(f"v = {value}")["v"] == found
        assert positions.line(*statement.path) == text[: statement.start].count("\n") + 1

    def leaves(node: object) -> int:
        # Inline tables and arrays are one statement; here only k{} holds those.
        if isinstance(node, dict):
            return sum(leaves(child) for child in node.values())
        if isinstance(node, list) and node and all(isinstance(child, dict) for child in node):
            return sum(leaves(child) for child in node)
        return 1

    assert len(pairs) == leaves(data)


def test_headers_of_tables_are_told_from_those_of_lists() -> None:
    text = "a = 1\n[b]\nc = { d = [2] }\n[[e]]\n[e.f]\n"
    found = [(one.kind, one.path) for one in Positions(text).statements]
    assert found == [
        ("pair", ("a",)),
        ("table", ("b",)),
        ("pair", ("b", "c")),
        ("key", ("b", "c", "d")),
        ("item", ("b", "c", "d", 0)),
        ("array", ("e", 0)),
        ("table", ("e", 0, "f")),
    ]
