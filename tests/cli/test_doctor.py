"""``cliprobust doctor``: known losses, and which bounds see them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from pytest_cliprobust import cli
from pytest_cliprobust.cli import doctor
from pytest_cliprobust.plugin.options import OPTIONS
from pytest_cliprobust.targets.planted import CANNOT_HAVE

SUITE = """
from pytest_cliprobust.properties import accuracy, calibration


def test_mine(clip, gate):
    view = clip.on("clean", limit=134)
    gate(accuracy.accuracy_of(view), calibration.calibration_of(view)["nll"])
"""
BOUNDS = """\
schema = 1

[[threshold]]
suite = "mine"
metric = "accuracy"
min = 0.75

[[threshold]]
suite = "mine"
metric = "nll"
max = 900
because = "a bound that is far too lax"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_mine.py").write_text(SUITE)
    (tmp_path / "thresholds.toml").write_text(BOUNDS)
    return tmp_path


def words(folder: Path, *more: str) -> list[str]:
    return [
        "doctor",
        "test_mine.py",
        "--clip-model=reference",
        f"--clip-cache-dir={folder}/c",
        *more,
    ]


@pytest.mark.long
def test_each_bound_says_what_it_sees(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words(folder, "--losses=heavy_noise,training_mode")) == 1
    out = capsys.readouterr().out
    first, second, *_ = out.splitlines()
    assert first.startswith("one run of the suites on the model as it is (profile quick)")
    assert second.startswith("as it is: 2 pass, ")
    assert "planting 2 losses" in out
    assert "\nheavy_noise: 1 pass, 1 fail" in out
    assert "\ntraining_mode: refused: " in out
    accuracy = "mine/accuracy/clean/clean/reference"
    assert f"  {accuracy}  min 0.75: pass; red: heavy_noise\n" in out
    assert "  mine/nll/clean/clean/reference  max 900: pass; red: none\n" in out
    told = "1 did not turn red under any of these losses (whole runs: heavy_noise):\n  mine/nll/"
    assert told in out
    assert "NEITHER" not in out
    # The runs of a doctor are no releases.
    assert not list(folder.rglob("*.sqlite"))


@pytest.mark.slow
def test_the_cost_comes_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words(folder, "--dry-run")) == 0
    out = capsys.readouterr().out
    assert f"planting {len(doctor.LOSSES)} losses: {len(doctor.LOSSES)} times " in out
    assert "Ctrl-C stops" in out
    assert "red:" not in out


