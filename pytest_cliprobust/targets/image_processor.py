"""The image processor of a transformers folder: what its configuration says, as our preprocessing.

Every setting is honoured or refused by name; what a file leaves out is the processor's own default. The
geometry is that of transformers 4.53 to 5 (resize, then centre crop; an odd pixel goes behind the crop).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.base import Interpolation
from pytest_cliprobust.targets.configuration import read_configuration
from pytest_cliprobust.targets.naflex import NaFlexPreprocessing
from pytest_cliprobust.targets.preprocessing import OPENAI_MEAN, OPENAI_STD, Preprocessing, triple

#: PIL's numbers for resampling filters, as preprocessor_config.json has them.
_RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}

_CLIP = {
    "resample": 3,
    "do_center_crop": True,
    "image_mean": OPENAI_MEAN,
    "image_std": OPENAI_STD,
    "square": False,
}
_SIGLIP = {
    "resample": 3,
    "do_center_crop": False,
    "image_mean": (0.5,) * 3,
    "image_std": (0.5,) * 3,
    "square": True,
}
_VIT = {**_SIGLIP, "resample": 2}
_EFFICIENTNET = {
    **_SIGLIP,
    "size": {"height": 346, "width": 346},
    "crop_size": {"height": 289, "width": 289},
    "include_top": True,
}

#: Defaults of the processors by class name, without ``ImageProcessor`` and what follows it.
_PROCESSORS: dict[str, dict[str, Any]] = {
    "CLIP": _CLIP,
    "ChineseCLIP": _CLIP,
    "Bit": _CLIP,
    "Siglip": _SIGLIP,
    "Siglip2": _VIT,
    "ViT": _VIT,
    "EfficientNet": _EFFICIENTNET,
}

#: Processor of a model that does not name its own.
_BY_MODEL = {"siglip": "Siglip", "siglip2": "Siglip2", "align": "EfficientNet"}

#: Models whose image tower takes pictures of any size: their processor says which.
_ANY_SIZE = ("align",)

#: Settings that change nothing here: pictures are RGB already, and framed one by one.
_HARMLESS = frozenset(
    {
        *("image_processor_type", "feature_extractor_type", "processor_class", "do_convert_rgb"),
        *("data_format", "input_data_format", "device", "disable_grouping", "return_tensors"),
        *("default_to_square", "auto_map", "_valid_processor_keys", "image_seq_length", "crop_pct"),
        *("do_thumbnail", "pad_size", "size_divisor", "patch_size", "max_num_patches"),
    }
)

_KNOWN = frozenset(
    {
        *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "do_pad"),
        *("rescale_factor", "rescale_offset", "do_normalize", "image_mean", "image_std"),
        "include_top",
    }
)


#: Settings that are true or false, beside those whose name begins with ``do_``.
_SWITCHES = ("rescale_offset", "include_top")


def read_preprocessing(folder: Path, config: Any) -> tuple[Preprocessing, str]:
    """Return the preprocessing that a folder's image processor does, and a note for the report, or "".

    Args:
        folder: with ``preprocessor_config.json``; transformers 5 nests it in ``processor_config.json``.
        config: of the model.

    Raises:
        ClipRobustError: a setting that is not known or cannot be honoured, or pictures of another size
            than the model's, where it takes one alone.
    """
    path, settings = _settings(folder)
    note = "" if settings else "no preprocessor_config.json: took the defaults of "
    defaults = _defaults(settings, config.model_type, path)
    note += f"{defaults['called']}" if note else ""
    given = {key: value for key, value in settings.items() if value is not None}
    _refuse_unknown(given, path)
    _refuse_no_switches(given, path)
    shared = _scaling({**defaults, **given}, path)
    if config.model_type == "siglip2":
        if given.get("do_resize") is False:
            raise ClipRobustError(
                f"{path}: do_resize is false, which is not supported for NaFlex models; set it to true"
            )
        found = _any_shape(given, int(config.vision_config.patch_size), shared, path)
        own = f"NaFlex: photographs keep their shape, at most {found.most_patches} patches each"
        return found, "; ".join(filter(None, [note, own]))
    usual = Preprocessing(**_geometry({**defaults, **given}, config, path), **shared)
    wanted = _model_size(config)
    if usual.size != wanted and config.model_type not in _ANY_SIZE:
        raise ClipRobustError(
            f"{path}: the image processor gives {usual.size} but config.json wants {wanted}; the two "
            "belong to different models"
        )
    return usual, note


def _any_shape(
    given: Mapping[str, Any], patch: int, shared: Mapping[str, Any], path: Path
) -> NaFlexPreprocessing:
    """Return the preprocessing of a NaFlex model, whose patches have ``patch`` pixels a side.

    Raises:
        ClipRobustError: the processor makes other patches.
    """
    most = _whole(given.get("max_num_patches", 256), "max_num_patches", path)
    own = _whole(given.get("patch_size", patch), "patch_size", path)
    if own != patch:
        raise ClipRobustError(
            f"{path}: the image processor makes patches of {own} pixels but config.json wants {patch}; the "
            "two belong to different models"
        )
    edge = math.isqrt(most) * patch
    return NaFlexPreprocessing(
        size=(edge, edge), resize_mode="squash", patch=patch, most_patches=most, **shared
    )


def _settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if path.exists():
            content = read_configuration(path)
            if name == "processor_config.json":
                content = content.get("image_processor") or {}
            if not isinstance(content, dict):
                raise ClipRobustError(f"{path}: image_processor must be an object")
            return path, content
    return folder, {}


def _defaults(settings: Mapping[str, Any], model_type: str, path: Path) -> dict[str, Any]:
    named = settings.get("image_processor_type") or settings.get("feature_extractor_type")
    kind = _BY_MODEL.get(model_type, "CLIP")
    if isinstance(named, str):
        kind = named
        for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
            kind = kind.removesuffix(ending)
    if kind not in _PROCESSORS:
        raise ClipRobustError(
            f"{path}: image processor {named!r:.60} is not supported; known are those of "
            f"{', '.join(_PROCESSORS)}"
        )
    return {**_PROCESSORS[kind], "called": f"{kind}ImageProcessor"}


def _refuse_unknown(settings: Mapping[str, Any], path: Path) -> None:
    """Raise for what is asked for and not done here.

    Raises:
        ClipRobustError: it is named.
    """
    for key, value in settings.items():
        if key not in _KNOWN | _HARMLESS and value not in (False, 0, "", [], {}):
            raise ClipRobustError(
                f"{path}: the image processor's setting {key[:60]!r} ({value!r:.40}) is not supported"
            )
    if settings.get("do_pad") or settings.get("do_thumbnail"):
        raise ClipRobustError(
            f"{path}: do_pad and do_thumbnail are not supported; set them to false"
        )


def _refuse_no_switches(settings: Mapping[str, Any], path: Path) -> None:
    """Raise for a switch that is neither true nor false: ``"false"`` is true to transformers, 0 is not.

    Raises:
        ClipRobustError: it is named.
    """
    for key, value in settings.items():
        if (key.startswith("do_") or key in _SWITCHES) and not isinstance(value, bool):
            raise ClipRobustError(f"{path}: {key} must be true or false, not {value!r:.40}")


def _scaling(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return interpolation, and the mean and deviation for pixels in [0, 1].

    A processor multiplies grey levels (0 to 255) by the factor, may subtract 1, and then normalises.
    """
    resample = settings["resample"]
    if not isinstance(resample, int) or resample not in _RESAMPLE:
        raise ClipRobustError(
            f"{path}: resample {resample!r:.30} in the image processor's configuration is not supported; "
            "known are 0 (nearest), 2 (bilinear) and 3 (bicubic)"
        )
    factor, offset = 1.0, 0.0
    if settings.get("do_rescale", True):
        factor = _number(settings.get("rescale_factor", 1 / 255), "rescale_factor", path)
        offset = 1.0 if settings.get("rescale_offset") else 0.0
    if not factor > 0:
        raise ClipRobustError(f"{path}: rescale_factor must be above 0, not {factor:g}")
    mean, std = (0.0,) * 3, (1.0,) * 3
    if settings.get("do_normalize", True):
        mean = _triple(settings["image_mean"], "image_mean", path)
        std = _triple(settings["image_std"], "image_std", path)
    top = settings.get("include_top")
    again = _triple(settings["image_std"], "image_std", path) if top else (1.0,) * 3
    whole = 255 * factor
    exact = math.isclose(whole, 1.0, rel_tol=1e-9)  # 1/255 as a decimal is not quite
    whole = 1.0 if exact else whole
    return {
        "interpolation": cast("Interpolation", _RESAMPLE[resample]),
        "mean": tuple((m + offset) / whole for m in mean),
        "std": tuple(s * a / whole for s, a in zip(std, again, strict=True)),
    }


