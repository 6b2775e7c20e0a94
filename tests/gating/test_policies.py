"""Packs: policies by name that threshold files extend; whose value counts, and where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
from gating_helpers import measure

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.gating.policies import LEAST_ERROR_RATE, bundled
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.reading import load_thresholds, parse_thresholds
from pytest_cliprobust.gating.recording import record
from pytest_cliprobust.gating.thresholds import ThresholdFile
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.reporting.header import policy_lines

HEAD = "schema = 1\n"

#: A bound for every calibration error.
ECE = '[[threshold]]\nmetric = "ece"\nmax = {}\n'


def policy(folder: Path, text: str) -> Policy:
    path = folder / "thresholds.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    return load_thresholds(path).policy


def pack(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(HEAD + text, encoding="utf-8")


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(ClipRobustError) as caught:
        policy(folder, text)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


# --- Those that ship -------------------------------------------------------------------------------


def test_three_ship_and_a_release_is_asked_more_than_a_night(tmp_path: Path) -> None:
    assert bundled() == ("nightly", "release", "research")
    release, nightly, research = (
        policy(tmp_path, f'extends = "{name}"\n') for name in ("release", "nightly", "research")
    )
    shares = [one.inconclusive_share for one in (release, nightly, research)]
    assert shares == sorted(shares)
    assert (release.skipped, release.unused) == ("fail", "fail")
    assert (nightly.skipped, nightly.unused) == ("warn", "warn")
    assert (research.inconclusive, research.too_many(10, 10)) == ("pass", False)
    # None of them loosens what a real loss is.
    plain = Policy()
    for one in (release, nightly, research):
        assert one.family_wise_error_rate == plain.family_wise_error_rate
        assert one.confidence == plain.confidence
        assert not one.require_bound


def test_each_value_of_a_pack_says_where_it_is_from(tmp_path: Path) -> None:
    found = policy(tmp_path, 'extends = "nightly"\n[policy]\nskipped = "fail"\n')
    assert (found.skipped, found.unused, found.packs) == ("fail", "warn", ("pack nightly",))
    assert found.where_of("unused") == "pack nightly"
    assert found.where_of("skipped") == found.where
    assert "unused warn (pack nightly)" in found.sourced()
    both = Policy(sources={"unused": "pack b", "churn": "pack a"})
    assert both.sourced() == ["churn 0.06 (pack a)", "unused fail (pack b)"]
    assert Policy().sourced() == []
    assert Policy(sources={"require_bound": "pack a"}).sourced() == ["require_bound false (pack a)"]
    assert not any(line.startswith("skipped") for line in found.sourced())


# --- Whose value counts ----------------------------------------------------------------------------


def test_the_file_counts_then_the_later_pack_then_what_it_extends(tmp_path: Path) -> None:
    pack(tmp_path, "a.toml", 'extends = "release"\n[policy]\nchurn = 0.1\nunused = "warn"\n')
    pack(tmp_path, "b.toml", "[policy]\nchurn = 0.2\nconfidence = 0.9\n")
    found = policy(tmp_path, 'extends = ["a.toml", "./b.toml"]\n[policy]\nconfidence = 0.8\n')
    assert (found.churn, found.confidence, found.unused) == (0.2, 0.8, "warn")
    assert found.inconclusive_share == 0.1
    assert [name.rpartition("/")[2] for name in found.packs] == ["pack release", "a.toml", "b.toml"]
    assert found.where_of("churn").endswith("b.toml:3")
    assert found.where_of("unused").endswith("a.toml:5")
    assert found.where_of("inconclusive_share") == "pack release"


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    pack(tmp_path, "shared/company.toml", 'extends = "../base.toml"\n')
    pack(tmp_path, "base.toml", "[policy]\nchurn = 0.3\n")
    (tmp_path / "project").mkdir()
    assert policy(tmp_path / "project", 'extends = "../shared/company.toml"\n').churn == 0.3


def test_one_pack_by_two_ways_is_no_circle(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml"):
        pack(tmp_path, name, 'extends = "release"\n')
    found = policy(tmp_path, 'extends = ["a.toml", "b.toml"]\n')
    assert len(found.packs) == 3


def test_no_pack_is_no_difference() -> None:
    assert parse_thresholds(HEAD + "extends = []\n").policy == parse_thresholds(HEAD).policy


# --- Mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('extends = "relase"\n', "unknown pack 'relase'. Did you mean 'release'?"),
        ('extends = "https://x.org/p.toml"\n', "packs are read from files, never from a network"),
        ('extends = "/etc/company.toml"\n', "write the path relative to this file"),
        ('extends = "~/company.toml"\n', "write the path relative to this file"),
        ("extends = 'a\\company.toml'\n", "write the path relative to this file"),
        ('extends = "./company.toml"\n', "extends './company.toml': there is no such file"),
        (f'extends = "./{"x" * 5000}.toml"\n', "there is no such file"),
        ('extends = "./a\\u0000b.toml"\n', "there is no such file"),
        ("extends = 3\n", "extends must be the name of a pack, or a list of them, not 3"),
        ('extends = ["release", ""]\n', "extends must be the name of a pack, or a list of them"),
    ],
)
def test_mistakes_in_the_name(tmp_path: Path, text: str, words: str) -> None:
    told = complaint(tmp_path, text)
    assert told.startswith("thresholds.toml:2: ")
    assert words in told


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[policy]\nunusde = "warn"\n', 3, "unknown key 'unusde' in [policy]"),
        ("[policy]\nchurn = 7\n", 3, "churn is a share in (0, 0.5], not 7"),
        ('[policy]\nbaseline = "b.json"\n', 3, "a pack cannot set baseline"),
        ('[[threshold]]\nmetric = "ece"\nmax = 7\n', 4, "max 7"),
        ('[[threshold]]\nmetric = "ece"\n', 2, "[[threshold]] has no bound"),
        (f"{ECE.format(0.1)}{ECE.format(0.2)}", 5, "[metric=ece] has a rule already, in line 2"),
        ("[[waiver]]\n", 2, "a pack holds a policy and bounds, and no waiver"),
        ("[other]\n", 2, "unknown key 'other' in a pack"),
        ('extends = "gone.toml"\n', 2, "extends 'gone.toml': there is no such file"),
        ("schema = 2\n", 2, "not valid TOML"),
    ],
)
def test_mistakes_in_a_pack_name_its_own_line(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    pack(tmp_path, "company.toml", text)
    told = complaint(tmp_path, 'extends = "company.toml"\n')
    assert told.startswith(f"company.toml:{line}: {words}")


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("inconclusive_share", (0, 0.0, 1, 1.0), (-0.001, 1.001, "true")),
        ("confidence", (0.501, 0.999), (0.5, 1, 0.0)),
        ("family_wise_error_rate", (LEAST_ERROR_RATE, 0.5), (LEAST_ERROR_RATE / 1.01, 0.501, 0)),
        ("churn", (0.001, 0.5), (0, 0.0, 0.501, -0.1)),
        ("require_bound", ("true", "false"), (1, 0, '"true"')),
    ],
)
def test_both_sides_of_each_range(
    key: str, good: tuple[object, ...], bad: tuple[object, ...]
) -> None:
    for value in good:
        found = getattr(parse_thresholds(f"{HEAD}[policy]\n{key} = {value}\n").policy, key)
        assert found == {"true": True, "false": False}.get(str(value), value)
    for value in bad:
        with pytest.raises(ClipRobustError, match=rf":3: .*{key}"):
            parse_thresholds(f"{HEAD}[policy]\n{key} = {value}\n", "t.toml")


def test_a_pack_without_a_schema(tmp_path: Path) -> None:
    (tmp_path / "company.toml").write_text("[policy]\n", encoding="utf-8")
    told = complaint(tmp_path, 'extends = "company.toml"\n')
    assert told.startswith("company.toml:1: schema is missing")


def test_what_leads_back_to_itself_says_by_which_way(tmp_path: Path) -> None:
    pack(tmp_path, "a.toml", 'extends = "b.toml"\n')
    pack(tmp_path, "b.toml", 'extends = "./a.toml"\n')
    told = complaint(tmp_path, 'extends = "a.toml"\n')
    assert told == (
        "b.toml:2: extends './a.toml' leads back to itself: a.toml extends b.toml extends a.toml"
    )


# --- Bounds ----------------------------------------------------------------------------------------


def bounds(folder: Path, text: str) -> ThresholdFile:
    path = folder / "thresholds.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    return load_thresholds(path)


def test_bounds_of_a_pack_judge_and_name_its_line(tmp_path: Path) -> None:
    pack(tmp_path, "company.toml", f'[defaults]\nsuite = "calibration"\n{ECE.format(0.1)}')
    file = bounds(tmp_path, 'extends = "company.toml"\n')
    rule = file.lookup(measure())
    assert rule is not None
    assert (rule.maximum, rule.rank) == (0.1, -1)
    assert rule.where.endswith("company.toml:4")
    assert file.lookup(measure(suite="ood")) is None  # the pack's defaults are for its own bounds
    assert file.unused() == []


def test_of_equally_specific_bounds_the_nearer_one_counts(tmp_path: Path) -> None:
    pack(tmp_path, "base.toml", ECE.format(0.5))
    pack(tmp_path, "a.toml", f'extends = "base.toml"\n{ECE.format(0.4)}')
    pack(tmp_path, "b.toml", ECE.format(0.3))

    def limit(text: str) -> float | None:
        rule = bounds(tmp_path, text).lookup(measure())
        return None if rule is None else rule.maximum

    both = 'extends = ["a.toml", "b.toml"]\n'
    assert limit('extends = "a.toml"\n') == 0.4
    assert limit(both) == 0.3
    assert limit('extends = ["b.toml", "a.toml"]\n') == 0.4
    assert limit('extends = ["a.toml", "b.toml", "base.toml"]\n') == 0.5
    assert limit(both + ECE.format(0.2)) == 0.2
    assert len(bounds(tmp_path, both + ECE.format(0.2)).rules) == 1  # others are for the very same
    # Nearness decides between equals alone: what is more specific wins wherever it stands.
    pack(tmp_path, "b.toml", ECE.format(0.3).replace("max", 'suite = "calibration"\nmax'))
    assert limit(both + ECE.format(0.2)) == 0.3


def test_equals_that_differ_are_a_tie_within_one_file_alone(tmp_path: Path) -> None:
    other = ECE.format(0.3).replace('"ece"', '"ec*"').replace("max", 'suite = "calibration"\nmax')
    own = ECE.format(0.2).replace('"ece"', '"e*e"').replace("max", 'suite = "calibration"\nmax')
    pack(tmp_path, "a.toml", other)
    file = bounds(tmp_path, f'extends = "a.toml"\n{own}')
    rule = file.lookup(measure())
    assert rule is not None
    assert rule.maximum == 0.2
    told = file.explain(measure()).splitlines()
    assert told[1].startswith("  wins  ")
    assert "thresholds.toml counts before " in told[2]
    assert told[2].startswith("  loses ")
    assert told[2].rstrip(")").endswith("a.toml")
    pack(tmp_path, "a.toml", other + own)
    assert "equally specific" in complaint(tmp_path, 'extends = "a.toml"\n')


def test_recording_leaves_a_pack_as_it_is(tmp_path: Path) -> None:
    exact = (
        '[[threshold]]\nsuite = "calibration"\nmetric = "ece"\ndataset = "clean"\n'
        'perturbation = "clean"\nmodel = "reference"\nmax = 0.5\n'
    )
    pack(tmp_path, "company.toml", exact)
    before = (tmp_path / "company.toml").read_text(encoding="utf-8")
    file = bounds(tmp_path, 'extends = "company.toml"\n')
    assert (rule := file.lookup(measure())) is not None
    assert rule.rank == -1
    record(tmp_path / "thresholds.toml", [measure()])
    assert (tmp_path / "company.toml").read_text(encoding="utf-8") == before
    after = load_thresholds(tmp_path / "thresholds.toml")
    assert [one.rank for one in after.rules] == [0]
    told = (tmp_path / "thresholds.toml").read_text(encoding="utf-8")
    record(tmp_path / "thresholds.toml", [measure()])
    assert (tmp_path / "thresholds.toml").read_text(encoding="utf-8") == told


# --- What is told of it ----------------------------------------------------------------------------


def test_header_explanation_and_verdict_name_the_pack(tmp_path: Path) -> None:
    pack(tmp_path, "strict.toml", "[policy]\nrequire_bound = true\n")
    path = tmp_path / "thresholds.toml"
    path.write_text(HEAD + 'extends = ["release", "strict.toml"]\n', encoding="utf-8")
    file = load_thresholds(path)
    (line,) = policy_lines(file.policy)
    assert line.startswith("clip policy: extends pack release, ")
    assert "inconclusive_share 0.1, " in line
    assert line.count("(pack release)") == 1
    assert "require_bound true (" in line
    own = parse_thresholds(HEAD + "extends = []\n")
    assert policy_lines(own.policy) == []
    assert policy_lines(Policy()) == []
    told = file.explain(measure()).splitlines()
    assert "  policy  inconclusive_share 0.1 (pack release)" in told
    why = judge(measure(), None, file.policy).explanation
    assert why.endswith("strict.toml:3 requires one")


def test_recording_keeps_the_line_and_reads_the_pack(tmp_path: Path) -> None:
    pack(tmp_path, "company.toml", "[policy]\nconfidence = 0.8\n")
    path = tmp_path / "thresholds.toml"
    path.write_text(HEAD + 'extends = "./company.toml"  # ours\n', encoding="utf-8")
    record(path, [measure()])
    assert path.read_text(encoding="utf-8").startswith(
        HEAD + 'extends = "./company.toml"  # ours\n'
    )
    assert len(load_thresholds(path).rules) == 1


@pytest.mark.parametrize(
    ("undecided", "judged", "too_many"),
    [(0, 0, False), (0, 1, False), (1, 1, True), (1, 4, False), (2, 4, True), (25, 100, False)],
)
def test_a_run_may_leave_a_share_of_what_it_judged_undecided(
    undecided: int, judged: int, too_many: bool
) -> None:
    assert Policy(inconclusive_share=0.25).too_many(undecided, judged) is too_many


def test_a_baseline_is_a_path_and_its_model_a_text() -> None:
    text = '[policy]\nbaseline = "old/b.json"\nbaseline_model = "old"\n'
    policy = parse_thresholds(HEAD + text, "t.toml").policy
    assert (policy.baseline, policy.baseline_model) == (Path("old/b.json"), "old")


def test_bounds_of_every_pack_count_each_by_its_distance(tmp_path: Path) -> None:
    pack(
        tmp_path,
        "base.toml",
        f'[defaults]\nsuite = "one"\n{ECE.format(0.5)}{ECE.format(0.6)}'.replace(
            "max = 0.6", 'max = 0.6\nsuite = "two"'
        ),
    )
    pack(tmp_path, "a.toml", f'extends = "base.toml"\n{ECE.format(0.4)}')
    pack(tmp_path, "b.toml", ECE.format(0.3).replace('"ece"', '"nll"'))
    file = bounds(tmp_path, 'extends = ["a.toml", "b.toml"]\n' + ECE.format(0.2))
    found = [(rule.index, rule.rank, rule.maximum, Path(rule.file).name) for rule in file.rules]
    # Of b.toml the bound on NLL; of a.toml nothing, for the file has a bound for the very same.
    assert found == [
        (0, 0, 0.2, "thresholds.toml"),
        (1, -1, 0.3, "b.toml"),
        (2, -3, 0.5, "base.toml"),
        (3, -3, 0.6, "base.toml"),
    ]


def test_each_bound_of_a_nearer_file_takes_the_place_of_a_pack_s(tmp_path: Path) -> None:
    def both(ece: float, nll: float) -> str:
        return ECE.format(ece) + ECE.format(nll).replace('"ece"', '"nll"')

    pack(tmp_path, "base.toml", both(0.5, 0.6))
    pack(tmp_path, "a.toml", f'extends = "base.toml"\n{both(0.3, 0.4)}')
    for own, expected in (
        ("", [(0, -1, 0.3), (1, -1, 0.4)]),
        (both(0.1, 0.2), [(0, 0, 0.1), (1, 0, 0.2)]),
    ):
        file = bounds(tmp_path, 'extends = "a.toml"\n' + own)
        assert [(rule.index, rule.rank, rule.maximum) for rule in file.rules] == expected