def test_ctrl_c_keeps_what_was_found(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ran(options: object, loss: str | None) -> doctor.Ran:
        if loss == "light_noise":
            raise KeyboardInterrupt
        status = "pass" if loss is None else "fail"
        return doctor.Ran({"a/key": status}, {"a/key": "min 0.5"}, 10, 1.0)

    monkeypatch.setattr(doctor, "_ran", ran)
    assert cli.main(words(folder, "--losses=heavy_noise,light_noise,swapped_texts")) == 0
    out = capsys.readouterr().out
    assert "\nheavy_noise: 1 fail, 1 s\nstopped; not planted: light_noise, swapped_texts\n" in out
    assert "  a/key  min 0.5: pass; red: heavy_noise\n" in out
    with pytest.raises(KeyboardInterrupt):
        cli.main(words(folder, "--losses=light_noise"))


def test_a_run_that_died_refuses_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        planted = any(word.startswith("--clip-plant") for word in command)
        if not planted:
            report = next(w.partition("=")[2] for w in command if w.startswith("--clip-report"))
            verdict = {"status": "pass", "bound": "min 0.5"}
            told: dict[str, object] = {"models": {}, "mistakes": [], "not_collected": []}
            told |= {"missing": [], "measurements": [{"key": "a/key", "verdict": verdict}]}
            Path(report).write_text(json.dumps(told))
        return subprocess.CompletedProcess(command, -9 if planted else 0, "sFF.F", "")

    monkeypatch.setattr(subprocess, "run", died)
    assert cli.main(words(folder, "--losses=heavy_noise")) == 1
    out = capsys.readouterr().out
    assert "\nheavy_noise: nothing judged (it broke off, exit code -9), 0 s\n" in out
    assert "refused before any bound" not in out
    assert "may see more than is told: heavy_noise" in out
    assert "under any of these losses (whole runs: none):\n  a/key\n" in out


def test_what_a_model_cannot_have_stops_no_release(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words_of = {
        None: "",
        "training_mode": f"{CANNOT_HAVE}model 'm' is the same in training mode",
        "light_noise": "the features are constant",
    }

    def ran(options: object, loss: str | None) -> doctor.Ran:
        refused = words_of[loss]
        statuses = {} if refused else {"a/key": "pass"}
        return doctor.Ran(statuses, dict.fromkeys(statuses, "min 0.5"), 10, 1.0, refused)

    monkeypatch.setattr(doctor, "_ran", ran)
    assert cli.main(words(folder, "--losses=training_mode,light_noise")) == 1
    out = capsys.readouterr().out
    assert "\ntraining_mode: nothing to plant: model 'm' is the same in training mode, " in out
    assert "\nlight_noise: refused: the features are constant, " in out
    assert "which stops a release, too: light_noise\n" in out
    assert "cannot be planted in this model, so that they say nothing: training_mode\n" in out
    assert "(whole runs: none)" in out


def test_its_runs_are_given_what_pytest_would_be(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def noted(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 4, "ERROR: stop\n", "")

    monkeypatch.setattr(subprocess, "run", noted)
    given = [f"--clip-{name}=x" for name in doctor.HANDED_ON]
    given += ["--clip-data=clean=a", "--clip-data=far_ood=b"]
    assert cli.main([*words(folder), *given, "-m", "accuracy", "-k", "clean"]) == 4
    (command,) = commands
    assert set(given) <= set(command)
    assert command[command.index("-m", 3) + 1] == "accuracy"
    assert command[command.index("-k") + 1] == "clean"


def test_options_that_decide_figures_are_all_handed_on() -> None:
    """None is left out but those that say what becomes of a run, or that a planted one cannot have."""
    apart = {"against", "figures", "because", "history", "plant"}
    assert {option.name for option in OPTIONS} == {*doctor.HANDED_ON, *apart}


def test_a_run_from_the_cache_does_not_tell_what_others_cost() -> None:
    fresh = doctor.Ran({}, {}, 100, 30.0)
    assert doctor._cost(fresh, 4).startswith(
        "planting 4 losses: 4 times 100 images, about 2.0 minutes;"
    )
    assert doctor._cost(doctor.Ran({}, {}, 1, 90.0), 1) == (
        "planting 1 loss: 1 time 1 image, about 1.5 minutes; Ctrl-C stops"
    )
    known = doctor.Ran({}, {}, 100, 30.0, cached=60)
    assert "2.0 minutes and more, as 60 images above came from the cache" in doctor._cost(known, 4)


def test_mistakes_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words(folder, "--losses=noise")) == 4
    assert "unknown loss 'noise'; there are swapped_texts, " in capsys.readouterr().err


def test_losses_are_those_that_can_be_planted() -> None:
    from pytest_cliprobust.targets.planted import PLANTS

    assert sorted(doctor.LOSSES) == sorted(PLANTS)
    assert doctor.CANNOT_HAVE == CANNOT_HAVE


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("..\nE   first\n\n  ERROR: a slip in line 3\n1 error in 2 s\n", "a slip in line 3"),
        ("E   assert 0\nshort summary\n", "E   assert 0"),
        ("3 passed\n", ""),
        ("", ""),
    ],
)
def test_the_line_that_says_what_was_wrong_is_the_last(output: str, told: str) -> None:
    assert doctor._last_error(output) == told


@pytest.mark.parametrize(
    ("plain", "noisy", "code", "told"),
    [
        ("pass", "fail", 0, ["1 bound, and each can be green"]),
        ("fail", "fail", 1, ["1 cannot be green"]),
        ("pass", "pass", 1, ["1 did not turn red under any"]),
        ("inconclusive", "pass", 1, ["1 cannot", "1 did not turn red", "1 can do NEITHER"]),
    ],
)
def test_what_a_bound_can_do_neither_is_told_apart(
    plain: str, noisy: str, code: int, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [doctor.Ran({"a": status}, {"a": "max 0.1"}, 10, 1.0) for status in (plain, noisy)]
    assert doctor._report(runs[0], {"noise": runs[1]}) == code
    out = capsys.readouterr().out
    for words in ("1 bound, and each", "1 cannot", "1 did not turn red", "1 can do NEITHER"):
        assert (words in out) == any(words in one for one in told), words


@pytest.mark.parametrize("dry", [True, False])
def test_a_dry_run_plants_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dry: bool
) -> None:
    planted: list[str | None] = []

    def ran(options: object, loss: str | None) -> doctor.Ran:
        planted.append(loss)
        return doctor.Ran({"a": "fail" if loss else "pass"}, {"a": "max 0.1"}, 10, 1.0)

    monkeypatch.setattr(doctor, "_ran", ran)
    assert cli.main(words(folder, *(["--dry-run"] if dry else []))) == 0
    assert len(planted) == (1 if dry else 1 + len(doctor.LOSSES))


