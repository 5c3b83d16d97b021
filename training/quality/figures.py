"""What a version is good for: the figures by which people choose it, by kind of text."""

import re
from collections.abc import Mapping
from typing import Any, Final

from app.artifact import Manifest, Quality
from training.reports.quality import list_scores
from training.reports.report import Report
from training.reports.scores import wilson

_OF: Final = re.compile(r"[\d,]+ texts of (.+)")
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9 _.,-]+")
_LONGEST_NAME: Final = 60
_PLACES: Final = 4

Figures = dict[str, Any]
"""`texts` with an opinion, `accuracy` of them with its 95 % `interval`, `calibration_error`, the
share `sure_and_wrong` above 0.80; the number of `neutral_texts`, and the share of them that is
`undecided`, without an opinion above 0.80. What was not measured is absent."""


def version_figures(report: Report) -> dict[str, Figures]:
    """Return the figures of a version by kind of text, as its manifest and its card show them.

    Args:
        report: Of the version.

    Returns:
        First the version's own test texts, under a name such as `imdb test`, then each set of short
        texts (`ordinary`) and each of its kinds (`ordinary negation`).
    """
    figures: dict[str, Figures] = {}
    if own := test_figures(report):
        figures[_name(report.splits["test"]["of"])] = own
    for name, score in list_scores(report.short_texts):
        figures[_name(name)] = _of_score(score)
    return figures


def with_quality(manifest: Manifest, report: Report) -> Manifest:
    """Return the manifest of a version with the figures of its report."""
    figures = version_figures(report)
    quality = {kind: Quality.model_validate(each) for kind, each in figures.items()}
    return manifest.model_copy(update={"quality": quality})


def test_figures(report: Report) -> Figures:
    """Return the figures of a version's own test texts; empty if they were never scored."""
    split = report.splits.get("test")
    if not split:
        return {}
    matrix = split["confusion_matrix"]
    texts = sum(map(sum, matrix))
    right = sum(row[k] for k, row in enumerate(matrix))
    return {
        "texts": texts,
        "accuracy": round(right / texts, _PLACES),
        "interval": [round(end, _PLACES) for end in wilson(right, texts)],
        "calibration_error": round(split["metrics"]["expected_calibration_error"], _PLACES),
    }


def _of_score(score: Mapping[str, Any]) -> Figures:
    figures: Figures = {"texts": score["n"]}
    if score["n"]:
        figures |= {
            "accuracy": round(score["accuracy"], _PLACES),
            "interval": [round(score[end], _PLACES) for end in ("low", "high")],
            "calibration_error": round(score["calibration_error"], _PLACES),
            "sure_and_wrong": round(score["wrong_and_sure_share"], _PLACES),
        }
    if there := score["neutral"]:
        figures |= {
            "neutral_texts": there,
            "undecided": round(score["neutral_unsure"] / there, _PLACES),
        }
    return figures


def _name(texts: str) -> str:
    match = _OF.fullmatch(texts)
    name = _NOT_IN_NAMES.sub("", (match[1] if match else texts).lower()).lstrip(" _.,-")
    return name[:_LONGEST_NAME]
