"""Model cards: the table of open_clip's models, tags, and the user's own facts."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.study.cards import UNKNOWN, Card, card_of, read_cards, sources, zoo

#: Pairs of newer versions of open_clip than the table knows may be listed here, with a word why.
UNLISTED: set[tuple[str, str]] = set()


def test_every_model_of_open_clip_has_a_card() -> None:
    missing = set(open_clip.list_pretrained()) - zoo().keys() - UNLISTED
    assert not missing, "say in study/zoo.csv what these are, or list them as unknown"


def test_every_card_has_a_source_and_all_its_facts() -> None:
    for pair, card in zoo().items():
        assert sources()[card.data], pair
        assert all((card.architecture, card.data, card.loss, card.fine_tuning)), pair


def test_known_facts() -> None:
    card = zoo()["ViT-B-32", "laion2b_s34b_b79k"]
    assert card == Card("ViT", None, "LAION-2B", 2.32e9, "none", "softmax")
    assert zoo()["ViT-B-16-SigLIP", "webli"].loss == "sigmoid"
    assert zoo()["RN50", "openai"].architecture == "ResNet"
    assert zoo()["convnext_base_w", "laion_aesthetic_s13b_b82k"].set_size == 9e8
    assert zoo()["coca_ViT-B-32", "mscoco_finetuned_laion2b_s13b_b90k"].fine_tuning != "none"
    assert zoo()["ViT-B-32", "commonpool_m_laion_s128m_b4k"].set_size == 13e6


def test_the_users_facts_win_over_the_table_and_the_table_over_tags() -> None:
    model = {
        "architecture": "ViT-B-32",
        "pretrained": "openai",
        "tags": {"architecture": "something", "parameters": "151277313", "image_size": "224"},
    }
    assert card_of("clip", model).architecture == "ViT"
    assert card_of("clip", model).parameters == 151277313
    assert card_of("clip", model, {"clip": {"loss": "mine"}}).loss == "mine"
    assert card_of("clip", model, {"other": {"loss": "mine"}}).loss == "softmax"


def test_tags_of_other_spellings() -> None:
    tags = {"training_data": "LAION-2B", "fine_tuned": "no"}
    card = card_of("mine", {"architecture": "x", "pretrained": "y", "tags": tags})
    assert (card.data, card.fine_tuning) == ("LAION-2B", "none")
    assert card_of("mine", {}) == UNKNOWN


def written(folder: Path, text: str) -> Path:
    path = folder / "cards.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_cards(tmp_path: Path) -> None:
    path = written(tmp_path, '[model."runs/7"]\nloss = "sigmoid"\nset_size = 4e8\n')
    assert read_cards(path) == {"runs/7": {"loss": "sigmoid", "set_size": 4e8}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[model.a]\nlos = "x"\n', "model a: a model card has no 'los'. Did you mean 'loss'?"),
        ("[model.a]\nset_size = -1\n", "set_size = -1 is no number above 0"),
        ('[model.a]\nparameters = "many"\n', "parameters = 'many' is no number above 0"),
        ("[model.a]\nparameters = true\n", "parameters = true is no number above 0"),
        ("[model.a]\nset_size = [1]\n", "set_size = [1] is no number above 0"),
        ("[models.a]\n", "not in 'models'"),
        ("model = 1\n", 'tables [model."NAME"]'),
        ("[model]\na = {}\nb = 1\n", 'tables [model."NAME"]'),
        ("[model.a]\n[model.b]\nlos = 1\n", "model b: a model card has no 'los'"),
        ("[zoo]\n[cards]\n[model.a]\n", "not in 'cards'"),
        ("[model", "not a TOML file"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ClipRobustError) as caught:
        read_cards(written(tmp_path, text))
    assert words in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ClipRobustError, match="cannot be read"):
        read_cards(tmp_path / "none.toml")


@given(st.one_of(st.floats(), st.integers(), st.text(), st.none()))
def test_a_size_is_a_number_above_0_or_refused(value: object) -> None:
    try:
        size = UNKNOWN.updated({"set_size": value}, "here").set_size
    except ClipRobustError:
        return
    assert size is not None
    assert 0 < size < float("inf")
