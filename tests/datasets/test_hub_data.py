"""Data by a name on the model hub: what lies there decides the layout, and nothing is fetched twice."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_helpers import COMMIT, Hub, in_reach
from huggingface_hub import constants
from layout_helpers import encoded, pixels_of, shards

from pytest_cliprobust.datasets import parquet as tables_module
from pytest_cliprobust.datasets.field import FIELD
from pytest_cliprobust.datasets.layouts.hub import wanted_files
from pytest_cliprobust.datasets.loading import load_source
from pytest_cliprobust.datasets.parquet import tables_of
from pytest_cliprobust.datasets.providers import provider_of
from pytest_cliprobust.datasets.provision import Provision
from pytest_cliprobust.datasets.sources import parse_source, read_sources, read_table
from pytest_cliprobust.errors import ClipRobustError, Unavailable


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with shards of five samples, and with pictures in class folders."""
    samples = [{"webp": encoded(n), "cls": str(n % 2).encode()} for n in range(5)]
    root = shards(tmp_path / "made", samples, each=2)
    tars = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.*")}
    files = {
        "datasets/some/wds_pets": {
            **tars,
            "train/0.tar": b"large",
            "classnames.txt": b"cat\ndog\n",
            "zeroshot_classification_templates.txt": b"a photo of a {c}.\n",
            "README.md": b"words",
        },
        "datasets/some/pets": {
            **{f"{name}/{n}.png": encoded(n, "png") for name in ("cat", "dog") for n in range(2)},
            "README.md": b"words",
            "banner.png": b"no sample",
        },
        "datasets/some/words": {"README.md": b"words", "data.csv": b"columns"},
    }
    with in_reach(files, tmp_path / "hub", monkeypatch) as own:
        yield own


def test_shards(served: Hub) -> None:
    for _ in range(2):
        data: Any = load_source(parse_source("hub:some/wds_pets"), size=16)
        assert data.name == "hub:wds_pets"
        assert data.class_names == ("cat", "dog")
        assert data.templates == ("a photo of a {}.",)
        assert sorted(data.ids) == [
            "0/s0000000",
            "0/s0000001",
            "1/s0000002",
            "1/s0000003",
            "2/s0000004",
        ]
        place = data.ids.index("1/s0000003")
        np.testing.assert_array_equal(data.load([place]).images[0].numpy(), pixels_of(3))
        asked = len(served.asked)
    assert [served.fetched(f"test/{n}.tar") for n in range(3)] == [1, 1, 1]
    assert served.fetched("train/0.tar") == served.fetched("README.md") == 0
    load_source(parse_source("hub:some/wds_pets"), size=16)
    assert len(served.asked) == asked


def test_class_folders_under_a_name_of_the_users(served: Hub) -> None:
    data = load_source(parse_source("shift=mine=hub:some/pets"), size=16)
    assert data.name == "hub:mine"
    assert data.class_names == ("cat", "dog")
    assert len(data) == 4
    np.testing.assert_array_equal(data.load([3]).images[0].numpy(), pixels_of(1))
    assert served.fetched("README.md") == served.fetched("banner.png") == 0


@pytest.mark.usefixtures("served")
def test_in_a_role(tmp_path: Path) -> None:
    (tmp_path / "data.toml").write_text('[data]\nclean = "hub:some/wds_pets"\n', encoding="utf-8")
    (source,) = read_table(tmp_path / "data.toml")
    assert source.path == "some/wds_pets"  # a name, not a path beside the file
    provider = provider_of(read_sources(["clean=hub:some/wds_pets", "shift=hub:some/pets"]))
    provision = Provision(provider, size=16)
    assert provision.dataset("clean").name == "hub:wds_pets"
    (shift,) = provider.of("shift")
    assert provision.dataset(shift).class_names == ("cat", "dog")


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hub:pets", "is no name of data on the hub; write hub:OWNER/NAME"),
        ("hub:a/b/c", "is no name of data on the hub"),
        ("hub:some/absent", "the model hub has no repository 'some/absent'"),
        ("hub:some/words", "holds no file that is looked for"),
    ],
)
def test_what_cannot_be_had_is_one_line(text: str, words: str) -> None:
    with pytest.raises(ClipRobustError, match=words) as caught:
        load_source(parse_source(text), size=16)
    assert "\n" not in str(caught.value)


