"""Temperatures from few samples and from other classes, against loops and cases with known answers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy.special import log_softmax

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.samples import SampleArrays, contents_of
from pytest_cliprobust.properties import calibration, scaling
from pytest_cliprobust.properties.calibration import fit_temperature


def drawn(n: int, seed: int, classes: int = 6, sharp: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of which the right temperature is ``sharp``."""
    rng = np.random.default_rng(seed)
    honest = 1.5 * rng.normal(size=(n, classes))
    shares = np.exp(log_softmax(honest, axis=1))
    labels = np.array([rng.choice(classes, p=p) for p in shares])
    return sharp * honest, labels


def samples(name: str, logits: np.ndarray, labels: np.ndarray) -> SampleArrays:
    ids = tuple(f"{name}{i}" for i in range(len(labels)))
    return SampleArrays(Condition(name), ids, labels=labels, logits=logits)


@dataclass(frozen=True)
class Known(SampleArrays):
    """Samples of which it is known what is in them."""

    known: SampleKeys = field(default_factory=lambda: SampleKeys((), ()))

    @property
    def keys(self) -> SampleKeys:
        return self.known


TEST, BANK = drawn(300, 0), drawn(400, 1)


def nll(logits: np.ndarray, labels: np.ndarray, t: float) -> float:
    return float(-log_softmax(logits / t, axis=1)[np.arange(len(labels)), labels].mean())


def test_the_cost_of_few_samples_is_that_of_each_draw() -> None:
    figure = scaling.few_samples_of(samples("t", *TEST), samples("c", *BANK), draws=7)
    rng = np.random.default_rng(0)
    by_id = sorted(range(400), key=str)
    known, answers = BANK[0][by_id], BANK[1][by_id]
    whole = fit_temperature(known, answers).value
    costs, temperatures = [], []
    for _ in range(7):
        rows = rng.choice(400, 50, replace=False)
        t = fit_temperature(known[rows], answers[rows]).value
        temperatures.append(t)
        costs.append(nll(*TEST, t) - nll(*TEST, whole))
    assert figure.value == pytest.approx(np.mean(costs), abs=1e-12)
    details = figure.details
    assert details["worst"] == pytest.approx(max(costs))
    assert details["temperature"] == pytest.approx(whole)
    assert details["temperatures"] == pytest.approx(np.quantile(temperatures, [0.05, 0.5, 0.95]))
    assert (details["few"], details["draws"], details["calibration"]) == (50, 7, 400)
    assert details["gain"] == pytest.approx(nll(*TEST, 1.0) - nll(*TEST, whole))
    better = np.mean([nll(*TEST, t) < nll(*TEST, 1.0) for t in temperatures])
    assert details["better_than_none"] == better
    assert (figure.metric, figure.n, figure.unit) == ("few_sample_cost", 300, "nats")
    assert figure.low < figure.value < figure.high
    assert str(figure.condition) == "t"
    assert figure.outcomes is not None
    assert figure.outcomes.fitted_on == contents_of(samples("c", *BANK))


def test_the_draws_do_not_go_by_the_order_of_rows() -> None:
    plain = scaling.few_samples_of(samples("t", *TEST), samples("c", *BANK), draws=7)
    known, rows = samples("c", *BANK), np.random.default_rng(5).permutation(len(BANK[1]))
    mixed = SampleArrays(
        known.condition,
        tuple(known.ids[row] for row in rows),
        labels=BANK[1][rows],
        logits=BANK[0][rows],
    )
    again = scaling.few_samples_of(samples("t", *TEST), mixed, draws=7)
    assert again.value == pytest.approx(plain.value, abs=1e-9)
    assert again.details["worst"] == pytest.approx(plain.details["worst"], abs=1e-9)


@pytest.mark.slow
def test_few_samples_cost_about_what_theory_says() -> None:
    """An estimate of one parameter from n samples costs about 1 / 2n nats, where the model is right."""
    test, bank = drawn(4000, 2), drawn(4000, 3)
    for few in (100, 300):
        figure = scaling.few_samples_figure(*test, *bank, few=few, draws=200)
        assert figure.value == pytest.approx(0.5 / few, rel=0.5)


def test_few_needs_more_and_apart() -> None:
    with pytest.raises(NotRun, match="from 50 samples needs a calibration split of more"):
        scaling.few_samples_figure(*TEST, BANK[0][:50], BANK[1][:50])
    more = scaling.few_samples_figure(*TEST, BANK[0][:51], BANK[1][:51], draws=2)
    assert more.details["calibration"] == 51
    one = samples("t", *TEST)
    for function in (scaling.few_samples_of, scaling.label_sets_of):
        with pytest.raises(
            ClipRobustError, match=r"300 samples \(such as 't0'\) are in the calibration split"
        ):
            function(one, one)


