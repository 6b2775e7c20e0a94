"""Data as its role wants it: labels of another label set, the split that calibrates, own texts."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import write_pictures
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_helpers import picture

from pytest_cliprobust.datasets.base import Batch
from pytest_cliprobust.datasets.prepared import (
    CALIBRATION_LEAST,
    Prepared,
    aligned,
    calibrates,
    named_by,
    split,
    with_own_classes,
    with_settings,
    without_labels,
)
from pytest_cliprobust.datasets.providers import provider_of
from pytest_cliprobust.datasets.provision import Provision, check_role, check_texts
from pytest_cliprobust.datasets.sources import Settings, read_sources
from pytest_cliprobust.datasets.templates import read_templates, unfit
from pytest_cliprobust.errors import ClipRobustError, NotRun, one_line
from pytest_cliprobust.search.evidence import image_argument


class Made:
    """A data set without pictures."""

    def __init__(
        self,
        names: tuple[str, ...],
        labels: tuple[int, ...],
        keys: tuple[str, ...] = (),
        **more: Any,
    ) -> None:
        self.name, self.digest, self.content = "made", "d", "c"
        self.class_names, self.labels = names, labels
        self.ids = tuple(f"s{n}" for n in range(len(labels)))
        self.groups: dict[str, tuple[str, ...]] = {}
        if keys:
            self.class_keys = keys
        for name, value in more.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, indices: Any) -> Batch:
        ids = tuple(self.ids[index] for index in indices)
        return Batch(ids, torch.zeros(len(ids), 3, 2, 2, dtype=torch.uint8))


CLEAN = Made(("cat", "crane", "crane", "dog"), (0, 1, 2, 3), ("n0", "n1", "n2", "n3"))


def test_labels_meet_by_key_or_by_name() -> None:
    by_key = aligned(Made(("x", "y"), (0, 1, 1), ("n3", "n1")), CLEAN, "shift")
    assert by_key.labels == (3, 1, 1)
    assert by_key.class_names == CLEAN.class_names
    by_name = aligned(Made(("dog", "cat"), (0, 1, -1)), CLEAN, "shift")
    assert by_name.labels == (3, 0, -1)
    # Equal names meet in their order.
    assert aligned(Made(("crane", "crane"), (0, 1)), CLEAN, "shift").labels == (1, 2)
    folders = aligned(Made(("n2", "n0"), (0, 1)), Made(("n0", "n2"), (0, 1)), "shift")
    assert folders.labels == (1, 0)


def test_a_class_that_clean_has_not_is_refused() -> None:
    with pytest.raises(ClipRobustError, match=r"shift 'made' has classes that .* 'dig'\. Did you"):
        aligned(Made(("cat", "dig"), (0, 1)), CLEAN, "shift")
    # A class without samples is no class of the data.
    assert aligned(Made(("cat", "dig"), (0, 0)), CLEAN, "shift").labels == (0, 0)


def test_a_restricted_head() -> None:
    data = Made(("dog", "cat"), (0, 1, 0), ("n3", "n0"), restricted=True)
    found: Any = aligned(data, CLEAN, "shift")
    assert found.head_rows == (0, 3)
    assert found.class_names == ("cat", "dog")
    assert found.labels == (1, 0, 1)


def test_classes_that_are_right_beside_the_label_meet_those_of_clean() -> None:
    names, keys, further = ("dog", "cat", "crane"), ("n3", "n0", "n2"), ((1, 2), (), (0,))
    data = Made(names, (0, 1, 2), keys, further_labels=further)
    found: Any = aligned(data, CLEAN, "shift")
    assert (found.labels, found.further_labels) == ((3, 0, 2), ((0, 2), (), (3,)))
    data = Made(names, (0, 1, 2), keys, further_labels=further, restricted=True)
    part: Any = aligned(data, CLEAN, "shift")
    assert (part.head_rows, part.labels) == ((0, 2, 3), (2, 0, 1))
    assert part.further_labels == ((0, 1), (), (2,))
    chosen: Any = with_settings(data, Settings(labels=("dog", "crane")), is_clean=True)
    assert chosen.class_names == ("dog", "crane")
    assert (chosen.labels, chosen.further_labels) == ((0, 1), ((1,), (0,)))
    with pytest.raises(ClipRobustError, match=r"classes that .* has not: 'cow'"):
        aligned(Made(("dog", "cow"), (0,), further_labels=((1,),)), CLEAN, "shift")


def test_further_classes_of_any_sample_must_be_there() -> None:
    data = Made(("dog", "cow"), (0, 0, 0), further_labels=((), (0,), (1,)))
    with pytest.raises(ClipRobustError, match=r"classes that .* has not: 'cow'"):
        aligned(data, CLEAN, "shift")


def test_data_with_the_same_classes_stays_as_it_is() -> None:
    same = Made(CLEAN.class_names, (0, -1), CLEAN.class_keys)
    assert aligned(same, CLEAN, "shift") is same


def test_data_that_keeps_its_classes_stays_as_it_is() -> None:
    data = Made(("usb cable", "zebra"), (0, 1), own_classes=True)
    assert aligned(data, CLEAN, "typographic") is data


def test_without_labels() -> None:
    assert without_labels(CLEAN).labels == (-1,) * 4
    assert without_labels(CLEAN).digest == "d"  # the same pictures


def test_settings() -> None:
    data = Made(("cat", "dog"), (0, 1, 1), groups={"scene": ("a", "a", "b")})
    own: Any = with_settings(
        data,
        Settings(templates=("{}",), classes={"dog": ("a dog", "a hound")}, units="scene"),
        is_clean=True,
    )
    assert own.units == ("a", "a", "b")
    assert own.unit == "scene"
    assert own.phrases == ("cat", "a dog")
    assert own.texts == (("cat",), ("a dog", "a hound"))
    assert own.templates == ("{}",)
    shift: Any = with_settings(data, Settings(templates=("{}",)), is_clean=False)
    assert shift.own_templates == ("{}",)
    assert not hasattr(shift, "templates")
    part: Any = with_settings(data, Settings(labels=("dog",)), is_clean=True)
    assert (part.labels, part.class_names, len(part)) == ((0, 0), ("dog",), 2)
    assert part.content != data.content
    assert own.digest == data.digest
    assert own.content != data.content


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(units="scen"), "Did you mean 'scene'"),
        (Settings(labels=("dig",)), "has no class 'dig'"),
        (Settings(classes={"cat": ("x",)}), "belong to the data that plays clean"),
    ],
)
def test_mistakes_in_settings(settings: Settings, words: str) -> None:
    data = Made(("cat", "dog"), (0, 1), groups={"scene": ("a", "b")})
    with pytest.raises(ClipRobustError, match=words):
        with_settings(data, settings, is_clean=False)


# --- The split that calibrates ---------------------------------------------------------------------


def test_a_fifth() -> None:
    share = sum(calibrates(f"n{n:08d}/x_{n}.JPEG") for n in range(20_000)) / 20_000
    assert abs(share - 0.2) < 4 * (0.2 * 0.8 / 20_000) ** 0.5


@settings(max_examples=40)
@given(st.integers(1, 400), st.one_of(st.none(), st.integers(1, 300)), st.integers(0, 99))
def test_the_split_does_not_depend_on_order_or_limit(
    count: int, limit: int | None, seed: int
) -> None:
    ids = [f"s{n}" for n in range(count)]
    shuffled = list(ids)
    random.Random(seed).shuffle(shuffled)

    def load(most: int | None, names: list[str] = ids) -> Made:
        data = Made(("a",), (0,) * len(names[:most]))
        data.ids = tuple(names[:most])
        return data

    mine, rest = (split(load, limit, calibration=side) for side in (True, False))
    if count < CALIBRATION_LEAST:
        assert mine is rest is None
        return
    expected = [name for name in ids if calibrates(name)]
    others = [name for name in ids if not calibrates(name)]
    assert [] if mine is None else list(mine.ids) == expected[:limit]
    assert rest is not None
    assert list(rest.ids) == others[:limit]
    again = split(lambda most: load(most, shuffled), None, calibration=True)
    assert again is None or set(again.ids) == set(expected)


@pytest.mark.parametrize(
    ("limit", "calibration", "asked"),
    [
        (20, False, [50]),
        (48, False, [76]),
        (2, True, [50]),
        (20, True, [116, 174]),
        (None, True, [None]),
    ],
)
def test_no_more_is_loaded_than_is_needed(
    limit: int | None, calibration: bool, asked: list[int | None]
) -> None:
    loaded: list[int | None] = []

    def load(most: int | None) -> Made:
        loaded.append(most)
        return Made(("a",), (0,) * len(range(2000)[:most]))

    part = split(load, limit, calibration=calibration)
    assert loaded == asked
    assert part is not None
    assert len(part) == limit or limit is None


def test_more_is_loaded_until_there_is_enough() -> None:
    ids = [f"s{n}" for n in range(4000)]
    fifth = [name for name in ids if calibrates(name)]
    late = [name for name in ids if not calibrates(name)][:200] + fifth[:10]
    loaded: list[int | None] = []

    def load(most: int | None) -> Made:
        loaded.append(most)
        data = Made(("a",), (0,) * len(late[:most]))
        data.ids = tuple(late[:most])
        return data

    part = split(load, 5, calibration=True)
    assert loaded == [50, 75, 112, 168, 252]
    assert part is not None
    assert list(part.ids) == fifth[:5]
    assert part.name == "made:calibration"
    loaded.clear()
    assert split(load, 30, calibration=True) is not None  # there are ten, and no more
    assert loaded[-1] is not None
    assert loaded[-1] > len(late) >= (loaded[-2] or 0)
    # Nothing is left for the part that calibrates.
    none = Made(("a",), (0,) * 60, units=(late[0],) * 60)
    assert split(lambda _: none, None, calibration=True) is None


def test_chosen_labels_restrict_the_head() -> None:
    data = Made(("dog", "cat", "cow"), (0, 1, 2, 0), ("n3", "n0", "n9"))
    chosen: Any = with_settings(data, Settings(labels=("n0", "dog")), is_clean=False)
    assert (chosen.class_names, chosen.class_keys) == (("dog", "cat"), ("n3", "n0"))
    found: Any = aligned(chosen, CLEAN, "shift")
    assert (found.head_rows, found.labels) == ((0, 3), (1, 0, 1))
    assert found.ids == ("s0", "s1", "s3")
    # All classes of clean are no restriction.
    every = Made(CLEAN.class_names[::-1], (0, 3), CLEAN.class_keys[::-1], restricted=True)
    same: Any = aligned(every, CLEAN, "shift")
    assert not hasattr(same, "head_rows")
    assert same.labels == (3, 0)


def test_a_part_keeps_what_its_classes_are_called() -> None:
    more: dict[str, Any] = {
        "phrases": ("a dog", "a cat"),
        "texts": (("a dog", "a hound"), ("a cat",)),
    }
    data = Made(("dog", "cat"), (0, 1, 1), **more)
    part: Any = with_settings(data, Settings(labels=("cat",)), is_clean=True)
    assert (part.phrases, part.texts) == (("a cat",), (("a cat",),))
    own: Any = with_own_classes(data)
    assert own.own_texts == more["texts"]
    assert own.digest == data.digest
    bare: Any = with_own_classes(Made(("dog", "cat"), (0, 1)))
    assert bare.own_texts == (("dog",), ("cat",))
    phrased: Any = with_own_classes(Made(("dog",), (0,), phrases=("a dog",)))
    assert phrased.own_texts == (("a dog",),)
    with pytest.raises(ClipRobustError, match="has no sample left for its role"):
        with_settings(Made(("dog", "cat"), (0, 0)), Settings(labels=("cat",)), is_clean=True)
    for rows, same in ((range(3), True), ((0, 1), False), ((1, 0, 2), False)):
        assert (Prepared(data, tuple(rows)).digest == data.digest) is same


def test_units_are_not_torn_apart() -> None:
    data = Made(("a",), (0,) * 200, units=tuple(f"u{n // 4}" for n in range(200)))
    parts = [split(lambda _: data, None, calibration=side) for side in (True, False)]
    units = [set(getattr(part, "units", ())) for part in parts]
    assert not units[0] & units[1]
    assert len(units[0]) + len(units[1]) == 50


# --- By role ---------------------------------------------------------------------------------------


def provision(*texts: str, **more: Any) -> Provision:
    return Provision(provider_of(read_sources(texts)), size=16, **more)


ESCAPE, HIDDEN = "\x1b[31mred", ("holds a control letter", "\\x1b[31mred")


@pytest.mark.parametrize(
    "where", ["classes.txt", "manifest", "texts", "templates", "file", "caption"]
)
def test_texts_with_letters_that_nobody_sees_are_refused(where: str, tmp_path: Path) -> None:
    """One place for all: names of classes, their texts, templates and captions, from whatever file."""
    photos = write_pictures(tmp_path / "photos", ("cat", "dog"), each=2)
    data, role = f"{tmp_path}/photos", "clean"
    more: dict[str, Any] = {}
    if where == "classes.txt":
        (photos / "classes.txt").write_text(f"cat\tcat\ndog\tdog {ESCAPE}\n", encoding="utf-8")
    elif where == "manifest":
        rows = f'image,label\nphotos/cat/0.png,cat\nphotos/dog/0.png,"dog {ESCAPE}\nx"\n'
        (tmp_path / "table.csv").write_text(rows, encoding="utf-8")
        data = f"manifest:{tmp_path}/table.csv"
    elif where == "caption":
        rows = f'image,label,caption\nphotos/cat/0.png,cat,"a cat\t{ESCAPE}"\n'
        (tmp_path / "table.csv").write_text(rows, encoding="utf-8")
        data, role = f"retrieval=manifest:{tmp_path}/table.csv", "retrieval"
    elif where == "file":
        (tmp_path / "templates.txt").write_text(f"a {{}} {ESCAPE}\n", encoding="utf-8")
        with pytest.raises(ClipRobustError, match=HIDDEN[0]):
            read_templates(tmp_path / "templates.txt")
        more = {"templates": (f"a {{}} {ESCAPE}",)}
    else:
        texts = {
            "texts": 'classes = { cat = "CAT" }',
            "templates": 'templates = ["a {} CAT"]',
        }[where]
        said = texts.replace("CAT", "\\u001b[31mred")
        toml = f'[data.clean]\nsource = "photos"\n{said}\n'
        (tmp_path / "data.toml").write_text(toml, encoding="utf-8")
        data = f"{tmp_path}/data.toml"
    with pytest.raises(ClipRobustError) as caught:
        provision(data, **more).dataset(role)
    told = str(caught.value)
    assert all(words in told for words in HIDDEN)
    assert told.isprintable()


def test_letters_that_join_others_and_ends_of_lines_in_captions_are_meant(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", ("cat", "dog"), each=2)
    names = "cat\t\u06af\u0631\u0628\u0647\u200c\u0647\u0627\ndog\t\U0001f415\u200d\U0001f9ba\n"
    (photos / "classes.txt").write_text(names, encoding="utf-8")
    assert len(provision(str(photos)).dataset("clean").class_names) == 2
    rows = 'image,label,caption\nphotos/cat/0.png,cat,"a cat\non a mat.\t"\n'
    (tmp_path / "table.csv").write_text(rows, encoding="utf-8")
    found = provision(f"retrieval=manifest:{tmp_path}/table.csv").dataset("retrieval")
    assert len(found) == 1


@given(st.text(st.characters(codec="utf-8")))
def test_what_is_shown_as_it_stands_is_fit_for_a_prompt(text: str) -> None:
    assert not (unfit(text) and text.isprintable())
    bare = text.replace("\u200c", "").replace("\u200d", "")
    assert unfit(text) or one_line(bare) == bare
    assert not unfit(text, lines=True) or unfit(text)


def test_the_data_of_a_run(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", ("cat", "dog", "owl"), each=20)
    write_pictures(tmp_path / "drawn", ("owl", "cat"), each=2)
    write_pictures(tmp_path / "things", ("stone",), each=3)
    found = provision(f"{tmp_path}/photos", f"shift={tmp_path}/drawn", f"far_ood={tmp_path}/things")
    clean, calibration = found.dataset("clean"), found.dataset("calibration")
    assert len(clean) + len(calibration) == 60
    assert not set(clean.ids) & set(calibration.ids)
    assert (clean.name, calibration.name) == (
        "imagefolder:photos",
        "imagefolder:photos:calibration",
    )
    assert found.dataset("clean", 7).ids == clean.ids[:7]
    assert found.dataset("calibration", 4).ids == calibration.ids[:4]
    assert found.dataset("clean") is clean
    shift = found.dataset("shift")
    assert {clean.class_names[label] for label in shift.labels} == {"owl", "cat"}
    for folder, label in zip(shift.groups["folder"], shift.labels, strict=True):
        assert clean.class_names[label] == folder
    assert found.dataset("far_ood").labels == (-1, -1, -1)
    assert found.dataset("lmm") is clean
    assert clean.load([3]).images.shape == (1, 3, 16, 16)


def test_little_data_is_not_split(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", each=3)
    found = provision(f"{tmp_path}/photos")
    assert len(found.dataset("clean")) == 6
    with pytest.raises(NotRun, match=r"^needs calibration .*gives clean only, of which a fifth"):
        found.dataset("calibration")


def test_templates_of_an_option(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", each=1)
    clean: Any = provision(f"{tmp_path}/photos", templates=("a {}",)).dataset("clean")
    assert clean.templates == ("a {}",)
    embedded: Any = provision("embedded", templates=("a {}",)).dataset("clean", 3)
    assert embedded.templates == ("a {}",)
    assert embedded.phrases[0].startswith(("a ", "an "))
    assert isinstance(embedded, Prepared)


def test_data_knows_what_a_command_line_calls_it(tmp_path: Path) -> None:
    picture(tmp_path / "pictures" / "a.png")
    (tmp_path / "t.csv").write_text("image,label,id\npictures/a.png,cat,one\n")
    data = provision(f"manifest:{tmp_path}/t.csv").dataset("clean")
    clip: Any = SimpleNamespace(config=SimpleNamespace(depth=None))
    told = image_argument(clip, data, 0)
    assert told == f"--clip-data manifest:{tmp_path}/t.csv --sample one --size 16"


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("cue_conflict", "has no columns 'shape_label' and 'texture_label'"),
        ("factors", "has no columns 'factor'"),
        ("corrupted", "has no columns 'corruption' and 'severity'"),
        ("typographic", "has no columns 'written_label'"),
        ("retrieval", "has no captions"),
        ("compositional", "has no choices or captions"),
        ("correspondence", "has no pairs of pictures"),
    ],
)
def test_what_a_role_needs(role: str, words: str) -> None:
    with pytest.raises(ClipRobustError) as caught:
        check_role(role, CLEAN)
    assert words in str(caught.value)
    assert "cliprobust data list" in str(caught.value)


def test_cue_conflicts_are_answered_by_the_head_of_clean(tmp_path: Path) -> None:
    """A table's own classes may stand in another order, and a published set has none."""
    write_pictures(tmp_path / "photos")
    names = provision(f"{tmp_path}/photos").dataset("clean").class_names
    picture(tmp_path / "a.png")
    rows = [f"a.png,{n},{name},{names[0]},{name}" for n, name in enumerate(reversed(names))]
    table = "\n".join(["image,id,label,shape_label,texture_label", *rows])
    (tmp_path / "cues.csv").write_text(table + "\n")
    picture(tmp_path / "published" / "cat1-dog1.png")
    for source in ("manifest:{}/cues.csv", "cue-conflict:{}/published"):
        given = [f"{tmp_path}/photos", f"cue_conflict={source.format(tmp_path)}"]
        data = Provision(provider_of(read_sources(given)), size=16).dataset("cue_conflict")
        assert data.class_names == names
    own = Made(("x", "y"), (0, 1), own_classes=True)
    assert named_by(own, CLEAN) is own
    assert named_by(Made(("dog", "else"), (0, 1)), Made(("cat", "dog"), (0,))).labels == (1, -1)


