"""The evaluation sets of the field that lie on the model hub as shards. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: Repositories by role. Those of DataComp's tasks, and CLIP_benchmark's for captions.
FIELD: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "clean": ("djghosh/wds_imagenet1k_test",),
        "shift": (
            "djghosh/wds_imagenetv2_test",
            "djghosh/wds_imagenet_sketch_test",
            "djghosh/wds_imagenet-a_test",
            "djghosh/wds_imagenet-r_test",
        ),
        "near_ood": ("djghosh/wds_imagenet-o_test",),
        "far_ood": ("djghosh/wds_vtab-dtd_test",),
        "retrieval": ("clip-benchmark/wds_flickr30k", "clip-benchmark/wds_mscoco_captions"),
    }
)
