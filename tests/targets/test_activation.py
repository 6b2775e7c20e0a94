"""Which activation a model is built with: tags, names, configurations, and what the user says."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets import activation
from pytest_cliprobust.targets.activation import Choice, for_config, for_transformers

#: Configurations as open_clip has them: (quick_gelu of the architecture, of its tags).
KNOWN: dict[str, dict[str, Any]] = {
    "Plain": {"vision_cfg": {"layers": 2}, "text_cfg": {}},
    "Plain-quickgelu": {"quick_gelu": True, "vision_cfg": {"layers": 2}, "text_cfg": {}},
    "Quick": {"quick_gelu": True, "vision_cfg": {"layers": 2}, "text_cfg": {}},
    "Sure": {"vision_cfg": {"layers": 2}, "text_cfg": {}},
}
TAGS: dict[tuple[str, str], dict[str, Any]] = {
    ("Plain", "quick"): {"quick_gelu": True},
    ("Plain", "plain"): {"quick_gelu": False},
    ("Plain", "silent"): {},
    ("Plain-quickgelu", "x"): {"quick_gelu": True},
    ("Quick", "silent"): {},
    ("Quick", "plain"): {"quick_gelu": False},
    ("Tagged", "quick"): {"quick_gelu": True},
    ("Tagged", "plain"): {"quick_gelu": False},
}


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip
    from open_clip import factory, pretrained

    monkeypatch.setattr(factory, "get_model_config", KNOWN.get)
    monkeypatch.setattr(open_clip, "list_models", lambda: list(KNOWN))
    monkeypatch.setattr(pretrained, "get_pretrained_cfg", lambda name, tag: TAGS[name, tag])
    monkeypatch.setattr(
        pretrained, "list_pretrained_tags_by_model", lambda name: [t for n, t in TAGS if n == name]
    )


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (None, None),
        ("gelu", "gelu"),
        ("GELU", "gelu"),
        ("quickgelu", "quickgelu"),
        ("Quick-GELU", "quickgelu"),
        ("quick_gelu", "quickgelu"),
    ],
)
def test_spellings(said: str | None, means: str | None) -> None:
    assert activation.parse_activation(said) == means
    with pytest.raises(ClipRobustError, match="gelu or quickgelu, not 'relu'"):
        activation.parse_activation("relu")


@pytest.mark.parametrize(
    ("architecture", "tag", "asked", "quick", "name", "words"),
    [
        ("Plain", "quick", None, True, "Plain-quickgelu", "alone would mean GELU"),
        ("Plain", "plain", None, False, "Plain", ""),
        ("Plain", "silent", None, False, "Plain", ""),
        ("Quick", "silent", None, True, "Quick", "activation QuickGELU, as tag 'silent'"),
        ("Quick", "plain", None, False, "Quick", "alone would mean QuickGELU"),
        ("Plain-quickgelu", "x", "gelu", False, "Plain", "although tag 'x' was trained with QuickGELU"),
        ("Plain", "quick", "quickgelu", True, "Plain-quickgelu", "alone would mean GELU"),
        ("Plain", "quick", "gelu", False, "Plain", "trained with QuickGELU"),
        ("Plain", "plain", "quickgelu", True, "Plain-quickgelu", "trained with GELU"),
        ("Plain", "plain", "gelu", False, "Plain", ""),
    ],
)  # fmt: skip
def test_tags(architecture: str, tag: str, asked: Any, quick: bool, name: str, words: str) -> None:
    choice = activation.for_tag(architecture, tag, asked)
    assert (choice.quick_gelu, choice.architecture) == (quick, name)
    assert words in choice.note
    assert bool(choice.note) == bool(words)


@pytest.mark.parametrize(
    ("architecture", "asked", "openai", "expected"),
    [
        ("Plain-quickgelu", None, False, (True, "Plain-quickgelu", "from the architecture's name")),
        ("Plain", None, True, (True, "Plain-quickgelu", "one of OpenAI's archives")),
        ("Sure", None, False, (False, "Sure", "")),
        ("Plain", "gelu", False, (False, "Plain", "activation GELU, from --clip-activation")),
        (
            "Plain",
            "quickgelu",
            True,
            (True, "Plain-quickgelu", "activation QuickGELU, from --clip-activation"),
        ),
        (
            "Plain-quickgelu",
            "quickgelu",
            False,
            (True, "Plain-quickgelu", "from --clip-activation"),
        ),
        ("Quick", "gelu", False, (False, "Quick", "from --clip-activation")),
    ],
)
def test_checkpoints(
    architecture: str, asked: Any, openai: bool, expected: tuple[bool, str, str]
) -> None:
    choice = activation.for_checkpoint(architecture, asked, source="f", openai_archive=openai)
    assert (choice.quick_gelu, choice.architecture) == expected[:2]
    assert expected[2] in choice.note
    assert bool(choice.note) == bool(expected[2])


def test_checkpoints_that_do_not_tell() -> None:
    for name in ("Plain", "Tagged"):
        with pytest.raises(ClipRobustError, match="the weights do not tell"):
            activation.for_checkpoint(name, None, source="f", openai_archive=False)
    with pytest.raises(ClipRobustError, match="drop one of the two"):
        activation.for_checkpoint("Plain-quickgelu", "gelu", source="f", openai_archive=False)
    assert activation.is_ambiguous("Plain")
    assert activation.is_ambiguous("Tagged")
    assert not activation.is_ambiguous("Sure")


@pytest.mark.parametrize(
    ("said", "asked", "expected"),
    [
        ({}, None, Choice(False, "a")),
        ({"quick_gelu": True}, None, Choice(True, "a", "activation QuickGELU, from open_clip_config.json")),
        ({}, "gelu", Choice(False, "a", "activation GELU, from --clip-activation")),
        (
            {},
            "quickgelu",
            Choice(
                True,
                "a",
                "activation QuickGELU, from --clip-activation, although open_clip_config.json says GELU",
            ),
        ),
        (
            {"quick_gelu": True},
            "gelu",
            Choice(
                False,
                "a",
                "activation GELU, from --clip-activation, although open_clip_config.json says QuickGELU",
            ),
        ),
    ],
)  # fmt: skip
def test_configurations(said: dict[str, Any], asked: Any, expected: Choice) -> None:
    assert for_config("a", said, asked) == expected


@pytest.mark.parametrize(
    ("vision", "text", "free"),
    [
        ({}, {}, True),
        ({"timm_model_name": "x"}, {}, True),
        ({"layers": [1, 2]}, {}, True),
        ({}, {"hf_model_name": "x"}, True),
        ({}, {"act_kwargs": {"approximate": "tanh"}}, True),
        ({"timm_model_name": "x"}, {"hf_model_name": "x"}, False),
        ({"layers": [1, 2]}, {"act_kwargs": {"a": 1}}, False),
    ],
)
def test_towers_that_fix_their_own(
    vision: dict[str, Any], text: dict[str, Any], free: bool
) -> None:
    config = {"vision_cfg": vision, "text_cfg": text}
    if free:
        activation.check_applicable("a", config)
        return
    with pytest.raises(ClipRobustError, match="whose towers fix their own activation"):
        activation.check_applicable("a", config)
    with pytest.raises(ClipRobustError, match="whose towers fix their own activation"):
        for_config("a", config, "gelu")


@pytest.mark.parametrize(
    ("names", "vision", "text", "asked", "expected"),
    [
        (("x",), "gelu", "gelu", None, (None, "")),
        (
            ("x",),
            "quick_gelu",
            "quick_gelu",
            None,
            (None, "activation QuickGELU, from config.json"),
        ),
        (
            ("x",),
            "quick_gelu",
            "gelu",
            None,
            (None, "activation quick_gelu in the vision tower and gelu in the text tower"),
        ),
        (("x",), "gelu", "gelu", "gelu", ("gelu", "activation GELU, from --clip-activation")),
        (
            ("x",),
            "gelu",
            "quick_gelu",
            "quickgelu",
            (
                "quick_gelu",
                "activation QuickGELU, from --clip-activation, although config.json says gelu (vision) "
                "and quick_gelu (text)",
            ),
        ),
        (
            ("x", "OpenAI/CLIP-ViT-base"),
            "quick_gelu",
            "quick_gelu",
            None,
            (None, "activation QuickGELU, from config.json"),
        ),
        (("laion/CLIP-ViT-B",), "gelu", "gelu", None, (None, "")),
        (
            ("openai/clip-vit",),
            "gelu",
            "gelu",
            "gelu",
            ("gelu", "activation GELU, from --clip-activation"),
        ),
    ],
)
def test_transformers(
    names: tuple[str, ...], vision: str, text: str, asked: Any, expected: tuple[str | None, str]
) -> None:
    assert for_transformers(names, vision, text, asked) == expected


@pytest.mark.parametrize(
    ("name", "vision", "text"),
    [
        ("openai/clip-vit-base", "gelu", "gelu"),
        ("openai/clip-vit-base", "quick_gelu", "gelu"),
        ("my-openai/CLIP-ViT-base", "gelu", "quick_gelu"),
        ("laion/CLIP-ViT-B-32", "quick_gelu", "quick_gelu"),
    ],
)
def test_published_weights_with_another_activation(name: str, vision: str, text: str) -> None:
    for names in ((name,), ("folder", name)):
        with pytest.raises(ClipRobustError, match="was trained with"):
            for_transformers(names, vision, text, None)
