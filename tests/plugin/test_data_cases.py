"""Whole sessions on data as users have it: one line for a mistake, names escaped at every exit."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Sessions
from PIL import Image

from pytest_cliprobust.cli import main

ONE = """
    from pytest_cliprobust.properties import accuracy

    def test_mine(clip, gate, clean):
        gate(accuracy.accuracy_of(clip.on(clean)))
"""
WRITTEN = """
    from pytest_cliprobust.properties import typographic

    def test_mine(clip, gate):
        gate(typographic.attack_success(clip.on("clean"), clip.on("clean", "typographic", 3)))
"""


def photos(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 10) -> Path:
    rng = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def measured(run: Sessions, *args: str) -> dict[str, Any]:
    result = run.again("--clip-report=r.json", *args)
    assert result.ret in (0, 4)
    document: dict[str, Any] = json.loads((run.path / "r.json").read_text())
    return document


def one_line(result: pytest.RunResult, words: str) -> None:
    """Assert that a session ended as by a user's mistake, told in one line without a traceback."""
    assert result.ret == 4
    text = result.stdout.str() + result.stderr.str()
    told = [line for line in text.splitlines() if re.search(words, line)]
    assert told, text
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text


def test_an_evil_name_is_escaped_at_every_exit(
    run: Sessions, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a\x1b[31m|b\n<script>`&"
    data = photos(run.path / name)
    (data / "cat" / "0.png").rename(data / "cat" / "e\x1b[2Jvil|\n<b>.png")
    (data / "cat" / "\x1b[2Jno|\n<b>.png").write_bytes(b"nothing")
    result = run(
        f"--clip-data={data}",
        "--clip-bad-data=skip",
        "--clip-report=r.json,r.md",
        "--junit-xml=r.xml",
        "--clip-history=h.sqlite",
        "-v",
        suite=ONE,
    )
    assert result.ret == 4  # one of 21 is more than 1%
    text = result.stdout.str() + result.stderr.str()
    assert "\x1b[2J" not in text
    assert "\x1b[31m|b" not in text
    shown = r"a\x1b[31m|b\n<script>`&"
    assert f"imagefolder:{shown}" in text
    document = json.loads((run.path / "r.json").read_text())
    (entry,) = document["measurements"]
    assert entry["dataset"] == f"imagefolder:{shown}"
    table = (run.path / "r.md").read_text()
    assert "\x1b" not in table
    rows = [line for line in table.splitlines() if line.startswith("| ``")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 6  # five cells
    outside = re.sub(r"`` .*? ``", "", table)
    assert "<script>" not in outside
    assert "<b>" not in outside
    names = [p.get("name") for p in ET.parse(run.path / "r.xml").iter("property")]
    assert f"mine/accuracy/imagefolder:{shown}/clean/reference" in names
    capsys.readouterr()
    for command in (["show", "last"], ["history"], ["compare", "last", "last", "--all"]):
        assert main([*command, "--history=h.sqlite"]) == 0
    told = capsys.readouterr().out
    assert shown in told
    assert "\x1b" not in told


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("0", "1", "2"), "imagefolder:photos: its class folders are numbers .*classes.txt"),
        (("train/cat", "val/cat"), "imagefolder:photos: its folders train, val are splits"),
        (("fog/1/n01440764", "fog/2/n01440764"), "corruptions with severities below"),
        (("my cat", "my_cat"), "'my cat' and 'my_cat' have one name"),
        (("cat",), "one class only"),
    ],
)
def test_no_label_set_is_one_line(run: Sessions, classes: tuple[str, ...], words: str) -> None:
    data = photos(run.path / "photos", classes, 2)
    one_line(run(f"--clip-data={data}", suite=ONE), words)
    assert run.again(f"--clip-data=pictures:{data}", "--co", "-q").ret in (0, 5)


def test_a_picture_that_cannot_be_read_is_one_line(run: Sessions) -> None:
    data = photos(run.path / "photos")
    (data / "dog" / "9.png").write_bytes(b"nothing")
    one_line(
        run(f"--clip-data={data}", suite=ONE),
        r"cannot read image '.*dog/9\.png' \(no image in a format that Pillow reads\); repair or remove",
    )
    (data / "dog" / "9.png").unlink()
    (data / "dog" / "9.png").symlink_to("9.png")
    one_line(run.again(f"--clip-data={data}"), r"dog/9\.png.*repair or remove")


