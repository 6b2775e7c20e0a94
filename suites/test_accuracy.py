"""Zero-shot accuracy: on the clean set, per drawing style, and under the natural shift of clip art."""

from __future__ import annotations

import pytest

from pytest_cliprobust.properties import accuracy, labels


def test_clean(clip, check):
    data = clip.dataset("clean")
    correct = clip.correct(data)
    check(accuracy.accuracy_figure(correct, bootstrap=clip.resampling(data)), dataset="clean")
    if "style" in data.groups:
        by_style = accuracy.accuracy_by_group(correct, data.groups["style"])
        for style, figure in by_style.items():
            check(figure, dataset=f"clean:{style}")


def test_labels(clip, check):
    """No two classes have each other's text: class names and folders belong together."""
    data = clip.dataset("clean")
    check(labels.swapped_labels_figure(clip.logits(data), clip.labels(data), data.class_names))


@pytest.mark.usefixtures("needs_embedded")
def test_natural_shift(clip, check):
    data = clip.dataset("clipart")
    check(
        accuracy.accuracy_figure(clip.correct(data), bootstrap=clip.resampling(data)),
        dataset="clipart",
    )
