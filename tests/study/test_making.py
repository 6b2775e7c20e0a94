"""The study as a whole: properties, notes, claims, and the files that are written."""

from __future__ import annotations

import csv
import html
import io
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from history_helpers import KEYS, answers, kept
from history_helpers import a_run as kept_run
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from study_helpers import ACCURACY, BASE, FLEET, a_figure, a_run

from pytest_cliprobust.figures.bootstrap import Bootstrap, proportion_figure
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.results.earlier import Earlier
from pytest_cliprobust.results.run import Run
from pytest_cliprobust.study import plots
from pytest_cliprobust.study.cards import Card
from pytest_cliprobust.study.claims import Word
from pytest_cliprobust.study.gather import gathered
from pytest_cliprobust.study.making import Study, group_lines, main_prompts, study_of
from pytest_cliprobust.study.page import page_of
from pytest_cliprobust.study.plots import PANELS, chosen, chosen_for_forest, plots_of
from pytest_cliprobust.study.tables import tables_of

FOG = "corruption_3d/accuracy/clean/fog_3d"
DROP = "corruption_3d/relative_corruption_drop/clean/all_3d"
SHAPE = "shape_bias/shape_bias/cue/clean"
AUROC = "ood/auroc_mcm/near/clean"
ECE, ECE_FOG = "calibration/ece_scaled/clean/clean", "calibration/ece_scaled/clean/fog_3d"

#: ID accuracy of the fleet, in logits.
LOGITS = dict(zip(FLEET, (0.0, 0.1, -0.1, 1.0, -0.5, 0.3, 0.2, 0.6), strict=True))


def fleet(**changes: dict[str, float]) -> Earlier:
    """Return a run of the fleet, in which properties follow accuracy but for ``changes``."""
    values = {}
    for name, place in LOGITS.items():
        values[name] = {
            ACCURACY: float(expit(place)),
            FOG: float(expit(0.5 * place - 1.0)),
            DROP: 0.4 + 0.01 * place,
            SHAPE: float(expit(0.2 * place)),
            AUROC: float(expit(place + 0.5)),
            ECE: 0.05,
            ECE_FOG: 0.06 + 0.001 * place,
        } | changes.get(name, {})
    return a_run(values, FLEET)


def word(study: Study, start: str) -> str:
    """Return the word on the claim that begins so."""
    (found,) = (claim for claim in study.claims if claim.sentence.startswith(start))
    return found.word


def test_a_property_that_follows_accuracy_has_its_line() -> None:
    study = study_of([fleet()])
    fog = next(item for item in study.properties if item.key == FOG)
    assert fog.line is not None
    assert fog.line.slope == pytest.approx(0.5)
    assert fog.line.intercept == pytest.approx(-1.0)
    accuracy = next(item for item in study.properties if item.key == ACCURACY)
    assert accuracy.line is None
    assert accuracy.regression is not None
    vit = accuracy.regression.effects[0]
    assert vit.value == pytest.approx(1.0)
    assert accuracy.change(vit)[0] == pytest.approx(expit(1.0) - 0.5)
    assert accuracy.spread.value == pytest.approx(0.1)


def test_single_severities_and_parts_of_data_are_no_headlines() -> None:
    item = study_of([fleet()]).properties[0]
    for condition, headline in (
        (Condition("clean"), True),
        (Condition("clean", (Step("fog_3d", 3),)), False),
        (Condition("clean").part("noto"), False),
        (Condition("clean", (Step("fog_3d", 3),)).part("noto"), False),
    ):
        sample = Measurement("accuracy", "m", a_figure("accuracy", 0.5, condition))
        assert replace(item, sample=sample).is_headline is headline


def test_lines_of_levels_that_four_models_have() -> None:
    cards = [Card(architecture=a, loss="softmax") for a in ("ViT",) * 4 + ("ResNet",) * 3 + ("",)]
    x = np.arange(8.0)
    made = group_lines(cards, x, 2 * x, 0.95)
    # All models have the loss: its line is that of all of them.
    assert {key: line.n for key, line in made.items()} == {("architecture", "ViT"): 4}
    lacking = np.where(x == 2, np.nan, 2 * x)
    assert group_lines(cards, x, lacking, 0.95).keys() == {("loss", "softmax")}


def noted(count: int, **facts: str) -> str:
    """Return the notes on models of one kind and as many others, which lack these facts."""
    tags = {f"m{i}": BASE | facts for i in range(count)} | {"z": BASE, "y": BASE | {"seed": "1"}}
    return " | ".join(study_of([a_run({name: {ACCURACY: 0.5} for name in tags}, tags)]).notes)


