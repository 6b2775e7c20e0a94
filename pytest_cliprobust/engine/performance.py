"""What a model costs: passes over pictures, to be timed by whoever has a clock, and the memory of one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from pytest_cliprobust.datasets.framing import keeps_shapes, load_squeezed
from pytest_cliprobust.engine.encoding import to_float
from pytest_cliprobust.engine.view import View
from pytest_cliprobust.errors import NotRun
from pytest_cliprobust.targets.base import Target

#: What torch calls the CPU in the events of its profiler.
_CPU = 0


class Passes:
    """Forward passes of a model's image encoder over the pictures of a view.

    The pictures lie on the model's device, preprocessed; a call is one pass, and returns when it is done.

    Attributes:
        target: the model.
        view: the N pictures.

    Args:
        target: as above.
        view: as above; its features are not looked at.
    """

    def __init__(self, target: Target, view: View) -> None:
        self.target, self.view = target, view
        data, rows = view.data, range(len(view))
        if keeps_shapes(data):
            images = load_squeezed(data, rows, target.image_size)
        else:
            images = data.load(rows).images
        with torch.inference_mode():
            self._pixels = target.preprocess(to_float(images.to(target.device)))

    def __call__(self) -> None:
        """Encode the pictures, and wait for the device."""
        with torch.inference_mode():
            self.target.encode_image(self._pixels)
        if self.target.device.type != "cpu":
            torch.accelerator.synchronize(self.target.device)

    def peak_memory(self) -> int:
        """Return the bytes of the model's weights and of the most that a pass holds beside them.

        Raises:
            NotRun: the memory is not torch's to count (a graph of ONNX), or the device does not tell.
        """
        weights = weights_of(self.target)
        if not weights:
            raise NotRun(
                f"needs models whose memory torch allocates: {self.target.info.name!r} has no weights in it"
            )
        self()  # what is allocated once, at the first pass, is none of a pass
        return weights + allocated_by(self, self.target.device)


def weights_of(target: Target) -> int:
    """Return the bytes of a target's parameters and buffers, each storage once; 0 where it has no module."""
    sizes = {}
    for module in _modules(target):
        for tensor in (*module.parameters(), *module.buffers()):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


def _modules(target: Target) -> Iterator[nn.Module]:
    """Yield the modules of a target, of the parent that a twin calls, and of an encoder of the user's."""
    for owner in (target, getattr(target, "parent", None), getattr(target, "encoder", None)):
        held: Any = getattr(owner, "__dict__", {})
        yield from (one for one in (owner, *held.values()) if isinstance(one, nn.Module))


def allocated_by(work: Callable[[], None], device: torch.device) -> int:
    """Return the most bytes that torch has allocated for ``work`` at one time, beyond what was there before.

    On the CPU they are counted from the profiler's record of every allocation, so that nothing hangs on what
    the process did before; an accelerator's allocator counts them itself.

    Raises:
        NotRun: a device whose allocator does not count.
    """
    if device.type == "cpu":
        return _recorded(work)
    module: Any = torch.get_device_module(device)
    if not hasattr(module, "max_memory_allocated"):
        raise NotRun(f"needs a device that counts what it allocates: {device.type} does not")
    module.reset_peak_memory_stats(device)
    before = int(module.memory_allocated(device))
    work()
    return int(module.max_memory_allocated(device)) - before


def _recorded(work: Callable[[], None]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    with TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        record.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    steps = [event for event in events if event.get("name") == "[memory]"]
    steps = [event for event in steps if event["args"]["Device Type"] == _CPU]
    changes = [event["args"]["Bytes"] for event in sorted(steps, key=lambda event: event["ts"])]
    return int(np.cumsum([0, *changes]).max())