def _geometry(settings: Mapping[str, Any], config: Any, path: Path) -> dict[str, Any]:
    """Return the sizes before and after the crop, and how the first is reached."""
    own = _model_size(config)
    if settings.get("do_resize") is False:
        if not settings.get("do_center_crop"):
            raise ClipRobustError(
                f"{path}: do_resize and do_center_crop are false, so that pictures would have to come in "
                "the model's size; set one to true"
            )
        crop = _pair(settings.get("crop_size", own), "crop_size", path)
        return {"size": crop, "resize_mode": "keep", "crop": "floor"}
    size = settings.get("size", None if settings["square"] else own[0])
    shortest, squashed = _edges(size, settings, own, path)
    crop = own
    if settings.get("do_center_crop"):
        crop = _pair(settings.get("crop_size", own), "crop_size", path)
    elif shortest is not None:
        raise ClipRobustError(
            f"{path}: size {size!r:.40} without do_center_crop gives pictures of any shape, and the "
            f"model takes {own}; set do_center_crop, or size to a height and a width"
        )
    if shortest is not None:
        plain = crop[0] == crop[1] == shortest
        return {
            "size": crop,
            "resize_mode": "shortest",
            "resize": None if plain else shortest,
            "crop": "floor",
        }
    assert squashed is not None
    if not settings.get("do_center_crop") or crop == squashed:
        return {"size": squashed, "resize_mode": "squash"}
    return {"size": crop, "resize_mode": "squash", "resize": squashed, "crop": "floor"}