def test_few_models_that_lack_a_fact_are_named() -> None:
    assert "not known of m0, m1, m2, m3, m4: give it with" in noted(5, loss="")
    assert "not known of m0, m1, m2, m3, m4 and others: give it" in noted(6, loss="")
    assert "no factor varies: no effects can be told" in noted(1)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (0, "as many factors as models: effects have no intervals"),
        (1, "left for the spread between trainings: 1."),
        (4, "left for the spread between trainings: 4."),
        (5, ""),
    ],
)
def test_how_far_models_can_tell_effects(more: int, words: str) -> None:
    tags = {"vit": BASE | {"architecture": "ViT"}} | {
        f"m{i}": BASE | {"seed": str(i)} for i in range(more + 1)
    }
    notes = study_of([a_run({name: {ACCURACY: 0.5} for name in tags}, tags)]).notes
    told = [n for n in notes if "spread between trainings:" in n or "as many factors" in n]
    assert len(told) == bool(words)
    assert words in "".join(told)


def test_prompts_that_differ_between_models_are_told() -> None:
    def notes(**prompts: str) -> str:
        run = a_run({name: {ACCURACY: 0.5} for name in prompts}, FLEET, prompts=prompts)
        return " | ".join(study_of([run]).notes)

    assert "run under different prompts, which are confounded" in notes(base="a", vit="b")
    assert "the same for all models: prompts" in notes(base="a", vit="a")


def test_each_model_counts_under_the_prompts_that_most_have() -> None:
    def run(**prompts: str) -> Earlier:
        return a_run({name: {ACCURACY: 0.5} for name in prompts}, prompts=prompts)

    runs = [run(a="rare", b="usual", c="other"), run(a="usual", c="rare", d="usual")]
    chosen_ones = {entry.model: entry.prompts for entry in main_prompts(gathered(runs))}
    assert chosen_ones == {"a": "usual", "b": "usual", "c": "rare", "d": "usual"}


def test_notes_say_what_the_models_cannot_tell() -> None:
    notes = " | ".join(study_of([fleet()]).notes)
    assert "the same for all models: model size" in notes
    assert "the same for all models: prompts" in notes
    assert "architecture: ViT instead of ResNet" in notes
    assert "left for the spread between trainings: 2." in notes
    pair = a_run(
        {"a": {ACCURACY: 0.5}, "b": {ACCURACY: 0.6}},
        {"a": BASE, "b": BASE | {"data": "drawings", "loss": "sigmoid", "architecture": ""}},
    )
    notes = " | ".join(study_of([pair]).notes)
    assert "instead of drawings; contrastive loss" in notes
    assert "never vary apart" in notes
    assert "architecture is left out, as it is not known of b" in notes


def test_prompts_are_a_factor_where_a_model_has_several() -> None:
    plain = fleet()
    fancy = a_run(
        {name: {ACCURACY: float(expit(place + 0.2))} for name, place in LOGITS.items()},
        FLEET,
        prompts=dict.fromkeys(LOGITS, "fancy"),
    )
    study = study_of([plain, fancy])
    assert len(study.table.entries) == len(FLEET)
    accuracy = next(item for item in study.properties if item.key == ACCURACY)
    (effect,) = accuracy.prompts
    assert effect.value == pytest.approx(0.2)
    assert effect.column.models == 8
    rows = list(csv.DictReader(io.StringIO(tables_of(study)["effects.csv"])))
    assert [row["level"] for row in rows if row["factor"] == "prompts"] == ["fancy"]


@pytest.mark.parametrize(
    ("tuned", "expected"),
    [(0.30, Word.SUPPORTED), (0.70, Word.CONTRADICTED), (0.51, Word.NOT_DECIDED)],
)
def test_fine_tuning_and_shape_bias(tuned: float, expected: Word) -> None:
    study = study_of([fleet(tuned={SHAPE: tuned})])
    assert word(study, "Fine-tuning lowers") == expected


def test_runs_with_outcomes_are_compared_in_pairs(tmp_path: Path) -> None:
    """The fine-tuned model loses the shape answers of 40 of 200 pictures, and gains none."""
    cue = Condition("cue_conflict")

    def made(name: str, flipped: range) -> Run:
        right = answers(0.7, flipped=[i for i in flipped if answers(0.7)[i]])
        shape = proportion_figure("shape_bias", right, Bootstrap(replicates=50, keys=KEYS))
        clean = proportion_figure("accuracy", answers(0.7), Bootstrap(replicates=50, keys=KEYS))
        figures = [shape.measured_on(cue), clean.measured_on(Condition("clean"))]
        return kept_run(figures, name, digest=name, suite="accuracy")

    runs = kept(tmp_path / "history.sqlite", made("base", range(0)), made("tuned", range(60)))
    facts = {"base": BASE, "tuned": BASE | {"fine_tuning": "labels", "base": "base"}}
    study = study_of(runs, cards=facts)
    (claim,) = (c for c in study.claims if c.sentence.startswith("Fine-tuning"))
    assert claim.word == Word.SUPPORTED
    (line,) = claim.figures
    assert "not in pairs" not in line
    lost = int(answers(0.7)[:60].sum())
    assert f"change {-lost / 200:+.3f}" in line


