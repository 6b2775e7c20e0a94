"""GELU or QuickGELU: find out which one the weights were trained with.

QuickGELU is x · sigmoid(1.702 x), OpenAI's approximation of GELU (Hendrycks & Gimpel 2016, section 2).
It leaves no trace in the weights, and with the wrong one a model still works, a few points worse
(mlfoundations/open_clip#771). open_clip 3.3 only warns: of its 196 pairs of architecture and tag, 28
name an architecture whose activation differs from the tag's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pytest_cliprobust.errors import ClipRobustError

Activation = Literal["gelu", "quickgelu"]
SUFFIX = "-quickgelu"

#: Hub names whose activation is published (open_clip's pretrained table): prefix, hidden_act.
_PUBLISHED = (("openai/clip-vit", "quick_gelu"), ("laion/clip-vit", "gelu"))


@dataclass(frozen=True)
class Choice:
    """The activation to build a model with.

    Attributes:
        quick_gelu: QuickGELU rather than GELU.
        architecture: open_clip's name for the architecture with this activation.
        note: where the decision came from, for the report; empty where nothing had to be decided.
    """

    quick_gelu: bool
    architecture: str
    note: str = ""


def parse_activation(value: str | None) -> Activation | None:
    """Return the value of ``--clip-activation``, in one spelling.

    Raises:
        ClipRobustError: neither gelu nor quickgelu.
    """
    if value is None:
        return None
    plain = value.lower().replace("_", "").replace("-", "")
    if plain == "gelu":
        return "gelu"
    if plain == "quickgelu":
        return "quickgelu"
    raise ClipRobustError(f"--clip-activation is gelu or quickgelu, not {value!r}")


def title(quick_gelu: bool) -> str:
    """Return the activation's name for reports."""
    return "QuickGELU" if quick_gelu else "GELU"


def for_tag(architecture: str, tag: str, requested: Activation | None) -> Choice:
    """Choose for one of open_clip's own tags: whatever the tag was trained with.

    A tag that says nothing leaves the choice to the architecture: this is how ``roberta-ViT-B-32``,
    whose configuration says QuickGELU and whose tag is silent, was trained.
    """
    from open_clip.pretrained import get_pretrained_cfg

    configured = _configured(architecture)
    trained = bool(get_pretrained_cfg(architecture, tag).get("quick_gelu", configured))
    if requested is not None and (requested == "quickgelu") != trained:
        quick = requested == "quickgelu"
        return Choice(
            quick,
            renamed(architecture, quick),
            f"activation {title(quick)} because --clip-activation says so, although tag {tag!r} was "
            f"trained with {title(trained)}",
        )
    if trained != configured:
        note = (
            f"activation {title(trained)}, as tag {tag!r} was trained with (architecture "
            f"{architecture!r} alone would mean {title(configured)})"
        )
        return Choice(trained, renamed(architecture, trained), note)
    note = f"activation QuickGELU, as tag {tag!r} was trained with" if trained else ""
    return Choice(trained, architecture, note)


def for_checkpoint(
    architecture: str, requested: Activation | None, *, source: str, openai_archive: bool
) -> Choice:
    """Choose for a bare state dict and an architecture's name.

    Known: a name with ``-quickgelu``; one of OpenAI's own archives; an architecture of which open_clip
    has no weights with QuickGELU. Unknown: an architecture of which it has.

    Raises:
        ClipRobustError: unknown and not said, or said twice with different meaning.
    """
    configured = _configured(architecture)
    if requested is not None:
        quick = requested == "quickgelu"
        if architecture.endswith(SUFFIX) and not quick:
            raise ClipRobustError(
                f"architecture {architecture!r} means QuickGELU and --clip-activation says gelu; drop "
                "one of the two"
            )
        check_applicable(architecture, _config(architecture))
        note = f"activation {title(quick)}, from --clip-activation"
        return Choice(quick, renamed(architecture, quick), note)
    if configured:
        return Choice(True, architecture, "activation QuickGELU, from the architecture's name")
    if openai_archive:
        return Choice(
            True,
            renamed(architecture, True),
            "activation QuickGELU: the checkpoint is one of OpenAI's archives",
        )
    if is_ambiguous(architecture):
        raise ClipRobustError(
            f"checkpoint {source}: the weights do not tell their activation and {architecture!r} is "
            "trained with either; add --clip-activation gelu or --clip-activation quickgelu "
            "(OpenAI's, MetaCLIP's and DFN's weights: quickgelu; LAION-2B's and DataComp's: gelu)"
        )
    return Choice(False, architecture)


