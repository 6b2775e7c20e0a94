"""Depth estimators of transformers from a folder, with the checks that models under test go through.

A folder comes from anywhere: its configuration is looked at before anything is built, its weights are read as
tensors (:mod:`pytest_cliprobust.targets.checkpoint`), and no name in it makes transformers ask the network or
run code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_cliprobust.datasets.depth.base import Kind
from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.targets.checkpoint import (
    check_size,
    check_types,
    lacks_weights,
    read_checkpoint,
    weights_in,
)
from pytest_cliprobust.targets.configuration import (
    check_values,
    plain_transformers,
    read_configuration,
)
from pytest_cliprobust.targets.preprocessing import MAX_SIZE
from pytest_cliprobust.targets.transformers_target import WEIGHT_NAMES, quiet

#: What transformers' depth models give, by model_type.
ESTIMATORS: dict[str, Kind] = {
    "dpt": "inverse",
    "depth_anything": "inverse",
    "zoedepth": "metric",
    "glpn": "metric",
    "depth_pro": "metric",
}

#: Kinds of backbones that timm makes, some of whose names are the network's.
_ELSEWHERE = ("timm_backbone", "timm_wrapper")


def read_estimator(name: str, folder: Path) -> tuple[dict[str, Any], Kind]:
    """Return the configuration of an estimator, without what chooses code, and what its maps are.

    Args:
        name: as the user wrote it.
        folder: of transformers.

    Raises:
        ClipRobustError: it is none, or of a kind that is not known to give depth, or out of bounds.
    """
    path = folder / "config.json"
    config = plain_transformers(read_configuration(path), path)
    model_type = config.get("model_type")
    if model_type not in ESTIMATORS:
        raise ClipRobustError(
            f"depth estimator {name!r} is a model of type {model_type!r:.60}; known to give depth are "
            f"{', '.join(ESTIMATORS)}"
        )
    _check_backbone(config, path)
    metric = config.get("depth_estimation_type") == "metric"
    return config, "metric" if metric else ESTIMATORS[model_type]


def _check_backbone(config: Mapping[str, Any], path: Path) -> None:
    """Raise for a backbone by name, for which transformers asks the network."""
    named = None if config.get("backbone_config") else config.get("backbone")
    if named or config.get("model_type") in _ELSEWHERE:
        raise ClipRobustError(
            f"{path}: its backbone ({named or config['model_type']!r:.60}) does not lie in the folder; save "
            "the model with its backbone_config"
        )
    for value in config.values():
        if isinstance(value, Mapping):
            _check_backbone(value, path)


def load_estimator(name: str, folder: Path, config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return model and image processor of an estimator.

    Args:
        name, folder: as for :func:`read_estimator`.
        config: what that returned.

    Raises:
        ClipRobustError: weights or processor are missing, damaged, or do not fit.
    """
    _check_processor(folder)
    path = weights_in(folder, WEIGHT_NAMES)
    if path is None:
        raise ClipRobustError(f"depth estimator {name!r}: {lacks_weights(folder, WEIGHT_NAMES[0])}")
    state = read_checkpoint(path).state
    try:
        import transformers

        with quiet():
            processor = transformers.AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            built = transformers.AutoConfig.for_model(**config)
            check_values(built.to_dict(), folder / "config.json")
            kind = transformers.AutoModelForDepthEstimation._model_mapping[type(built)]
            check_size(lambda: kind(built), state, str(path), kind.__name__)
            model, found = kind.from_pretrained(
                None, config=built, state_dict=dict(state), output_loading_info=True
            )
            check_types(model.state_dict(), state, str(path))
    except ClipRobustError:
        raise
    except Exception as error:  # OSError, KeyError, RuntimeError: whatever a file causes
        raise ClipRobustError(
            f"depth estimator {name!r} cannot be loaded from {str(folder)!r} ({brief(error)}); "
            "copy or download it again"
        ) from None
    if found["missing_keys"]:
        first = sorted(found["missing_keys"])[0]
        raise ClipRobustError(
            f"depth estimator {name!r}: {len(found['missing_keys'])} tensors are missing in "
            f"{str(folder)!r} (first: {first}); copy or download it again"
        )
    return model.float().eval().requires_grad_(False), processor


def _check_processor(folder: Path) -> None:
    """Look at the image processor's configuration, before a number in it asks for too large a picture.

    Raises:
        ClipRobustError: there is none, or it is out of bounds.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if path.exists():
            _check_numbers(read_configuration(path), path)
            return
    raise ClipRobustError(f"folder {folder} has no preprocessor_config.json; copy it there, too")


def _check_numbers(settings: Mapping[str, Any], path: Path) -> None:
    for key, value in settings.items():
        if key == "auto_map" and value:
            raise ClipRobustError(
                f"{path}: it brings code of its own (auto_map), which is never run"
            )
        if isinstance(value, Mapping):
            _check_numbers(value, path)
            continue
        # transformers also takes a size as a list of two.
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, int | float) and number > MAX_SIZE for number in numbers):
            raise ClipRobustError(
                f"{path}: {key[:60]!r} is {value!r:.30}; pictures of more than {MAX_SIZE} pixels are not made"
            )