def test_architecture_and_3d_corruption() -> None:
    assert word(study_of([fleet(vit={DROP: 0.1})]), "Architecture") == Word.SUPPORTED
    assert word(study_of([fleet(half={DROP: 0.1})]), "Architecture") == Word.CONTRADICTED
    assert word(study_of([fleet(vit={DROP: 0.4})]), "Architecture") == Word.NOT_DECIDED


def test_accuracy_and_ood() -> None:
    assert word(study_of([fleet()]), "Within one") == Word.SUPPORTED
    turned = {name: {AUROC: float(expit(0.5 - place))} for name, place in LOGITS.items()}
    assert word(study_of([fleet(**turned)]), "Within one") == Word.CONTRADICTED


def test_calibration_under_shift() -> None:
    assert word(study_of([fleet()]), "After temperature") == Word.SUPPORTED
    worse = {name: {ECE_FOG: 0.2 + 0.001 * place} for name, place in LOGITS.items()}
    assert word(study_of([fleet(**worse)]), "After temperature") == Word.CONTRADICTED


def test_few_samples_do_not_count_as_calibration_lost() -> None:
    worse = {name: {ECE_FOG: 0.2 + 0.001 * place} for name, place in LOGITS.items()}
    run = fleet(**worse)

    def without_bias(measurement: Measurement) -> Measurement:
        """An error of 0.2 on fifty samples, most of which is their number."""
        details = {"debiased": 0.04 if measurement.figure.value > 0.1 else 0.03}
        figure = replace(measurement.figure, details=details)
        return replace(measurement, figure=figure.measured_on(measurement.condition))

    told = {
        key: without_bias(m) if m.metric == "ece_scaled" else m
        for key, m in run.measurements.items()
    }
    study = study_of([replace(run, measurements=told)])
    assert word(study, "After temperature scaling") == Word.SUPPORTED


def test_a_multimodal_models_gain() -> None:
    assert word(study_of([fleet()]), "A multimodal") == Word.NOT_MEASURED
    gain = "lmm/lmm_gain/clean/clean"
    assert word(study_of([fleet(base={gain: 0.2})]), "A multimodal") == Word.SUPPORTED
    both = fleet(base={gain: 0.2}, vit={gain: -0.2})
    assert word(study_of([both]), "A multimodal") == Word.IN_PART
    unclear = fleet(base={gain: 0.2}, vit={gain: 0.01})
    assert word(study_of([unclear]), "A multimodal") == Word.NOT_DECIDED


def test_a_multimodal_model_on_another_encoder_says_nothing_of_this_one() -> None:
    """The bundled one, asked about a sibling's confusions, sees through the reference's tower."""
    run = fleet(base={"lmm/lmm_gain/clean/clean": 0.2})

    def of_two(measurement: Measurement) -> Measurement:
        figure = replace(measurement.figure, details={"sees_through": "reference"})
        return replace(measurement, figure=figure.measured_on(measurement.condition))

    told = {k: of_two(m) if m.suite == "lmm" else m for k, m in run.measurements.items()}
    study = study_of([replace(run, measurements=told)])
    assert word(study, "A multimodal") == Word.NOT_MEASURED
    claim = next(c for c in study.claims if c.sentence.startswith("A multimodal"))
    assert claim.figures == (
        "left out: base, of which the multimodal model has another's image encoder",
    )


def test_claims_on_models_that_lack_what_they_need() -> None:
    run = a_run({"a": {ACCURACY: 0.5}, "b": {ACCURACY: 0.6}})
    assert {claim.word for claim in study_of([run]).claims} == {Word.NOT_MEASURED}


def test_tables_hold_every_number() -> None:
    study = study_of([fleet()])
    tables = {
        name: list(csv.DictReader(io.StringIO(text))) for name, text in tables_of(study).items()
    }
    assert len(tables["models.csv"]) == len(FLEET)
    assert tables["models.csv"][7]["base"] == "base"
    assert len(tables["figures.csv"]) == 7 * len(FLEET)
    assert len(tables["lines.csv"]) == 6 * (1 + 4)
    assert len(tables["effects.csv"]) == 7 * 5
    row = tables["effects.csv"][0]
    assert row["factor"] == "architecture"
    assert float(row["low"]) < float(row["effect"]) < float(row["high"])
    assert float(row["seed_spread"]) == pytest.approx(0.1)