def for_config(architecture: str, config: dict[str, Any], requested: Activation | None) -> Choice:
    """Choose for a folder or hub repository with ``open_clip_config.json``, which says it itself."""
    configured = bool(config.get("quick_gelu", False))
    if requested is None:
        note = "activation QuickGELU, from open_clip_config.json" if configured else ""
        return Choice(configured, architecture, note)
    check_applicable(architecture, config)
    quick = requested == "quickgelu"
    note = f"activation {title(quick)}, from --clip-activation"
    if quick != configured:
        note += f", although open_clip_config.json says {title(configured)}"
    return Choice(quick, architecture, note)


def is_ambiguous(architecture: str) -> bool:
    """Whether open_clip knows weights of ``architecture`` (without suffix) with QuickGELU."""
    from open_clip import list_models
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    return architecture + SUFFIX in list_models() or any(
        get_pretrained_cfg(architecture, tag).get("quick_gelu")
        for tag in list_pretrained_tags_by_model(architecture)
    )


def check_applicable(architecture: str, config: dict[str, Any]) -> None:
    """Check that open_clip's quick_gelu switch does anything here.

    Raises:
        ClipRobustError: neither tower is open_clip's own transformer with a free activation.
    """
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    free_vision = not vision.get("timm_model_name") and not isinstance(vision.get("layers"), list)
    free_text = not text.get("hf_model_name") and not text.get("act_kwargs")
    if not (free_vision or free_text):
        raise ClipRobustError(
            f"--clip-activation has no meaning for {architecture!r}, whose towers fix their own "
            "activation; leave it out"
        )


def renamed(architecture: str, quick_gelu: bool) -> str:
    """Return open_clip's name of the variant of ``architecture`` with this activation."""
    if quick_gelu == _configured(architecture):
        return architecture
    return architecture + SUFFIX if quick_gelu else architecture.removesuffix(SUFFIX)


def for_transformers(
    names: tuple[str, ...], vision: str, text: str, requested: Activation | None
) -> tuple[str | None, str]:
    """Check the ``hidden_act`` of a transformers CLIP configuration.

    Args:
        names: what the model is called: the folder or hub name, the config's ``_name_or_path``.
        vision, text: ``hidden_act`` of the two towers.
        requested: ``--clip-activation``.

    Returns:
        the ``hidden_act`` to put in instead, if any, and a note for the report, or "".

    Raises:
        ClipRobustError: the configuration contradicts what these weights are published with.
    """
    if requested is not None:
        wanted = "quick_gelu" if requested == "quickgelu" else "gelu"
        note = f"activation {title(requested == 'quickgelu')}, from --clip-activation"
        if {vision, text} != {wanted}:
            note += f", although config.json says {vision} (vision) and {text} (text)"
        return wanted, note
    for name in names:
        for prefix, published in _PUBLISHED:
            if prefix in name.lower() and (vision, text) != (published, published):
                raise ClipRobustError(
                    f"config.json of {names[0]!r} says hidden_act {vision} (vision) and {text} (text), "
                    f"but {name!r} was trained with {published}; correct it, or add --clip-activation "
                    "gelu or quickgelu to say which is right"
                )
    if vision != text:
        return None, f"activation {vision} in the vision tower and {text} in the text tower"
    return None, "activation QuickGELU, from config.json" if vision == "quick_gelu" else ""


def _config(architecture: str) -> dict[str, Any]:
    from open_clip.factory import get_model_config

    return dict(get_model_config(architecture) or {})


def _configured(architecture: str) -> bool:
    return bool(_config(architecture).get("quick_gelu", False))
