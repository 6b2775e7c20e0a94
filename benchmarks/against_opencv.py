"""Our perturbations against OpenCV's functions at the same parameters, on one core, in one run.

``taskset -c 0 python benchmarks/against_opencv.py`` prints a table in Markdown. 224 × 224, severity 3. OpenCV
works on single pictures of bytes, ours on float batches of 16; both with one thread. The calls take turns,
and the least processor time of each counts, so that other work on the machine matters little.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch

from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.perturbations import registry

BATCH = 16
SEVERITY = 3
ROUNDS = 9

Pixels = np.ndarray[Any, Any]


def parameters(name: str) -> dict[str, float]:
    """Return the published parameters of severity 3."""
    return dict(registry.get(name).parameters(SEVERITY))


def gaussian_blur(picture: Pixels) -> Pixels:
    """Blur with OpenCV's Gaussian of the same width."""
    sigma = parameters("gaussian_blur")["sigma"]
    size = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(picture, (size, size), sigma)


def contrast(picture: Pixels) -> Pixels:
    """Scale about each channel's mean by a look-up table."""
    gain = parameters("contrast")["gain"]
    mean = np.array(cv2.mean(picture)[:3])
    table = np.clip(mean * (1 - gain) + np.arange(256)[:, None] * gain, 0, 255)
    return cv2.LUT(picture, table.astype(np.uint8)[None])


def pixelate(picture: Pixels) -> Pixels:
    """Shrink by area and enlarge by the nearest pixel."""
    share = parameters("pixelate")["share"]
    small = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, picture.shape[:2], interpolation=cv2.INTER_NEAREST)


def jpeg_compression(picture: Pixels) -> Pixels:
    """Encode and decode with libjpeg-turbo."""
    quality = int(parameters("jpeg_compression")["quality"])
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)


def zoom_blur(picture: Pixels) -> Pixels:
    """Mean of the picture and of its middle, enlarged by each published zoom (1 to 1.2 by 0.02)."""
    side = picture.shape[0]
    whole = picture.astype(np.float32)
    zooms = np.arange(1, 1.21, 0.02)
    for zoom in zooms:
        size = math.ceil(side / zoom)
        top = (side - size) // 2
        part = picture[top : top + size, top : top + size]
        cv2.accumulate(cv2.resize(part, (side, side)), whole)
    return whole / (len(zooms) + 1)


def brightness(picture: Pixels) -> Pixels:
    """Raise the value of HSV."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    lift = round(255 * parameters("brightness")["lift"])
    hsv = cv2.add(hsv, (0, 0, lift, 0))
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def gaussian_noise(picture: Pixels) -> Pixels:
    """Add OpenCV's normal numbers."""
    deviation = 255 * parameters("gaussian_noise")["deviation"]
    noise = np.empty(picture.shape, np.int16)
    cv2.randn(noise, 0, deviation)
    return cv2.add(picture, noise, dtype=cv2.CV_8U)


def iso_noise(picture: Pixels) -> Pixels:
    """Count photons with NumPy (OpenCV draws none), and add OpenCV's normal numbers."""
    counted = np.random.default_rng().poisson(picture * (25 / 255)) * (255 / 25)
    noise = np.empty(picture.shape, np.float32)
    cv2.randn(noise, 0, 255 * parameters("iso_noise")["deviation"])
    return np.clip(counted + noise, 0, 255).astype(np.uint8)


THEIRS: dict[str, Callable[[Pixels], Pixels]] = {
    f.__name__: f
    for f in (
        gaussian_noise,
        gaussian_blur,
        zoom_blur,
        brightness,
        contrast,
        pixelate,
        jpeg_compression,
        iso_noise,
    )
}


def least(calls: dict[Any, Callable[[], Any]]) -> dict[Any, float]:
    """Return the least processor seconds of each call; they take turns."""
    found = dict.fromkeys(calls, math.inf)
    for turn in range(ROUNDS + 1):
        for key, call in calls.items():
            start = time.process_time()
            call()
            if turn:  # the first warms up
                found[key] = min(found[key], time.process_time() - start)
    return found


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    loaded = load_dataset("clean", profile="quick").load(range(0, 10 * BATCH, 10))
    images, seeds = loaded.images / 255, torch.arange(BATCH) * 104729 + 11
    pictures = [p.permute(1, 2, 0).round().byte().contiguous().numpy() for p in loaded.images]
    calls: dict[Any, Callable[[], Any]] = {}
    for name, function in THEIRS.items():
        calls[name, "ours"] = lambda name=name: registry.get(name)(images, SEVERITY, seeds=seeds)
        calls[name, "theirs"] = lambda function=function: [function(p) for p in pictures]
    found = least(calls)
    print(
        "| perturbation | ours, ms an image | OpenCV, ms | ours / theirs |\n| --- | ---: | ---: | ---: |"
    )
    for name in THEIRS:
        ours, theirs = (found[name, who] / BATCH * 1e3 for who in ("ours", "theirs"))
        print(f"| `{name}` | {ours:.2f} | {theirs:.2f} | {ours / theirs:.1f} |")


if __name__ == "__main__":
    main()