def test_offline(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    load_source(parse_source("hub:some/pets"), size=16)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(served.asked)
    assert len(load_source(parse_source("hub:some/pets"), size=16)) == 4
    with pytest.raises(
        Unavailable, match=r"data set 'hub:some/wds_pets' is not in the local cache"
    ):
        load_source(parse_source("hub:some/wds_pets"), size=16)
    assert len(served.asked) == asked


def test_which_files_are_wanted() -> None:
    flat = ["0.tar", "1.tar", "classnames.txt", "extra/notes.txt", "README.md"]
    assert wanted_files(flat) == ["classnames.txt", "0.tar", "1.tar"]
    pictures = ["cat/a.JPG", "cat/b.txt", "classes.txt", "logo.png"]
    assert wanted_files(pictures) == ["cat/a.JPG", "classes.txt"]


# --- Tables ----------------------------------------------------------------------------------------


def table(numbers: range, features: dict[str, Any] | None, **columns: list[Any]) -> bytes:
    """Return a Parquet file as ``datasets`` pushes it: pictures as bytes, columns told in the metadata."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pictures = [{"bytes": encoded(n, "png"), "path": f"{n}.png"} for n in numbers]
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    made = arrow.table({"image": arrow.array(pictures, kind), **columns})
    if features is not None:
        told = json.dumps({"info": {"features": features}})
        made = made.replace_schema_metadata({"huggingface": told})
    file = io.BytesIO()
    parquet.write_table(made, file, row_group_size=2)
    return file.getvalue()


PETS = {
    "image": {"_type": "Image"},
    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    "artist": {"dtype": "string", "_type": "Value"},
}


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with data sets that lie in tables."""
    files = {
        "datasets/some/pets": {
            "README.md": b"words",
            "data/train-00000-of-00001.parquet": b"large",
            "data/test-00000-of-00002.parquet": table(
                range(3), PETS, label=[0, 1, 0], artist=["x", "y", "x"]
            ),
            "data/test-00001-of-00002.parquet": table(
                range(3, 5), PETS, label=[1, -1], artist=["y", "x"]
            ),
            "pictures/banner.png": b"no sample",
        },
        "datasets/some/numbers": {"test.parquet": table(range(2), None, label=[0, 1])},
        "datasets/some/names": {"test.parquet": table(range(2), None, label=["dog", "cat"])},
        "datasets/some/several": {"a/test-0.parquet": b"", "b/test-0.parquet": b""},
        "datasets/some/damaged": {"test.parquet": b"no table at all"},
    }
    with in_reach(files, tmp_path / "hub", monkeypatch) as own:
        yield own


def test_tables(tables: Hub) -> None:
    for _ in range(2):
        data: Any = load_source(parse_source("hub:some/pets"), size=16)
        assert data.name == "hub:pets"
        assert data.class_names == ("cat", "dog")
        labels = dict(zip(data.ids, data.labels, strict=True))
        assert labels == {"0": 0, "1": 1, "2": 0, "3": 1, "4": -1}
        assert data.subgroups == ("artist",)
        for number in (4, 0, 3):
            place = data.ids.index(str(number))
            np.testing.assert_array_equal(data.load([place]).images[0].numpy(), pixels_of(number))
        asked = len(tables.asked)
    assert [tables.fetched(f"data/test-0000{n}-of-00002.parquet") for n in range(2)] == [1, 1]
    assert tables.fetched("data/train-00000-of-00001.parquet") == tables.fetched("banner.png") == 0
    load_source(parse_source("hub:some/pets"), size=16)
    assert len(tables.asked) == asked


@pytest.mark.usefixtures("tables")
def test_classes_of_a_table_that_says_nothing_of_them() -> None:
    assert load_source(parse_source("hub:some/names"), size=16).class_names == ("cat", "dog")
    with pytest.raises(ClipRobustError, match="nothing in the table says which classes they are"):
        load_source(parse_source("hub:some/numbers"), size=16)


def test_tables_that_cannot_be_had_are_one_line(tables: Hub, tmp_path: Path) -> None:
    with pytest.raises(ClipRobustError, match=r"tables of 2 data sets \(a, b\)") as caught:
        load_source(parse_source("hub:some/several"), size=16)
    assert "\n" not in str(caught.value)
    with pytest.raises(ClipRobustError, match="its tables cannot be read") as caught:
        load_source(parse_source("hub:some/damaged"), size=16)
    assert "\n" not in str(caught.value)
    tables.damaged.add("data/test-00001-of-00002.parquet")
    with pytest.raises(Unavailable, match="has arrived damaged, as its digest says"):
        load_source(parse_source("hub:some/pets"), size=16)
    tables.damaged.clear()
    assert len(load_source(parse_source("hub:some/pets"), size=16)) == 5
    kept = [path.name for path in (tmp_path / "hub").rglob(".pytest-cliprobust-arrow-*")]
    assert kept == [f".pytest-cliprobust-arrow-{COMMIT}"], "something unfinished is left"


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["data/validation-0-of-1.parquet", "data/train-0-of-1.parquet"], [0]),
        (["default/test/0001.parquet", "default/train/0000.parquet"], [0]),
        (["train.parquet"], [0]),
        (["greatest.parquet", "latest.parquet"], [0, 1]),  # no split is called so
        (["a.csv"], []),
        # Test before validation before train, and every table of that split.
        ([f"data/{s}-{n}-of-2.parquet" for s in ("train", "val", "test") for n in (0, 1)], [4, 5]),
        (["train.parquet", "valid.parquet", "val.parquet"], [2]),
        (["a_test.parquet", "a.test.parquet", "x.parquet"], [0, 1]),
    ],
)
def test_which_split_is_taken(names: list[str], chosen: list[int]) -> None:
    assert tables_of(names) == [names[place] for place in chosen]


