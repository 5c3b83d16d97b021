"""Short and ordinary texts: what a model knows beside the reviews it was trained on.

These sets choose between models; nothing is ever trained on them. A folder holds

    ordinary.tsv               what people type first: label, kind, text; some texts are neutral
    amazon_cells.tsv.gz        sentences about products: text, 0 or 1; no header
    counterfactual_dev.tsv.gz  film reviews that people edited until the label flipped
    contrast_dev.tsv.gz        the same, edited by experts

Source:
    Kotzias et al., "From Group to Individual Labels using Deep Features" (2015); Kaushik et al.,
    "Learning the Difference that Makes a Difference with Counterfactually-Augmented Data" (2020);
    Gardner et al., "Evaluating Models' Local Decision Boundaries via Contrast Sets" (2020).
"""

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from app.errors import DataError
from training.support.arrays import FloatArray

SURE: Final = 0.8
"""A wrong answer above this probability misleads; a neutral text should get none above it."""
_FILES: Final = (
    "ordinary.tsv",
    "amazon_cells.tsv.gz",
    "counterfactual_dev.tsv.gz",
    "contrast_dev.tsv.gz",
)
_BINS: Final = 10


@dataclass(frozen=True, slots=True)
class ShortText:
    """A labelled text.

    Attributes:
        text: As in the file.
        positive: None for a neutral text.
        kind: The set, or the kind of text within it: `ordinary negation`.
    """

    text: str
    positive: bool | None
    kind: str


@dataclass(frozen=True, slots=True)
class ShortScore:
    """What a model makes of the texts of one kind.

    Attributes:
        kind: The kind.
        polar: The number of polar texts.
        right: How many of them are right.
        sure_and_wrong: How many of them are wrong with a probability above `SURE`.
        calibration_error: Expected calibration error of the polar texts, ten bins.
        neutral: The number of neutral texts.
        undecided: How many of them get no probability above `SURE`.
    """

    kind: str
    polar: int
    right: int
    sure_and_wrong: int
    calibration_error: float
    neutral: int
    undecided: int


def read_short_texts(folder: Path) -> list[ShortText]:
    """Read the sets of a folder; those it lacks are left out.

    Raises:
        DataError: The folder has none of them, or a label is unknown.
    """
    found = [text for name in _FILES for text in _read(folder / name)]
    if not found:
        raise DataError(f"{folder}: there must be one of {', '.join(_FILES)}. Received: none")
    return found


def score_short_texts(
    texts: Sequence[ShortText], predict: Callable[[Sequence[str]], FloatArray]
) -> list[ShortScore]:
    """Score a model, one row per kind, with a row for all ordinary texts before their kinds.

    Args:
        texts: From `read_short_texts`.
        predict: Returns the probability that each text is positive, (texts,).
    """
    positive = np.asarray(predict([each.text for each in texts]), np.float64)
    kinds = dict.fromkeys(kind for each in texts for kind in _kinds(each.kind))
    return [
        _score(
            kind,
            [
                (p, each)
                for p, each in zip(positive.tolist(), texts, strict=True)
                if kind in _kinds(each.kind)
            ],
        )
        for kind in kinds
    ]


def format_scores(scores: Iterable[ShortScore]) -> str:
    """Return a table in Markdown."""
    lines = [
        f"| texts | right | share | wrong above {SURE:.2f} | calibration error "
        f"| neutral at most {SURE:.2f} |",
        "|---|---|---|---|---|---|",
    ]
    for each in scores:
        cells = (
            (
                f"{each.right} of {each.polar}",
                f"{each.right / each.polar:.1%}",
                str(each.sure_and_wrong),
                f"{each.calibration_error:.3f}",
            )
            if each.polar
            else ("",) * 4
        )
        neutral = f"{each.undecided} of {each.neutral}" if each.neutral else ""
        lines.append(f"| {' | '.join((each.kind, *cells, neutral))} |")
    return "\n".join(lines)


def _kinds(kind: str) -> tuple[str, ...]:
    """Return the set of a kind, and the kind itself if it is a part of the set."""
    return tuple(dict.fromkeys((kind.split()[0], kind)))


def _score(kind: str, rows: Sequence[tuple[float, ShortText]]) -> ShortScore:
    polar = [(p, each.positive) for p, each in rows if each.positive is not None]
    neutral = [p for p, each in rows if each.positive is None]
    sure = [max(p, 1 - p) for p, _ in polar]
    right = [(p >= 0.5) == label for p, label in polar]
    return ShortScore(
        kind=kind,
        polar=len(polar),
        right=sum(right),
        sure_and_wrong=sum(s > SURE and not r for s, r in zip(sure, right, strict=True)),
        calibration_error=_calibration_error(np.array(sure), np.array(right)),
        neutral=len(neutral),
        undecided=sum(max(p, 1 - p) <= SURE for p in neutral),
    )


def _calibration_error(sure: FloatArray, right: FloatArray) -> float:
    """Return the mean gap between probability and accuracy over ten bins of equal width."""
    if not len(sure):
        return 0.0
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, sure - right, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(sure))


def _read(path: Path) -> Iterator[ShortText]:
    """Yield the texts of one file, if it exists."""
    if not path.exists():
        return
    name = path.name.split(".")[0]
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        if name == "amazon_cells":
            for line in file:
                text, label = line.rstrip("\r\n").rsplit("\t", 1)
                yield ShortText(text, _positive(label, path), name)
            return
        rows = (
            csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if name == "ordinary"
            else csv.DictReader(file, delimiter="\t")
        )
        for row in rows:
            by_name = {key.lower(): value for key, value in row.items()}
            if name == "ordinary":
                label, kind = by_name["label"], f"{name} {by_name['kind']}"
            else:
                label, kind = by_name["sentiment"], name
            yield ShortText(by_name["text"], _positive(label, path), kind)


def _positive(label: str, path: Path) -> bool | None:
    known = {"positive": True, "1": True, "negative": False, "0": False, "neutral": None}
    if label.lower() not in known:
        raise DataError(f"{path}: a label must be one of {', '.join(known)}. Received: {label!r}")
    return known[label.lower()]