def test_pictures_of_one_name_in_two_folders_are_no_shared_samples() -> None:
    """As cat/1.jpg is in the folder that is measured and in the one held out."""
    ids = tuple(f"cat/{n}.jpg" for n in range(60))

    def of(folder: str, seed: int) -> Known:
        digests = tuple(f"{folder} {name}" for name in ids)
        keys = SampleKeys(ids, ids, digests)
        logits, labels = drawn(60, seed)
        return Known(Condition(folder), ids, labels, logits, known=keys)

    clean, held_out = of("photos", 7), of("held-out", 8)
    assert scaling.few_samples_of(clean, held_out).n == 60
    assert len(scaling.label_sets_of(clean, held_out)) == 2
    fitted = calibration.fitted_temperature(held_out)
    assert calibration.calibration_of(clean, fitted)["ece_scaled"].n == 60
    for judge in (scaling.few_samples_of, scaling.label_sets_of):
        with pytest.raises(ClipRobustError, match="60 samples"):
            judge(clean, of("photos", 7))
    with pytest.raises(ClipRobustError, match=r"60 samples .* were used to fit"):
        calibration.calibration_of(held_out, fitted)


def test_the_cost_of_other_classes_by_loops() -> None:
    figures = scaling.label_sets_of(samples("t", *TEST), samples("c", *BANK))
    for figure, rest in zip(figures, (0, 1), strict=True):
        own, other = [c for c in range(6) if c % 2 == rest], [c for c in range(6) if c % 2 != rest]

        def among(
            data: tuple[np.ndarray, np.ndarray], classes: list[int]
        ) -> tuple[np.ndarray, np.ndarray]:
            rows = np.isin(data[1], classes)
            return data[0][rows][:, classes], np.array([classes.index(y) for y in data[1][rows]])

        judged = among(TEST, own)
        mine = fit_temperature(*among(BANK, own)).value
        theirs = fit_temperature(*among(BANK, other)).value
        want = nll(*judged, theirs) - nll(*judged, mine)
        assert figure.value == pytest.approx(want, abs=1e-12)
        assert figure.n == len(judged[1])
        assert figure.details["temperature_of_others"] == pytest.approx(theirs)
        assert figure.details["temperature"] == pytest.approx(mine)
        assert figure.details["gain"] == pytest.approx(nll(*judged, 1.0) - nll(*judged, mine))
        assert (figure.details["classes"], figure.unit) == (3, "nats")
        assert figure.outcomes is not None
        assert figure.outcomes.fitted_on == contents_of(samples("c", *BANK))
    names = [figure.condition.dataset for figure in figures if figure.condition]
    assert names == ["t:even_classes", "t:odd_classes"]


def test_classes_of_another_sharpness_cost() -> None:
    logits, labels = drawn(3000, 4, sharp=1.0)
    bank, answers = drawn(3000, 5, sharp=1.0)
    bank[np.ix_(np.isin(answers, [1, 3, 5]), np.arange(6) % 2 == 1)] *= 4.0
    even = scaling.label_set_figure(logits, labels, bank, answers, [0, 2, 4])
    assert even.details["temperature"] == pytest.approx(1.0, rel=0.1)
    assert even.details["temperature_of_others"] == pytest.approx(4.0, rel=0.1)
    assert even.low > 0.1


def test_label_sets_need_two_classes_on_either_side() -> None:
    logits, labels = drawn(30, 6, classes=3)
    with pytest.raises(NotRun, match="two classes and more on either side"):
        scaling.label_set_figure(logits, labels, logits, labels, [0, 2])
    logits, labels = drawn(30, 6, classes=4)
    assert scaling.label_set_figure(logits, labels, logits, labels, [0, 2]).n < 30
    even, odd = np.flatnonzero(labels % 2 == 0), np.flatnonzero(labels % 2 == 1)
    for judged, known, classes in (
        (slice(None), slice(1), [0, 2]),
        (slice(None), even, [0, 2]),  # none of the others to fit on
        (slice(None), odd, [0, 2]),  # none of the own
        (odd, slice(None), [0, 2]),  # none to judge
        (slice(None), slice(None), [0]),
        (slice(None), slice(None), [0, 1, 3]),
    ):
        with pytest.raises(NotRun, match="two classes and more on either side"):
            scaling.label_set_figure(
                *(logits[judged], labels[judged], logits[known], labels[known], classes)
            )