def test_the_page_holds_all_and_escapes_it() -> None:
    evil = "<script>alert('x')</script>"
    run = a_run(
        {evil: {ACCURACY: 0.5}, "b": {ACCURACY: 0.6}, "c": {ACCURACY: 0.7}},
        {evil: BASE | {"data": '<b>&"photos"</b>'}, "b": BASE, "c": BASE | {"seed": "1"}},
    )
    page = page_of(study_of([run]), {"a'b.png": b"x"})
    assert "<script" not in page
    assert '<b>&"' not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page
    assert "data:image/png;base64,eA==" in page


@settings(max_examples=25, deadline=None)
@given(st.text(min_size=1), st.text(min_size=1))
def test_any_name_is_text_on_the_page(name: str, data: str) -> None:
    def page(model: str, facts: dict[str, str]) -> str:
        runs = [a_run({model: {ACCURACY: 0.5}}, {model: facts}), a_run({"b/c": {ACCURACY: 0.6}})]
        return page_of(study_of(runs), {})

    made = page(name, BASE | {"data": data})
    assert html.escape(name) in made
    assert re.findall("<[^>]*>", made) == re.findall("<[^>]*>", page("d", BASE))


def test_a_formula_in_a_table_is_text() -> None:
    run = a_run({"=1+1": {ACCURACY: 0.5}, "b": {ACCURACY: 0.6}})
    assert "'=1+1" in tables_of(study_of([run]))["models.csv"]


@pytest.mark.slow
def test_pictures_are_drawn() -> None:
    study = study_of([fleet()])
    pictures = plots_of(study)
    assert set(pictures) == {
        *("corruption_3d.png", "shape_bias.png", "ood.png", "calibration.png", "effects.png")
    }
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())


def test_counts_have_no_place_beside_shares() -> None:
    swapped = "accuracy/swapped_labels/clean/clean"
    study = study_of(
        [fleet(**{name: {swapped: float(place > 0)} for name, place in LOGITS.items()})]
    )
    assert swapped in {item.key for item in study.headlines}
    assert swapped not in {item.key for item in chosen_for_forest(study)}
    assert FOG in {item.key for item in chosen_for_forest(study)}


def test_levels_of_a_factor_have_lines_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    fog = next(item for item in study_of([fleet()]).properties if item.key == FOG)
    assert {key: line.n for key, line in fog.groups.items()} == {
        ("architecture", "ResNet"): 7,
        ("data", "photos"): 7,
        ("fine_tuning", "none"): 7,
        ("loss", "softmax"): 7,
    }
    assert fog.groups["data", "photos"].slope == pytest.approx(0.5)
    monkeypatch.setattr(plots, "_png", lambda figure: b"")
    drawn = plots_of(study_of([fleet()]), by="loss")
    assert set(drawn) == {
        *("corruption_3d.png", "shape_bias.png", "ood.png", "calibration.png", "effects.png")
    }


def test_effects_at_equal_accuracy_are_what_is_beyond_the_line() -> None:
    raised = float(expit(0.5 * LOGITS["vit"] - 1.0 + 0.3))
    fog = next(item for item in study_of([fleet(vit={FOG: raised})]).properties if item.key == FOG)
    assert fog.beyond is not None
    assert fog.beyond.freedom == 1
    values = {effect.column.level: effect.value for effect in fog.beyond.effects}
    assert values["ViT"] == pytest.approx(0.3)
    assert values["sigmoid"] == pytest.approx(0.0, abs=1e-9)


def test_means_over_conditions_have_the_first_panels() -> None:
    values = {f"corruption_3d/accuracy/clean/c{i}": 0.3 for i in range(PANELS + 2)}
    values |= {ACCURACY: 0.5, DROP: 0.2, "corruption_3d/accuracy/clean/same": 0.1}
    other = {key: value + 0.1 for key, value in values.items()}
    other["corruption_3d/accuracy/clean/same"] = 0.1
    run = a_run({"a": values, "b": values, "c": other})
    items = [item for item in study_of([run]).headlines if item.sample.suite == "corruption_3d"]
    assert len(chosen(items)) == PANELS
    assert chosen(items)[0].key == DROP
    assert "corruption_3d/accuracy/clean/same" not in {item.key for item in chosen(items)}


def test_a_model_without_a_property_has_no_point() -> None:
    run = fleet()
    run.measurements.pop(f"{FOG}/vit")  # type: ignore[attr-defined]
    fog = next(item for item in study_of([run]).properties if item.key == FOG)
    assert np.isnan(fog.y[3])
    assert fog.line is not None
    assert fog.line.n == len(FLEET) - 1
    assert fog.regression is not None
    assert not any(math.isnan(effect.value) for effect in fog.regression.effects)