@pytest.mark.long
def test_what_is_left_out_changes_nothing_else(run: Sessions) -> None:
    data = photos(run.path / "photos", count=60)
    for name in ("cat/60.png", "dog/60.heic"):
        (data / name).write_bytes(b"nothing")
    run.pytester.makepyfile(test_mine=ONE)
    skip = (f"--clip-data={data}", "--clip-bad-data=skip", "--clip-limit=1000")
    found = measured(run, *skip)
    (left_out,) = found["skipped_samples"]
    assert left_out["of"] == 122
    assert {one["id"] for one in left_out["samples"]} == {"cat/60.png", "dog/60.heic"}
    (mistake,) = found["mistakes"]
    assert mistake.startswith("2 of 122 samples of imagefolder:photos cannot be read, 1.7%")
    (entry,) = found["measurements"]
    assert entry["figure"]["n"] == 94  # of 120, without the fifth that calibrates
    for args in (["--clip-batch-size=7"], ["-n1"]):
        again = measured(run, *skip, *args)
        assert again["skipped_samples"] == [left_out]
        assert again["mistakes"] == [mistake]
        assert again["measurements"][0]["figure"] == entry["figure"]
    # Without them the rest is what it was.
    (data / "cat/60.png").unlink()
    few = run.again(*skip, "--clip-report=r.json,r.md", "--clip-no-samples")
    assert few.ret == 0
    few.stdout.fnmatch_lines(
        ["left out: 1 of 121 samples of imagefolder:photos *: dog/60.heic (*)"]
    )
    named = json.loads((run.path / "r.json").read_text())
    assert named["measurements"][0]["figure"]["value"] == entry["figure"]["value"]
    assert "60.heic" not in (run.path / "r.md").read_text()
    assert "60.heic" not in json.dumps(named["skipped_samples"])
    (data / "dog/60.heic").unlink()
    whole = measured(run, *skip)
    assert whole["skipped_samples"] == []
    assert whole["measurements"][0]["figure"] == entry["figure"]


def test_class_names_in_other_scripts_are_written_or_not(run: Sessions) -> None:
    words = ("кошка", "schéma")
    data = photos(run.path / "some", words, 4)
    run.pytester.makepyfile(test_mine=WRITTEN)
    found = measured(run, f"--clip-data={data}")
    assert [entry["metric"] for entry in found["measurements"]] == ["attack_success"]
    data = photos(run.path / "others", ("猫", "кошка"), 4)
    result = run.again(f"--clip-data={data}", "--clip-report=r.json")
    result.stdout.fnmatch_lines(
        [
            "not run: *cannot be written on pictures: a bundled font has no 猫 (U+732B); *--clip-font FILE"
        ]
    )
    assert json.loads((run.path / "r.json").read_text())["measurements"] == []
    (run.path / "no.ttf").write_text("nothing")
    one_line(
        run.again(f"--clip-data={data}", f"--clip-font={run.path / 'no.ttf'}"),
        r"font '.*no\.ttf' cannot be read .*give a \.ttf or \.otf file",
    )


def test_bounds_recorded_on_fewer_samples_are_told(run: Sessions) -> None:
    run(
        "--clip-record", "--clip-limit=80", suite=ONE, thresholds="schema = 1\n"
    ).stdout.no_fnmatch_line("*looser than before*")
    run.again("--clip-record", "--clip-limit=20").stdout.fnmatch_lines(
        [
            "note: 1 of the bounds are looser than before, as they were recorded on fewer samples (20, were "
            "80: mine/accuracy/clean/clean/reference); record without --clip-limit to keep*"
        ]
    )
    run.again("--clip-record", "--clip-limit=20").stdout.no_fnmatch_line("*looser than before*")


def test_decoded_pictures_are_kept_where_they_are_told_to_be(
    run: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_cliprobust.engine.store.LEAST_BYTES", 0)
    data = photos(run.path / "photos", count=7)
    result = run(f"--clip-data={data}", "--clip-store=on", "--clip-cache-dir=c", "-q", suite=ONE)
    told = result.stdout.str()
    assert re.search(
        r"^clip store: the 14 decoded pictures of imagefolder:photos \(.* MB\) are kept in c.pictures$",
        told,
        re.MULTILINE,
    ), told
    assert list((run.path / "c" / "pictures").glob("*.pictures"))
    one_line(run.again("--clip-store=maybe"), "--clip-store maybe: choose one of auto, on, off")
