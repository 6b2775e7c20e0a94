"""Sessions and the history: every run is kept, by the process that reports, and none fails for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import Sessions, one_line, report

from pytest_cliprobust import cli
from pytest_cliprobust.results.compare import Word, compare
from pytest_cliprobust.results.history import History
from pytest_cliprobust.results.outcomes import pseudonymous

SUITE = """
    import pytest
    from pytest_cliprobust.properties import accuracy, ood

    @pytest.mark.parametrize("changed", [(), ("fog_3d", 3)])
    def test_accuracy(clip, gate, changed):
        gate(accuracy.accuracy_of(clip.on("clean", *changed)))

    def test_drop(clip, gate):
        gate(accuracy.accuracy_drop(clip.on("clean"), clip.on("clean", "fog_3d", 3)))

    def test_ood(clip, gate, near_ood):
        gate(ood.detection(clip.on("clean"), clip.on(near_ood), ["max_logit"]))
"""

FAILS = """
schema = 1
[[threshold]]
metric = "accuracy"
perturbation = "clean"
min = 0.999
because = "it breaks"
"""


def history_of(run: Sessions) -> History:
    return History(run.path / "own" / "history.sqlite")


def test_a_run_is_kept_with_what_its_figures_are_made_of(run: Sessions) -> None:
    result = run(
        *("--clip-history=own/history.sqlite", "--clip-tag=a", "--clip-tag=b"),
        "--clip-report=report.json",
        suite=SUITE,
        thresholds=FAILS,
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["history: run 1 (cliprobust show 1 --history=own/history.sqlite)"])
    with history_of(run) as history:
        (entry,) = history.entries()
        kept = history.run(1)
    assert (entry.tags, entry.exit_status, entry.complete, entry.partial) == (
        ("a", "b"),
        1,
        True,
        False,
    )
    assert (entry.failed, entry.suites) == (1, ("mine",))
    assert entry.began <= entry.written
    told = report()
    assert list(kept.measurements) == [m["key"] for m in told["measurements"]]
    assert kept.header["models"] == told["models"]
    assert kept.provenance is not None
    assert kept.provenance.weights == {"reference": told["models"]["reference"]["digest"]}
    assert kept.provenance.data.keys() == {"clean"}
    for key, figure in kept.figures.items():
        assert figure.outcomes is not None, key
        assert figure.outcomes.keys is not None, key
        assert figure.outcomes.keys.digests, key
    assert "outcomes" not in told["measurements"][0]["figure"]


@pytest.mark.long
def test_workers_hand_over_what_the_controller_keeps(run: Sessions) -> None:
    """One process, two workers, two workers that alone know the model: the same runs."""
    # In a process of its own, where no other test has registered a perturbation.
    run("--clip-history=own/history.sqlite", suite=SUITE, process=True).assert_outcomes(passed=4)
    result = run.again(
        "--clip-history=own/history.sqlite", "-n2", "--clip-baseline=1", process=True
    )
    result.assert_outcomes(passed=4)
    compared = "clip baseline: run 1: reference against reference"
    result.stdout.fnmatch_lines([compared, "  note: these are the weights that were recorded"])
    (run.path / "pytest.ini").write_text("[pytest]\nclip_model = reference\n", encoding="utf-8")
    options = [
        *("-p", "no:randomly", "--clip-profile=quick", "--clip-limit=40"),
        f"--clip-cache-dir={run._cache}",
    ]
    # The process that reports has no model to compare before the workers tell of theirs.
    result = run.plain(
        *("--clip-history=own/history.sqlite", "-n2", "--clip-baseline=1"), *options, process=True
    )
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines([f"note: {compared}"])
    with history_of(run) as history:
        runs = [history.run(number) for number in (1, 2, 3)]
        assert history.rows("SELECT count(*) FROM blobs") == history.rows(
            "SELECT count(*) FROM outcomes WHERE run = 1"
        )
    for other in runs[1:]:
        made = compare(runs[0], other)
        assert {row.word for row in made.rows} <= {Word.IDENTICAL, Word.UNSEEN}
        assert made.only_base == made.only_head == ()
        assert other.provenance == runs[0].provenance
        paired = [row for row in made.rows if row.head.metric.startswith(("acc", "auroc"))]
        assert {row.word for row in paired} == {Word.IDENTICAL}


def test_the_first_run_that_others_are_held_against_stays_as_the_anchor(run: Sessions) -> None:
    options = ("--clip-history=own/history.sqlite", "-k", "test_drop")
    run(*options, "--clip-tag=a", suite=SUITE).assert_outcomes(passed=1)
    run.again(*options, "--clip-baseline=tag:a", "--clip-tag=b").assert_outcomes(passed=1)
    result = run.again(*options, "--clip-baseline=tag:b")
    result.stdout.fnmatch_lines(["clip baseline: run 2: reference against reference"])
    with history_of(run) as history:
        assert [entry.anchor for entry in history.entries()] == [True, False, False]
    one_line(run.again(*options, "--clip-baseline=tag:c"), "no run has the tag 'c'")


def test_by_default_it_lies_in_the_cache_folder(
    run: Sessions,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = tmp_path / "cache"
    run(f"--clip-cache-dir={cache}", "-k", "test_drop", suite=SUITE).assert_outcomes(passed=1)
    with History(cache / "history.sqlite") as history:
        assert [entry.partial for entry in history.entries()] == [True]
    (run.path / "pytest.ini").write_text(
        f"[pytest]\nclip_cache_dir = {cache}\nclip_tag = nightly\nclip_model = reference\n"
        "clip_profile = quick\nclip_limit = 40\n",
        encoding="utf-8",
    )
    run.plain("-p", "no:randomly").stdout.fnmatch_lines(["history: run 2 (cliprobust show 2)"])
    monkeypatch.chdir(run.path)
    capsys.readouterr()
    assert cli.main(["show", "tag:nightly"]) == 0
    assert capsys.readouterr().out.startswith("run 2 (nightly), ")


def test_none_keeps_nothing(run: Sessions, tmp_path: Path) -> None:
    result = run(
        f"--clip-cache-dir={tmp_path}/cache", "--clip-history=none", "-k", "test_drop", suite=SUITE
    )
    result.assert_outcomes(passed=1)
    assert not (tmp_path / "cache" / "history.sqlite").exists()
    assert "history: " not in result.stdout.str()


def test_a_history_that_was_named_and_cannot_be_written_is_one_line(run: Sessions) -> None:
    (run.path / "text").write_text("no database " * 500, encoding="utf-8")
    for place, words in (
        ("text", "text: not a history"),
        ("text/history.sqlite", "text is a file"),
        (".", "it is a folder"),
    ):
        one_line(run(f"--clip-history={place}", "-k", "test_drop", suite=SUITE), words)


def test_the_usual_history_is_a_note_where_it_cannot_be_written(
    run: Sessions, tmp_path: Path
) -> None:
    (tmp_path / "history.sqlite").write_text("no database " * 500, encoding="utf-8")
    result = run(f"--clip-cache-dir={tmp_path}", "-k", "test_drop", suite=SUITE)
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["note: this run is not in the history: *"])
    assert "Traceback" not in result.stdout.str()


def test_a_wrong_tag_is_one_line_before_anything_runs(run: Sessions) -> None:
    one_line(run("--clip-tag=two words", suite=SUITE), "--clip-tag", "a tag is made of")
    assert not list(run.path.glob("**/history.sqlite"))


def test_what_was_interrupted_is_kept_as_that(run: Sessions) -> None:
    suite = SUITE + "\n    def test_last(clip, gate):\n        raise KeyboardInterrupt\n"
    run("--clip-history=own/history.sqlite", suite=suite, process=True)
    with history_of(run) as history:
        (entry,) = history.entries()
        assert (entry.complete, entry.exit_status) == (False, 2)
        assert entry.figures > 0


def test_a_run_without_figures_is_not_kept(run: Sessions) -> None:
    run(
        "--clip-history=own/history.sqlite",
        suite="def test_it(clip, gate):\n    raise ValueError\n",
    )
    assert not (run.path / "own").exists()


def test_without_samples_nothing_names_one(run: Sessions) -> None:
    """Reports, the journal and the history hold no name; runs are compared by sample all the same."""
    for extra in ((), ("--clip-no-samples",)):
        name = "bare" if extra else "named"
        run(
            *("--clip-history=own/history.sqlite", f"--clip-report={name}.json,{name}.md", *extra),
            suite=SUITE,
            thresholds=FAILS,
        )
    with history_of(run) as history:
        named, bare = history.run(1), history.run(2)
        document = json.dumps(history.document(2))
    key = "mine/accuracy/clean/clean/reference"
    before, after = (found.figures[key].outcomes for found in (named, bare))
    assert before is not None
    assert before.keys is not None
    assert after is not None
    assert after.keys == pseudonymous(before.keys)
    texts = [
        document,
        *((run.path / f"bare.{end}").read_text(encoding="utf-8") for end in ("json", "md")),
    ]
    for text in texts:
        assert not [name for name in (*before.keys.ids, *before.keys.digests) if name in text]
    assert report("bare.json")["samples"] is False
    assert report("named.json")["samples"] is True
    words = {row.head.metric: row.word for row in compare(named, bare).rows}
    assert words["accuracy"] is words["accuracy_drop"] is words["auroc_max_logit"] is Word.IDENTICAL


def test_the_report_has_neither_blobs_nor_sample_names(run: Sessions) -> None:
    run("--clip-history=own/history.sqlite", "--clip-report=report.json", suite=SUITE)
    with history_of(run) as history:
        figure = history.run(1).figures["mine/accuracy/clean/clean/reference"]
    assert figure.outcomes is not None
    assert figure.outcomes.keys is not None
    text = (run.path / "report.json").read_text(encoding="utf-8")
    assert not [name for name in figure.outcomes.keys.ids if name in text]
    assert "blobs" not in report()