@pytest.mark.parametrize("suites", [["test_mine.py", "other"], []])
def test_which_suites_a_run_is_of(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    suites: list[str],
) -> None:
    """Those that were named, else the shipped ones."""
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 4, "", "ERROR: no such thing")

    monkeypatch.setattr(subprocess, "run", run)
    cli.main(["doctor", *suites, "--clip-model=reference", "-k", "fog", "--clip-seed=3"])
    (command,) = ran
    start = command.index("no:cacheprovider") + 1
    asked = suites or ["--clip-suites"]
    assert command[start : start + len(asked) + 1] == [*asked, "--clip-model=reference"]
    report, *given = command[start + len(asked) + 1 :]
    assert report.startswith("--clip-report=")
    assert report.endswith("report.json")
    # What is not given is left to pytest, but for the profile.
    usual = ["--clip-history=none", "--clip-profile=quick", "--clip-seed=3", "-k", "fog"]
    assert given == usual
    assert "no such thing" in "".join(capsys.readouterr())


def test_what_a_report_says_of_a_run() -> None:
    def entry(key: str, status: str, bound: str) -> dict[str, object]:
        return {"key": key, "verdict": {"status": status, "bound": bound}}

    told: dict[str, object] = {
        "measurements": [
            entry("a", "fail", "min 0.5"),
            entry("b", "unbounded", ""),
            entry("c", "pass", "max 2"),
        ],
        "models": {
            "m": {"images": {"encoded": 5, "cached": 7}},
            "n": {"images": {"encoded": 11}},
        },
        "mistakes": ["a slip", "another"],
        "missing": [],
        "not_collected": [],
    }
    statuses, bounds = {"a": "fail", "c": "pass"}, {"a": "min 0.5", "c": "max 2"}
    assert doctor._read(told, 2.5) == doctor.Ran(statuses, bounds, 23, 2.5, cached=7)
    cut = doctor._read({**told, "missing": ["x", "y"], "not_collected": ["z"]}, 2.5)
    assert (cut.refused, cut.broke_off) == ("", "3 tests did not come to their end")
    one = doctor._read({**told, "missing": ["x"]}, 2.5)
    assert one.broke_off == "1 test did not come to its end"
    # Only a run that measured nothing was refused, and then nothing broke off.
    none = doctor._read({**told, "measurements": [], "missing": ["x"]}, 2.5)
    assert (none.refused, none.broke_off) == ("a slip", "")
    free = doctor._read({**told, "measurements": [entry("b", "unbounded", "")]}, 2.5)
    assert (free.statuses, free.refused) == ({}, "")
    assert doctor._counts(cut) == "1 pass, 1 fail"
    assert doctor._counts(none) == "nothing judged"


def test_each_bound_is_told_with_what_turned_it_red(capsys: pytest.CaptureFixture[str]) -> None:
    def ran(words: str, refused: str = "", broke_off: str = "") -> doctor.Ran:
        statuses = dict(zip("abc", words.split(), strict=False))
        return doctor.Ran(statuses, dict.fromkeys("abc", "min 0.5"), 10, 1.0, refused, broke_off)

    damaged = {
        "first": ran("fail pass pass"),
        "second": ran("fail fail pass"),
        "refused": ran("", "too bad"),
        "cannot": ran("", f"{CANNOT_HAVE}no such layer"),
        "broken": ran("pass", "", "it broke off"),
    }
    assert doctor._report(ran("pass inconclusive waived"), damaged) == 1
    assert (
        capsys.readouterr().out
        == """
bound, whether it is green as it is, and which losses turn it red:
  a  min 0.5: pass; red: first, second
  b  min 0.5: inconclusive; red: second
  c  min 0.5: waived; red: none

refused before any bound was judged, which stops a release, too: refused
cannot be planted in this model, so that they say nothing: cannot
not run to the end, so that a bound may see more than is told: broken
2 cannot be green (margin or bound too tight for these samples):
  b
  c
1 did not turn red under any of these losses (whole runs: first, second):
  c
1 can do NEITHER, so they gate nothing:
  c
"""
    )
    assert doctor._report(ran("pass pass"), {"first": ran("fail fail")}) == 0
    out = capsys.readouterr().out
    assert out.endswith("\n\n2 bounds, and each can be green and can turn red\n")
    assert "refused" not in out
    assert "planted" not in out
    assert "not run" not in out


@pytest.mark.parametrize(
    ("plain", "told"),
    [
        (doctor.Ran({}, {}, 0, 1.0, "no such model"), "cannot be measured as it is: no such model"),
        (doctor.Ran({"a": "pass"}, {}, 9, 1.0, "", "it broke off"), "as it is: it broke off"),
        (doctor.Ran({}, {}, 9, 1.0), "no figure of these suites has a bound; --clip-record"),
    ],
)
def test_a_model_that_cannot_be_measured_has_no_loss_planted(
    plain: doctor.Ran,
    told: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    planted: list[str | None] = []

    def ran(options: object, loss: str | None) -> doctor.Ran:
        planted.append(loss)
        return plain

    monkeypatch.setattr(doctor, "_ran", ran)
    assert cli.main(words(folder, "--losses=heavy_noise,,light_noise ,")) == 4
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out.endswith("(profile quick) tells what 2 more cost\n")
    assert planted == [None]
