"""The names of all metrics: the vocabulary of thresholds and reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Metric:
    """What a metric's name stands for.

    Attributes:
        name: as in :attr:`Figure.metric`.
        higher_is_better: the good direction; None where neither is good in itself (a signed gap, a
            temperature).
        meaning: one line for reports.
        unit: ``""`` for plain fractions and ratios.
        low, high: values that the metric cannot leave; None where there is no such limit.
    """

    name: str
    higher_is_better: bool | None
    meaning: str
    unit: str = ""
    low: float | None = 0.0
    high: float | None = 1.0


#: OOD scores, each with its own AUROC, AUPR and FPR95.
OOD_SCORES: Mapping[str, str] = MappingProxyType(
    {
        "mcm": "MCM (softmax over cosines at temperature 1)",
        "msp": "maximum softmax probability at the model's logit scale",
        "max_logit": "largest logit",
        "energy": "negative energy (log-sum-exp of the logits)",
        "neglabel": "NegLabel (negative labels)",
        "gl_mcm": "GL-MCM (global and patch features)",
        "knn": "distance to the k-th nearest ID feature",
        "mahalanobis": "Mahalanobis distance to the nearest ID class mean",
    }
)

_SIGNED: tuple[float | None, float | None] = (-1.0, 1.0)


def _metrics() -> Iterator[Metric]:
    yield Metric("accuracy", True, "share of samples whose highest-scoring class is right")
    yield Metric("top5_accuracy", True, "share of samples with the right class among the best five")
    yield Metric("balanced_accuracy", True, "mean over classes of the per-class accuracy")
    yield Metric("worst_group_accuracy", True, "accuracy of the group with the lowest one")
    yield Metric(
        "swapped_labels",
        False,
        "pairs of classes whose images prefer each other's text",
        "",
        0.0,
        None,
    )
    yield Metric("accuracy_drop", False, "clean minus shifted accuracy, same samples", "", *_SIGNED)
    yield Metric(
        "relative_drop",
        False,
        "accuracy drop as a share of the clean accuracy",
        "",
        None,
        1.0,
    )
    yield Metric(
        "ce",
        False,
        "error summed over severities, relative to the baseline's (CE)",
        "",
        0.0,
        None,
    )
    yield Metric("mce", False, "mean of the corruption errors (mCE)", "", 0.0, None)
    yield Metric(
        "relative_ce",
        False,
        "error above the clean error, relative to the baseline's",
        "",
        None,
        None,
    )
    yield Metric("relative_mce", False, "mean of the relative corruption errors", "", None, None)
    yield Metric("mean_corruption_accuracy", True, "mean accuracy over corruptions and severities")
    yield Metric(
        "mean_corruption_drop", False, "clean minus mean corruption accuracy", "", *_SIGNED
    )
    yield Metric(
        "relative_corruption_drop",
        False,
        "mean corruption drop as a share of the clean accuracy",
        "",
        None,
        1.0,
    )
    yield Metric(
        "worst_corruption_drop", False, "largest drop of a single corruption", "", *_SIGNED
    )
    yield Metric(
        "severity_monotonicity", True, "share of severity steps at which accuracy does not rise"
    )

    yield Metric(
        "worst_case_drop",
        False,
        "accuracy drop at the worst parameters that a search of the envelope found",
        "",
        *_SIGNED,
    )
    yield Metric(
        "frontier_strength",
        True,
        "largest strength in the envelope, 0 to 1, at which the accuracy drop is still allowed",
    )
    yield Metric(
        "attack_success", False, "share of images decided for the class whose name is on them"
    )

    for suffix, after in (("", ""), ("_scaled", ", after temperature scaling on ID data")):
        yield Metric(
            f"ece{suffix}", False, f"expected calibration error, 15 equal-width bins{after}"
        )
        yield Metric(
            f"adaptive_ece{suffix}", False, f"calibration error over bins of equal mass{after}"
        )
        yield Metric(
            f"classwise_ece{suffix}", False, f"mean calibration error of the classes{after}"
        )
        yield Metric(
            f"nll{suffix}", False, f"mean negative log-likelihood{after}", "nats", 0.0, None
        )
        yield Metric(
            f"brier{suffix}", False, f"Brier score, summed over classes{after}", "", 0.0, 2.0
        )
        yield Metric(
            f"signed_gap{suffix}",
            None,
            f"mean confidence minus accuracy, positive = over-confident{after}",
            "",
            *_SIGNED,
        )
    yield Metric("ece_sigmoid", False, "calibration error of the top class's sigmoid (SigLIP)")
    yield Metric(
        "signed_gap_sigmoid",
        None,
        "mean top-class sigmoid minus accuracy (SigLIP)",
        "",
        *_SIGNED,
    )
    yield Metric(
        "temperature",
        None,
        "fitted temperature, above 1 = the model was over-confident",
        "",
        0.0,
        None,
    )

    for score, meaning in OOD_SCORES.items():
        yield Metric(f"auroc_{score}", True, f"AUROC of ID against OOD by {meaning}")
        yield Metric(f"aupr_in_{score}", True, f"average precision, ID positive, by {meaning}")
        yield Metric(f"aupr_out_{score}", True, f"average precision, OOD positive, by {meaning}")
        yield Metric(
            f"fpr95_{score}", False, f"share of OOD accepted at an ID recall of 95%, by {meaning}"
        )

    yield Metric("shape_bias", True, "shape decisions among shape and texture decisions")
    yield Metric("cue_accuracy", True, "share of cue-conflict images decided for either cue")
    yield Metric("other_decisions", False, "share of cue-conflict images decided for neither cue")

    yield Metric("factor_accuracy", True, "accuracy on the images of one visual factor")
    yield Metric(
        "error_ratio",
        False,
        "error on a factor's images relative to all annotated images",
        "",
        0.0,
        None,
    )
    yield Metric(
        "effective_robustness",
        True,
        "accuracy under shift above what a fleet's line predicts",
        "",
        *_SIGNED,
    )

    for way, words in (("image_to_text", "image to text"), ("text_to_image", "text to image")):
        for k in (1, 5, 10):
            yield Metric(
                f"{way}_recall_at_{k}",
                True,
                f"share of queries with a hit in the best {k}, {words}",
            )
        yield Metric(
            f"{way}_median_rank", False, f"median rank of the best hit, {words}", "", 1.0, None
        )

    yield Metric("prompt_mean_accuracy", True, "mean accuracy over single prompt templates")
    yield Metric("prompt_worst_accuracy", True, "accuracy with the worst prompt template")
    yield Metric("prompt_best_accuracy", True, "accuracy with the best prompt template")
    yield Metric("prompt_accuracy_spread", False, "best minus worst accuracy over templates")
    yield Metric("prompt_accuracy_std", False, "standard deviation of accuracy over templates")
    yield Metric("prompt_ensemble_accuracy", True, "accuracy of the ensemble of all templates")
    yield Metric(
        "prompt_ensemble_gain", True, "ensemble minus mean accuracy over templates", "", *_SIGNED
    )

    for pixels in (5, 10, 20, 25, 50):
        yield Metric(
            f"correspondence_recall_at_{pixels}px",
            True,
            f"share of matches between two views within {pixels} pixels of the truth",
        )
    yield Metric(
        "pck_at_0.1", True, "share of keypoints within 0.1 of the object's box, mean over classes"
    )


METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _metrics()})