def _edges(
    size: Any, settings: Mapping[str, Any], own: tuple[int, int], path: Path
) -> tuple[int | None, tuple[int, int] | None]:
    """Return the shorter edge after the resize, or (height, width)."""
    if size is None:
        return None, own
    if isinstance(size, Mapping):
        if set(size) == {"shortest_edge"}:
            return _whole(size["shortest_edge"], "size", path), None
        if set(size) == {"height", "width"}:
            return None, _pair(size, "size", path)
        raise ClipRobustError(
            f"{path}: size {dict(size)!r:.60} is not supported; give a shortest_edge, or height and width"
        )
    if isinstance(size, Sequence) and not isinstance(size, str):
        return None, _pair(size, "size", path)
    edge = _whole(size, "size", path)
    return (None, (edge, edge)) if settings["square"] else (edge, None)


def _model_size(config: Any) -> tuple[int, int]:
    return _pair(config.vision_config.image_size, "image_size", Path("config.json"))


def _pair(value: Any, key: str, path: Path) -> tuple[int, int]:
    if isinstance(value, Mapping) and set(value) == {"height", "width"}:
        value = [value["height"], value["width"]]
    if isinstance(value, int):
        value = [value, value]
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ClipRobustError(f"{path}: {key} {value!r:.60} is no height and width")
    return _whole(value[0], key, path), _whole(value[1], key, path)


def _whole(value: Any, key: str, path: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 2**16:
        raise ClipRobustError(f"{path}: {key} must be a whole number above 0, not {value!r:.40}")
    return value


def _number(value: Any, key: str, path: Path) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ClipRobustError(f"{path}: {key} must be a number, not {value!r:.40}")
    return float(value)


def _triple(value: Any, key: str, path: Path) -> tuple[float, float, float]:
    values = [value] if isinstance(value, int | float) else value
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ClipRobustError(f"{path}: {key} must be three numbers, not {value!r:.40}")
    numbers = [_number(number, key, path) for number in values]
    return triple(numbers[0] if len(numbers) == 1 else numbers)