def test_tables_in_many_folders_are_many_data_sets() -> None:
    names = [f"{letter}/train-0.parquet" for letter in "gfedcba"]
    with pytest.raises(
        ClipRobustError, match=r"tables of 7 data sets \(a, b, c, d, e\); fetch one"
    ):
        tables_of(names)
    assert tables_of([*names, "z/test.parquet"]) == ["z/test.parquet"]


# --- The word alone --------------------------------------------------------------------------------


def test_the_word_alone_is_the_sets_of_the_field() -> None:
    provider = provider_of(read_sources(["hub"]))
    assert {role: len(provider.of(role)) for role in FIELD} == {
        "clean": 1,
        "shift": 4,
        "near_ood": 1,
        "far_ood": 1,
        "retrieval": 2,
    }
    assert provider.name_of(provider.one("near_ood")) == "hub:imagenet-o"
    assert [provider.name_of(key) for key in provider.of("retrieval")] == [
        "hub:flickr30k",
        "hub:mscoco_captions",
    ]
    assert provider.is_part("calibration")
    only = provider_of(read_sources(["embedded", "far_ood=hub"]))
    assert [only.name_of(key) for key in only.of("far_ood")] == ["hub:vtab-dtd"]
    with pytest.raises(ClipRobustError, match="nothing in this pack plays cue_conflict"):
        provider_of(read_sources(["cue_conflict=hub"]))


def test_a_set_of_the_field_is_read_as_it_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ImageNet-A has a part of the classes: figures are over these."""
    files = {}
    for name, classes, labels in (
        ("imagenet1k", b"bee\ncat\ndog\n", (0, 1, 2)),
        ("imagenet-a", b"bee\ndog\n", (0, 1)),
    ):
        samples = [
            {"webp": encoded(n), "cls": str(label).encode()} for n, label in enumerate(labels)
        ]
        root = shards(tmp_path / name, samples, each=9)
        tars = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.*")}
        files[f"datasets/djghosh/wds_{name}_test"] = {**tars, "classnames.txt": classes}
    with in_reach(files, tmp_path / "hub", monkeypatch):
        provider = provider_of(read_sources(["hub"]))
        provision = Provision(provider, size=16)
        assert provision.dataset("clean").name == "hub:imagenet1k"
        own = next(key for key in provider.of("shift") if "imagenet-a" in key)
        shift: Any = provision.dataset(own)
        assert shift.name == "hub:imagenet-a"
        assert list(shift.head_rows) == [0, 2]


def test_a_folder_that_is_called_hub_is_written_with_a_dot(tmp_path: Path) -> None:
    assert parse_source("hub").layout == "hub"
    assert parse_source("./hub").layout == "imagefolder"
    assert parse_source("hub", tmp_path).path == ""


@pytest.mark.parametrize("there", [True, False])
def test_another_process_may_have_been_faster(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    made = tmp_path / ".pytest-cliprobust-arrow-abc"

    def write(tables: Any, folder: Path, wanted: str) -> None:
        if there:
            made.mkdir()
            (made / "theirs").touch()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(tables_module, "_write", write)
    monkeypatch.setattr(Path, "rename", refuse)
    if there:
        assert tables_module.as_saved(snapshot, "o/n") == made
        assert tables_module.as_saved(snapshot, "o/n") == made  # nothing is written a second time
    else:
        with pytest.raises(Unavailable, match="o/n: its tables cannot be written as arrow files"):
            tables_module.as_saved(snapshot, "o/n")
    left = [path.name for path in tmp_path.iterdir()]
    assert sorted(left) == sorted(["snapshots", *([made.name] if there else [])])
