"""Figures over runs: what drift is told against, and of which runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from history_helpers import a_run, answers, figures, keep

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.results.compare import Word
from pytest_cliprobust.results.history import History
from pytest_cliprobust.results.trend import drifts_of, keys_for, own_series, start_of, trend_of

KEY = "mine/accuracy/clean/clean/reference"
DROP = "mine/accuracy_drop/clean/fog_3d@3/reference"


@pytest.fixture
def history(tmp_path: Path) -> History:
    """Five runs: three of a series, each a little worse than the one before, and two of others."""
    made = History(tmp_path / "history.sqlite", create=True)
    right = [row for row, yes in enumerate(answers()) if yes][::5]
    for lost in (0, 3, 6):
        keep(made, a_run(figures(answers(flipped=right[:lost]))))
    keep(made, a_run(figures(answers())[:1], "other"))
    run = a_run(figures(answers(flipped=range(40)))[:1])
    made_full = replace(run, config=replace(run.config, profile="full"))
    number = keep(made, made_full)
    assert number == 5
    return made


def test_what_a_name_means(history: History) -> None:
    assert keys_for(history, KEY) == [KEY]
    assert keys_for(history, "accuracy") == [KEY.replace("reference", "other"), KEY]
    assert keys_for(history, "*/fog_3d@3/*") == [DROP]
    with pytest.raises(ClipRobustError, match=r"'acuracy'\.* Did you mean 'accuracy'"):
        keys_for(history, "acuracy")
    with pytest.raises(ClipRobustError, match="there is none yet"):
        keys_for(History(history.path.with_name("new.sqlite"), create=True), "accuracy")


def test_small_losses_add_up(history: History) -> None:
    """Neither step is seen; the drift since the beginning is."""
    trend = trend_of(history, DROP)
    assert [point.number for point in trend.points] == [1, 2, 3]
    assert trend.since.number == 1
    assert trend.left_out == ()
    assert trend.drifts[0] is None
    steps = trend_of(history, KEY.replace("reference", "other"))
    assert steps.drifts == (None,)
    history.rows("DELETE FROM runs WHERE id = 5")
    drifts = trend_of(history, KEY).drifts
    assert drifts[1] is not None
    assert drifts[2] is not None
    assert drifts[1].difference == pytest.approx(-3 / 200)
    assert drifts[2].difference == pytest.approx(-6 / 200)
    assert (drifts[1].word, drifts[2].word) == (Word.UNSEEN, Word.WORSE)
    history.set_anchor(2)
    drifts = trend_of(history, KEY).drifts
    assert drifts[1] is None
    assert drifts[0] is not None
    assert drifts[2] is not None
    assert drifts[2].word is Word.UNSEEN
    assert drifts[0].difference == pytest.approx(3 / 200)


def test_runs_of_another_series_are_left_out(history: History) -> None:
    trend = trend_of(history, KEY)
    assert [point.number for point in trend.points] == [5]
    assert [(one.point.number, one.why) for one in trend.left_out] == [
        (number, "profile quick, not full") for number in (1, 2, 3)
    ]
    points = history.points(KEY)
    assert own_series(points) == (points[-1:], trend.left_out)
    assert start_of(points).number == 1
    keep(history, a_run(figures(answers())[:1], "cut", complete=False))
    with pytest.raises(ClipRobustError, match="no run that came to its end has mine"):
        trend_of(history, KEY.replace("reference", "cut"))


def test_drifts_of_several_figures_are_judged_together(history: History) -> None:
    history.rows("DELETE FROM runs WHERE id = 5")
    keys = [KEY, DROP, KEY.replace("reference", "other"), KEY.replace("reference", "cut")]
    told = drifts_of(history, keys)
    assert [(d.first.number, d.last.number) for d in told] == [(1, 3), (1, 3), (4, 4)]
    one, two, alone = (drift.row for drift in told)
    assert alone is None
    assert one is not None
    assert two is not None
    assert one.p_value is not None
    assert one.adjusted == pytest.approx(min(1.0, 2 * one.p_value))
    assert (one.key, two.key) == (KEY, DROP)
    (single,) = drifts_of(history, [KEY])
    assert single.row is not None
    assert single.row.adjusted == single.row.p_value


def test_a_few_samples_are_no_point_of_the_line(history: History) -> None:
    """Neither those of a limit, nor those of data that has grown."""
    few = a_run(figures(answers())[:1])
    keep(history, replace(few, config=replace(few.config, limit=3)))
    (drift,) = drifts_of(history, [KEY])
    assert (drift.first.number, drift.last.number, drift.row) == (6, 6, None)
    assert [(one.point.number, one.why) for one in drift.left_out] == [
        (1, "limit none, not 3"),
        (2, "limit none, not 3"),
        (3, "limit none, not 3"),
        (5, "profile full, not quick, limit none, not 3"),
    ]
    history.rows("DELETE FROM runs WHERE id > 4")
    history.rows("UPDATE figures SET n = 150 WHERE run = 2")
    trend = trend_of(history, KEY)
    assert [point.number for point in trend.points] == [1, 3]
    assert [(one.point.number, one.why) for one in trend.left_out] == [(2, "n = 150, not 200")]


def test_a_model_goes_by_its_name_or_its_path(history: History) -> None:
    of_other = [KEY.replace("reference", "other")]
    for name in ("other", "./other", "/models/other", "other/", "../other/"):
        assert keys_for(history, name) == of_other
    with pytest.raises(ClipRobustError, match=r"'./othr'.* Did you mean 'other'.*a model \(other"):
        keys_for(history, "./othr")
