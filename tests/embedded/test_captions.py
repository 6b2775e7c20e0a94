"""Captions: so many of a sample, each of another template, in an order of its own."""

from __future__ import annotations

import pytest

from pytest_cliprobust.embedded.captions import (
    CAPTION_TEMPLATES,
    EMBEDDED_TEMPLATES,
    TRAINING_TEMPLATES,
    caption,
    captions,
    ordered_templates,
    phrase,
)


@pytest.mark.parametrize("count", range(len(CAPTION_TEMPLATES) + 1))
def test_as_many_captions_as_are_wanted(count: int) -> None:
    found = captions("s", "a dog", count)
    every = [template.replace("{}", "a dog") for template in ordered_templates("s")]
    assert list(found) == every[:count]
    assert sorted(every) == sorted(text.replace("{}", "a dog") for text in CAPTION_TEMPLATES)
    assert captions("s", "a dog") == tuple(every[:5])
    assert caption("s", "a dog") == every[0]


@pytest.mark.parametrize("count", [-1, len(CAPTION_TEMPLATES) + 1])
def test_no_more_captions_than_templates(count: int) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 8 captions, not {count}"):
        captions("s", "a dog", count)


def test_every_template_comes_first_somewhere() -> None:
    firsts = {ordered_templates(f"s{number}")[0] for number in range(100)}
    assert firsts == set(CAPTION_TEMPLATES)


def test_templates_and_phrases() -> None:
    for templates in (CAPTION_TEMPLATES, EMBEDDED_TEMPLATES, TRAINING_TEMPLATES):
        assert len(set(templates)) == len(templates)
        assert all(text.count("{}") == 1 and text.endswith(".") for text in templates)
    # The reference has been trained on all that it is asked with.
    assert {*CAPTION_TEMPLATES, *EMBEDDED_TEMPLATES} <= set(TRAINING_TEMPLATES)
    assert phrase("a pair of", "skis") == "a pair of skis"
    assert phrase("", "water") == "water"
