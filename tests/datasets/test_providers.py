"""Which data plays which role."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_cliprobust.datasets.providers import CALIBRATION, Provider, provider_of
from pytest_cliprobust.datasets.sources import read_sources
from pytest_cliprobust.errors import ClipRobustError, NotRun


def provided(*texts: str) -> Provider:
    return provider_of(read_sources(texts))


def test_roles_and_names() -> None:
    found = provided(
        "/data/photos", "shift=/data/a", "shift=b=imagenet-r:/data/r", "textures:/data/dtd"
    )
    assert [found.name_of(key) for key in found.of("shift")] == ["imagefolder:a", "imagenet-r:b"]
    assert [found.name_of(key) for key in found.of("far_ood")] == ["textures"]
    assert found.name_of(found.one("clean")) == "imagefolder:photos"
    assert found.role_of("shift=/data/a") == "shift"
    (calibration,) = found.of("calibration")
    assert calibration == "/data/photos" + CALIBRATION
    assert found.name_of(calibration) == "imagefolder:photos:calibration"
    assert found.of("lmm") == found.of("clean")
    with pytest.raises(ClipRobustError, match="take the fixture 'shift'"):
        found.one("shift")


def test_calibration_of_the_users_own() -> None:
    found = provided("/data/photos", "calibration=/data/held")
    assert found.of("calibration") == ("calibration=/data/held",)
    assert not found.is_part("calibration")


def test_the_data_of_clean_may_play_what_is_measured_on_it() -> None:
    found = provided("/a/x", "groups=/a/x", "unlabelled=/a/x")
    assert found.of("groups") == ("groups=/a/x",)


def test_a_missing_role_says_how_to_give_it() -> None:
    with pytest.raises(NotRun) as caught:
        provided("clean=/a", "shift=/b").require("far_ood")
    assert str(caught.value) == (
        "needs far_ood (pictures of something else altogether), and your data gives clean, shift only; leave "
        "--clip-data out to run it on the embedded benchmark, or give it with --clip-data "
        "far_ood=LAYOUT:PATH"
    )
    with pytest.raises(
        NotRun,
        match=r", and --clip-data /a gives clean only; give it with --clip-data corrupted=LAYOUT:PATH$",
    ):
        provided("/a").require("corrupted")


def test_what_the_benchmark_never_has() -> None:
    benchmark = provided()
    assert benchmark.lacking("corrupted") == (
        "needs corrupted (the clean pictures, corrupted before anybody loaded them), and the embedded "
        "benchmark has none"
    )
    assert benchmark.lacking("shift").endswith(
        "leave --clip-data out to run it on the embedded benchmark, or give it with --clip-data "
        "shift=LAYOUT:PATH"
    )


def test_beside_the_embedded_benchmark() -> None:
    found = provided("embedded", "far_ood=/data/dtd")
    assert found.of("clean") == ("clean",)
    assert found.of("calibration") == ("calibration",)
    assert found.of("far_ood") == ("far_ood=/data/dtd",)
    with pytest.raises(ClipRobustError, match="their label sets differ"):
        provided("embedded", "/data/photos")
    assert provided("embedded").sets == provider_of("embedded").sets
    part = provided("clean=embedded:clean")
    assert part.name_of(part.one("clean")) == "clean"


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("shift=/a/x", "clean=/b/x"), "two data sets are called 'imagefolder:x'"),
        (("imagenet-r:/a", "imagenet-r:/b"), "two data sets are called 'imagenet-r'"),
        (("imagent:/a",), "Did you mean 'imagenet'"),
        (("/a/x", "calibration=/a/x"), "calibration and clean are the same data; leave it out"),
        (("/a/x", "calibration=y=/a/../a/x"), "calibration and clean are the same data"),
        (("calibration=/a/x", "/a/x"), "calibration and clean are the same data; leave it out"),
        (
            ("far_ood=/b", "near_ood=/a/x", "/a/x"),
            "near_ood and clean are the same data; give other",
        ),
        (("clean=/a/x", "shift=/a/x"), "shift and clean are the same data; give other data"),
        (("hub:a/b", "far_ood=hub:a/b"), "far_ood and clean are the same data; give other data"),
    ],
)
def test_mistakes(texts: tuple[str, ...], words: str) -> None:
    with pytest.raises(ClipRobustError, match=words):
        provided(*texts)


def test_one_set_for_several_roles() -> None:
    found = provided("clean=/a/x", "groups=/a/x")
    assert [found.name_of(key) for role in ("clean", "groups") for key in found.of(role)] == [
        "imagefolder:x",
        "imagefolder:x",
    ]


def test_paths_are_looked_at_before_anything_runs(tmp_path: Path) -> None:
    found = provided(f"clean={tmp_path}", f"shift={tmp_path}/nowhere")
    with pytest.raises(ClipRobustError, match=r"nowhere' does not exist; check the path"):
        found.check_paths()
    provided("clean=embedded:clean", f"shift={tmp_path}").check_paths()
