"""What is given to a property in place of samples is one line, whichever property it is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pytest_cliprobust.properties
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.taken import is_samples, takes_samples
from pytest_cliprobust.properties import accuracy, corruption, multimodal, prompts

WORDS = r"\b(Samples|Embedded|Captioned|TaskSamples|Pairs)\b"


def _functions() -> Iterator[Any]:
    """Yield (function, argument, whether it takes several) of all public properties that take samples."""
    for found in pkgutil.iter_modules(pytest_cliprobust.properties.__path__):
        module = importlib.import_module(f"{pytest_cliprobust.properties.__name__}.{found.name}")
        for name, function in vars(module).items():
            own = inspect.isfunction(function) and function.__module__ == module.__name__
            if not own or name.startswith("_"):
                continue
            for argument, told in function.__annotations__.items():
                if argument != "return" and re.search(WORDS, told) and "Callable" not in told:
                    several = "Sequence" in told or "Iterable" in told
                    yield pytest.param(function, argument, several, id=f"{found.name}.{name}")


FUNCTIONS = list(_functions())


def test_there_are_as_many_as_there_were() -> None:
    assert len(FUNCTIONS) > 70


@pytest.mark.parametrize("wrong", ["clean", None, ["clean"], 3, np.zeros(3), Path("x")])
@pytest.mark.parametrize(("function", "argument", "several"), FUNCTIONS)
def test_whatever_is_no_samples_is_one_line(
    function: Callable[..., Any], argument: str, several: bool, wrong: Any
) -> None:
    if several and isinstance(wrong, list):
        wrong = [("one", "clean")] if "tuple" in function.__annotations__[argument] else wrong
    elif several and not isinstance(wrong, str) and wrong is not None:
        pytest.skip("whatever may be iterated over is taken")
    if "None" in function.__annotations__[argument] and wrong is None:
        pytest.skip("it may be None")
    samples = SimpleNamespace(condition="c", correct=())
    given = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is inspect.Parameter.empty:
            several_here = re.match("Sequence|Iterable", function.__annotations__[name])
            given[name] = [samples] if several_here else samples
    with pytest.raises(ClipRobustError) as error:
        function(**{**given, argument: wrong})
    told = str(error.value)
    assert told.startswith(f"{function.__name__} takes ")
    assert 'clip.on("clean")' in told
    assert "\n" not in told


def test_what_is_said() -> None:
    with pytest.raises(ClipRobustError) as error:
        accuracy.accuracy_of("far_ood")  # type: ignore[arg-type]
    assert str(error.value) == (
        "accuracy_of takes samples, which a test has from clip.on, not 'far_ood': "
        'accuracy_of(clip.on("far_ood"))'
    )
    figure = Figure("accuracy", 0.5, 0.4, 0.6, 10)
    given: Any = figure
    with pytest.raises(ClipRobustError, match=r"not Figure\("):
        accuracy.accuracy_of(given)
    samples: Any = SimpleNamespace(condition="c", correct=())
    with pytest.raises(ClipRobustError, match=r"takes several samples as corrupted, a list"):
        corruption.corruption_of(samples, samples)
    with pytest.raises(ClipRobustError, match=r'not None: prompts_of\(clip.on\("clean"\)\)'):
        prompts.prompts_of(samples, [("a", None)])  # type: ignore[list-item]


def test_samples_pass_and_nothing_of_them_is_computed() -> None:
    class Lazy:
        condition = "c"

        @property
        def correct(self) -> Any:
            raise AssertionError("computed")

    assert is_samples(Lazy())
    assert not is_samples("clean")
    taken: list[Any] = []

    @takes_samples
    def keep(samples: Samples, more: Samples | None = None) -> None:  # type: ignore[name-defined]  # noqa: F821
        taken.append((samples, more))

    one = Lazy()
    keep(one)
    keep(one, None)
    keep(one, more=one)
    assert taken == [(one, None), (one, None), (one, one)]
    with pytest.raises(TypeError, match="takes no samples"):

        @takes_samples
        def none(values: list[int]) -> None: ...

    # Samples, or nothing at all, stand as they are where either may; what else is given is refused.
    with pytest.raises(ClipRobustError, match=r"^keep takes samples"):
        keep(one, "clean")
    assert multimodal.hard_choices.__doc__  # documentation and names are the function's own
    assert str(inspect.signature(accuracy.accuracy_of)) == "(samples: 'Samples') -> 'Figure'"


@pytest.mark.parametrize("place", ["first", "second"])
def test_several_samples_are_checked_wherever_they_stand_in_the_arguments(place: str) -> None:
    taken: list[Any] = []

    def first(views: Sequence[Samples], limit: int = 3) -> None:  # type: ignore[name-defined]  # noqa: F821
        taken.append(views)

    def second(limit: int, views: Sequence[tuple[str, Samples]]) -> None:  # type: ignore[name-defined]  # noqa: F821
        taken.append(views)

    one = SimpleNamespace(condition="c", correct=())
    function: Any = takes_samples(first if place == "first" else second)
    entry, wrong = (one, "clean") if place == "first" else (("a", one), ("b", "clean"))
    for good in ([], [entry], (entry, entry), iter([entry])):
        function(*((good,) if place == "first" else (3, good)))
    assert len(taken) == 4
    # The second of a list is looked at as the first is.
    with pytest.raises(ClipRobustError, match=f"^{place} takes samples, .* not 'clean'"):
        function(*(([entry, wrong],) if place == "first" else (3, [entry, wrong])))
    for none in (None, "clean", one):
        with pytest.raises(ClipRobustError, match=f"^{place} takes several samples as views"):
            function(*((none,) if place == "first" else (3, none)))
    assert len(taken) == 4
