"""Data by a name on the model hub: what lies there decides the layout, and nothing is fetched twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_helpers import Hub, in_reach
from huggingface_hub import constants
from layout_helpers import encoded, pixels_of, shards

from pytest_cliprobust.datasets.layouts.hub import wanted_files
from pytest_cliprobust.datasets.loading import load_source
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
        "datasets/some/words": {"README.md": b"words", "data.parquet": b"columns"},
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
