"""Short and ordinary texts: what a model knows beside the texts it was trained on.

These sets choose between models; nothing is ever trained on them. Each is a table of its own in
one folder, in any format of `app.tables`: a column of texts, a column of labels and, if it has one,
a column `kind`. A table of two columns without a header holds texts, then labels. Those that
Valence is measured on are

    ordinary.tsv               what people type first; has kinds, and some texts are neutral
    amazon_cells.tsv.gz        sentences about products
    counterfactual_dev.tsv.gz  film reviews that people edited until the label flipped
    contrast_dev.tsv.gz        the same, edited by experts

Source:
    Kotzias et al., "From Group to Individual Labels using Deep Features" (2015); Kaushik et al.,
    "Learning the Difference that Makes a Difference with Counterfactually-Augmented Data" (2020);
    Gardner et al., "Evaluating Models' Local Decision Boundaries via Contrast Sets" (2020).
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.artifact import NEUTRAL
from app.errors import DataError
from app.tables.table import TEXT_COLUMNS, bare_suffix, open_table
from training.data.accounting import name_labels
from training.data.formats import LABEL_COLUMNS
from training.data.readers import ReadOptions, read
from training.reports.scores import measure_reliability, wilson
from training.support.arrays import BoolArray, FloatArray, IntArray

SHORT: Final = "short"
"""Name of the folder that is found without being named."""
SURE: Final = 0.8
"""A wrong answer above this probability misleads; a neutral text should get none above it."""
FEW_TOKENS: Final = 64
"""Texts with more tokens are no short ones: the edited reviews are as long as reviews are."""

_SUFFIXES: Final = frozenset(
    {".csv", ".tsv", ".tab", ".txt", ".jsonl", ".ndjson", ".parquet", ".xlsx"}
)
_KIND: Final = "kind"


@dataclass(frozen=True, slots=True)
class ShortText:
    """A labelled text.

    Attributes:
        text: As in the file.
        label: A lower-case name.
        kind: The kind within its set; empty if the set has no kinds.
    """

    text: str
    label: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class ShortSet:
    """The texts of one file.

    Attributes:
        name: The name of the file without its suffixes.
        texts: At least one.
    """

    name: str
    texts: tuple[ShortText, ...]

    def unknown_labels(self, labels: Sequence[str]) -> set[str]:
        """Return the labels that a model lacks; neutral texts can be asked of any model."""
        return {each.label for each in self.texts} - {*labels, NEUTRAL}


def find_short_folder(data: Path) -> Path | None:
    """Return the folder `short` that belongs to a data set, if there is one.

    It is in the folder of the data or beside it; for data in one file, beside the file.
    """
    if not data.exists():
        return None  # such as "-", standard input
    places = [data, data.resolve().parent] if data.is_dir() else [data.resolve().parent]
    found = (place / SHORT for place in places)
    return next((folder for folder in found if folder.is_dir() and _list_tables(folder)), None)


def read_short_sets(folder: Path) -> tuple[ShortSet, ...]:
    """Read the sets of a folder, in the order of their names; files that are no tables stay unread.

    Raises:
        DataError: The folder has no table, or a row of one is invalid.
    """
    tables = _list_tables(folder) if folder.is_dir() else []
    if not tables:
        raise DataError(
            f"{folder}: a folder of short texts must hold tables, {', '.join(sorted(_SUFFIXES))}, "
            "plain or packed with gzip. Received: none"
        )
    return tuple(_read(path) for path in tables)


def fingerprint(sets: Iterable[ShortSet]) -> str:
    """Return the sha256 of all names, kinds, labels and texts."""
    content = json.dumps([asdict(each) for each in sets])
    return hashlib.sha256(content.encode("ascii")).hexdigest()


def usable_sets(sets: Iterable[ShortSet], labels: Sequence[str]) -> tuple[ShortSet, ...]:
    """Return the sets whose labels a model has.

    Raises:
        DataError: There is none.
    """
    known = tuple(each for each in sets if not each.unknown_labels(labels))
    if not known:
        unknown = sorted({label for each in sets for label in each.unknown_labels(labels)})
        raise DataError(
            f"the labels of short texts must be among those of the model, {name_labels(labels)}. "
            f"Received: {name_labels(unknown)}"
        )
    return known


def score_short_sets(
    sets: Sequence[ShortSet],
    labels: Sequence[str],
    probabilities: FloatArray,
    tokens: IntArray | None = None,
) -> dict[str, Any]:
    """Score the answers of a model, ready for JSON.

    Args:
        sets: Of `usable_sets`.
        labels: In the order of the model's outputs.
        probabilities: Of the texts of all sets in order, float (texts, classes).
        tokens: Tokens of each text before truncation, int (texts,); None if unknown.

    Returns:
        `fingerprint`, `sets` with the figures of each set by name (see `_score`), its `kinds` in
        them, and `reliability` of all texts of at most `few_tokens` tokens, if there are any.
    """
    texts = [text for each in sets for text in each.texts]
    index = {label: position for position, label in enumerate(labels)}
    answers = _Answers(
        tuple(labels),
        np.array([index.get(text.label, -1) for text in texts]),
        np.array([text.label == NEUTRAL for text in texts]),
        np.asarray(probabilities, np.float64),
    )
    names = np.repeat([each.name for each in sets], [len(each.texts) for each in sets])
    kinds = np.array([text.kind for text in texts])
    scores = {}
    for each in sets:
        own = names == each.name
        scores[each.name] = answers.score(own)
        if found := dict.fromkeys(text.kind for text in each.texts if text.kind):
            scores[each.name]["kinds"] = {
                kind: answers.score(own & (kinds == kind)) for kind in found
            }
    described: dict[str, Any] = {"fingerprint": fingerprint(sets), "sets": scores}
    few = answers.known if tokens is None else answers.known & (tokens <= FEW_TOKENS)
    if few.any():
        described["few_tokens"] = FEW_TOKENS
        described["reliability"] = answers.reliability(few)
    return described


@dataclass(frozen=True, slots=True)
class _Answers:
    """The answers of a model to all texts.

    Attributes:
        labels: In the order of the outputs.
        y_true: The true class of each text, int (texts,); -1 if the model lacks it.
        neutral: Whether a text is neutral, bool (texts,).
        probabilities: float64 (texts, classes).
    """

    labels: tuple[str, ...]
    y_true: IntArray
    neutral: BoolArray
    probabilities: FloatArray

    @property
    def known(self) -> BoolArray:
        """Whether the true class of a text is among the model's, bool (texts,)."""
        return self.y_true >= 0

    def score(self, chosen: BoolArray) -> dict[str, Any]:
        """Return the figures of the chosen texts, bool (texts,).

        Returns:
            `n` texts with an opinion: `right`, `accuracy` with its 95 % interval from `low` to
            `high`, `wrong_and_sure` and its share, `calibration_error`. `neutral` texts:
            `neutral_unsure`, without an opinion above `SURE`, and `neutral_right`, if the model has
            that label. Shares are absent where there is no text.
        """
        opinion = chosen & ~self.neutral
        neutral = chosen & self.neutral
        sure = self.probabilities.max(axis=1) > SURE
        right = self.probabilities.argmax(axis=1) == self.y_true
        n, hits = int(opinion.sum()), int((opinion & right).sum())
        misled = int((opinion & ~right & sure).sum())
        others = [k for k, label in enumerate(self.labels) if label != NEUTRAL]
        unsure = self.probabilities[:, others].max(axis=1) <= SURE
        score: dict[str, Any] = {"n": n, "right": hits, "wrong_and_sure": misled}
        if n:
            low, high = wilson(hits, n)
            score |= {"accuracy": hits / n, "low": low, "high": high}
            score |= {"wrong_and_sure_share": misled / n}
            score["calibration_error"] = self.reliability(opinion)["error"]
        score |= {"neutral": int(neutral.sum()), "neutral_unsure": int((neutral & unsure).sum())}
        if NEUTRAL in self.labels:
            score["neutral_right"] = int((neutral & right).sum())
        return score

    def reliability(self, chosen: BoolArray) -> dict[str, Any]:
        """Return the reliability of the chosen texts as `training.reports.scores` does."""
        return asdict(measure_reliability(self.y_true[chosen], self.probabilities[chosen]))


def _list_tables(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and bare_suffix(path) in _SUFFIXES and not path.name.startswith(".")
    )


def _read(path: Path) -> ShortSet:
    """Read one file."""
    columns = [name.casefold() for name in open_table(path).columns]
    if len(columns) == 2 and not {*TEXT_COLUMNS, *LABEL_COLUMNS} & set(columns):
        options = ReadOptions(text_column="1", label_column="2", header=False)
    else:
        options = ReadOptions(group_column=_KIND if _KIND in columns else None)
    corpus = read(path, options=options)
    return ShortSet(
        path.name.partition(".")[0],
        tuple(ShortText(each.text, each.label, each.group or "") for each in corpus.examples),
    )
