"""Our perturbations against OpenCV's functions and albumentations' at the same parameters, on one core.

``taskset -c 0 python benchmarks/against_opencv.py`` prints a table in Markdown. 224 × 224, severity 3. OpenCV
and albumentations work on single pictures of bytes, ours on float batches of 16; all with one thread. The
calls take turns, and the least processor time of each counts, so that other work on the machine matters
little. Without albumentations (2.0.8, the last one under the MIT licence) its column is left out.
"""

from __future__ import annotations

import importlib
import importlib.util
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


def glass_blur(picture: Pixels) -> Pixels:
    """Blur, take each pixel from a random near one, round by round, and blur again.

    By maps of whole pixels: all move at once, and not one after the other as in the published loop.
    """
    given = parameters("glass_blur")
    reach, size = int(given["reach"]), 2 * int(4 * given["sigma"] + 0.5) + 1
    height, width = picture.shape[:2]
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height))
    moved = cv2.GaussianBlur(picture, (size, size), given["sigma"])
    offsets = np.empty((height, width, 2), np.int16)
    for _ in range(int(given["rounds"])):
        cv2.randu(offsets, -reach, reach)
        right, down = cv2.split(offsets)
        where = cv2.add(columns, right, dtype=cv2.CV_32F)
        height_of = cv2.add(rows.astype(np.float32), down, dtype=cv2.CV_32F)
        moved = cv2.remap(
            moved, where, height_of, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
        )
    return cv2.GaussianBlur(moved, (size, size), given["sigma"])


def snow(picture: Pixels) -> Pixels:
    """Enlarge noise, cut it off, blur it along a line, and lay it over the whitened picture."""
    given = parameters("snow")
    height, width = picture.shape[:2]
    flakes = np.empty(
        (math.ceil(height / given["zoom"]), math.ceil(width / given["zoom"])), np.float32
    )
    cv2.randn(flakes, given["mean"], given["deviation"])
    flakes = cv2.resize(flakes, (width, height), interpolation=cv2.INTER_LINEAR)
    flakes = cv2.threshold(flakes, given["threshold"], 0, cv2.THRESH_TOZERO)[1]
    flakes = cv2.filter2D(cv2.min(flakes, 1.0), -1, falling(given["radius"], given["sigma"]))
    flakes = cv2.add(flakes, cv2.rotate(flakes, cv2.ROTATE_180))
    grey = cv2.addWeighted(
        cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 1.5, picture[..., 0], 0, 127.5
    )
    white = cv2.max(picture, cv2.merge([grey] * 3))
    whole = cv2.addWeighted(picture, given["keep"], white, 1 - given["keep"], 0)
    layer = cv2.convertScaleAbs(flakes, alpha=255)
    return cv2.add(whole, cv2.merge([layer] * 3))


def falling(radius: float, sigma: float) -> Pixels:
    """Return a kernel that fades along a line from its middle, straight down to the left."""
    size = 2 * int(radius) + 1
    kernel = np.zeros((size, size), np.float32)
    for step in range(int(radius) + 1):
        kernel[int(radius) + step, int(radius) - step] = math.exp(-0.5 * (step / sigma) ** 2)
    return kernel / kernel.sum()


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
        snow,
        glass_blur,
    )
}


def of_albumentations() -> dict[str, Callable[[Pixels], Pixels]]:
    """Return its transforms that do the same at the same parameters, by our names; none without it.

    Left out is what has the name alone: its brightness adds to each channel, its contrast scales from black,
    ISO noise and snow are other formulas. Its fast glass blur moves all pixels at once.
    """
    if importlib.util.find_spec("albumentations") is None:
        return {}
    made: Any = importlib.import_module("albumentations")
    at = {name: parameters(name) for name in registry.names()}
    size = 2 * int(4 * at["gaussian_blur"]["sigma"] + 0.5) + 1
    zoom, glass, lens = at["zoom_blur"], at["glass_blur"], at["defocus_blur"]
    step = (zoom["zoom"] - 1) / (zoom["layers"] - 1)
    quality = int(at["jpeg_compression"]["quality"])
    corner = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_NEAREST}
    transforms = {
        "gaussian_noise": made.GaussNoise(std_range=(at["gaussian_noise"]["deviation"],) * 2, p=1),
        "gaussian_blur": made.GaussianBlur((size, size), (at["gaussian_blur"]["sigma"],) * 2, p=1),
        "zoom_blur": made.ZoomBlur((zoom["zoom"] + step / 2,) * 2, (step, step), p=1),
        "pixelate": made.Downscale((at["pixelate"]["share"],) * 2, corner, p=1),
        "jpeg_compression": made.ImageCompression("jpeg", (quality, quality), p=1),
        "glass_blur": made.GlassBlur(
            glass["sigma"], int(glass["reach"]), int(glass["rounds"]), p=1
        ),
        "defocus_blur": made.Defocus((int(lens["radius"]),) * 2, (lens["softness"],) * 2, p=1),
    }

    def call(transform: Any) -> Callable[[Pixels], Pixels]:
        return lambda picture: transform(image=picture)["image"]

    return {name: call(transform) for name, transform in transforms.items()}


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
    others = {"OpenCV": THEIRS, "albumentations": of_albumentations()}
    names = list(dict.fromkeys(name for theirs in others.values() for name in theirs))
    calls: dict[Any, Callable[[], Any]] = {}
    for name in names:
        calls[name, ""] = lambda name=name: registry.get(name)(images, SEVERITY, seeds=seeds)
        for who, theirs in others.items():
            if name in theirs:
                calls[name, who] = lambda f=theirs[name]: [f(p) for p in pictures]
    found = {key: seconds / BATCH * 1e3 for key, seconds in least(calls).items()}
    shown = [who for who, theirs in others.items() if theirs]
    heads = [head for who in shown for head in (f"{who}, ms", "ours / theirs")]
    print("| perturbation | ours, ms an image |", " | ".join(heads), "|")
    print("| --- | ---: |", " | ".join(["---:"] * len(heads)), "|")
    for name in names:
        cells = [f"`{name}`", f"{found[name, '']:.2f}"]
        for who in shown:
            time_of = found.get((name, who))
            ratio = None if time_of is None else found[name, ""] / time_of
            cells += ["", ""] if ratio is None else [f"{time_of:.2f}", f"{ratio:.1f}"]
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