@pytest.mark.parametrize(
    ("role", "more", "told"),
    [
        ("clean", {"class_names": ("a", "b\tc")}, "class 'b\\tc' holds"),
        ("clean", {"phrases": ("a", "b\n")}, "class 'b\\n' holds"),
        ("tasks", {"texts": (("a",), ("b", "c\r"))}, "class 'c\\r' holds"),
        ("tasks", {"own_texts": (("a",), ("b", "c\u2028"))}, "class 'c\\u2028' holds"),
        ("far_ood", {"class_names": ("a", "b\t")}, ""),  # of which no prompt is made
        ("far_ood", {"templates": ("{}", "{}\n")}, "template '{}\\n' holds"),
        ("shift", {"own_templates": ("{}\t",)}, "template '{}\\t' holds"),
        ("retrieval", {"captions": (("a",), ("b\tc\n",))}, ""),
        ("retrieval", {"captions": (("a",), ("b", "c\x07"))}, "caption 'c\\x07' holds"),
        (
            "compositional",
            {"choices": (("kind", "a\n", ("b", "c\x00")),)},
            "caption 'c\\x00' holds",
        ),
        ("compositional", {"choices": (("kind", "a\n", ("b", "c")),)}, ""),
    ],
)
def test_every_text_that_a_prompt_is_made_of_is_looked_at(
    role: str, more: dict[str, Any], told: str
) -> None:
    data = Made(("a", "b"), (0, 1))
    for name, value in more.items():
        setattr(data, name, value)
    if not told:
        check_texts(role, data)
        return
    with pytest.raises(ClipRobustError) as caught:
        check_texts(role, data)
    assert str(caught.value).startswith(f"made: {told} a control letter")


def test_labels_are_needed() -> None:
    with pytest.raises(ClipRobustError, match="has no labels, which clean needs"):
        check_role("clean", Made(("a",), (-1,)))
    check_role("far_ood", Made((), (-1,)))
    with pytest.raises(ClipRobustError, match="has no labels or captions, which tasks needs"):
        check_role("tasks", Made(("a",), (-1,)))
    check_role("tasks", Made(("a",), (0,)))
