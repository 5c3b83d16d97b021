"""A tiny corpus in words of our own, from which a model can really learn, and the real one.

Most clauses carry a word that gives the label away, so that a bag of words learns; some negate such
a word, so that the order of words is worth something; some say nothing at all. Lengths run from 3
to about 120 words; some texts have markup, capitals, or letters beyond ASCII.
"""

import csv
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

NEGATIVE = ("dull", "clumsy", "hollow", "tedious", "lifeless", "shoddy", "grating", "muddled")
POSITIVE = ("radiant", "graceful", "gripping", "tender", "superb", "witty", "luminous", "deft")
NEUTRAL = ("ordinary", "average", "passable", "middling", "usual", "plain", "standard", "typical")
_OPPOSITE = {"negative": POSITIVE, "positive": NEGATIVE}
_WORDS = {"negative": NEGATIVE, "neutral": NEUTRAL, "positive": POSITIVE}

_THINGS = (
    "the plot", "the camera work", "her acting", "the score", "the café scene", "the ending",
    "the dialogue", "the naïve hero", "the whole film", "the second half", "the Škoda chase",
    "the editing", "the cast", "the opening",
)  # fmt: skip
_CLAUSES = (
    "{thing} was {word}",
    "{thing} felt {word} to me",
    "I found {thing} {word}",
    "what stays with me is how {word} {thing} was",
    "{thing} turned out {word} from start to end",
)
_NEGATED = (
    "{thing} was not {word} at all",
    "nobody would call {thing} {word}",
    "{thing} was never {word}",
)
_FILLERS = (
    "we saw it on a Tuesday with my brother",
    "it runs for about {number} minutes",
    "the story begins in a small harbour town in {year}",
    "there are {number} people in the credits",
    "my neighbour in row {number} ate popcorn",
    "a train arrives & a letter is read aloud",
    "it was shown after «{year}» at the festival",
)
_JOINTS = (". ", ", and ", ".<br /><br />", "; ", "! ", " … ")


class Sample(NamedTuple):
    """One text with its label."""

    text: str
    label: str


def make_corpus(
    size: int, *, seed: int, labels: Sequence[str] = ("negative", "positive")
) -> list[Sample]:
    """Different texts with labels in turn; the same ones for the same arguments."""
    generator = random.Random(seed)
    samples: dict[str, Sample] = {}
    while len(samples) < size:
        label = labels[len(samples) % len(labels)]
        text = _make_text(label, generator)
        samples.setdefault(text, Sample(text, label))
    return list(samples.values())


def _make_text(label: str, generator: random.Random) -> str:
    """About as many words as a target that is more often small than large."""
    words = generator.choice((3, 8, 15, 30, 60, 100))
    text = _clause(label, generator)
    while len(text.split()) < words:
        kind = generator.random()
        if kind < 0.45:
            clause = generator.choice(_FILLERS).format(
                number=generator.randrange(2, 200), year=generator.randrange(1920, 2020)
            )
        elif kind < 0.6 and label in _OPPOSITE:
            clause = generator.choice(_NEGATED).format(
                thing=generator.choice(_THINGS), word=generator.choice(_OPPOSITE[label])
            )
        else:
            clause = _clause(label, generator)
        pair = [text, clause] if generator.random() < 0.5 else [clause, text]
        text = generator.choice(_JOINTS).join(pair)
    return text[:1].upper() + text[1:]


def _clause(label: str, generator: random.Random) -> str:
    return generator.choice(_CLAUSES).format(
        thing=generator.choice(_THINGS), word=generator.choice(_WORDS[label])
    )


def write_tsv_folder(folder: Path, *, train: int = 400, test: int = 100, seed: int = 1) -> Path:
    """A data set in the `id, sentiment, review` layout: train.tsv and test.tsv, no text in both.

    Every five texts of one label in a row are about one film; its address stands in
    `train_urls_pos.txt` and its like.

    Returns:
        The folder, made when missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples = make_corpus(train + test, seed=seed)
    for split, part in (("train", samples[:train]), ("test", samples[train:])):
        rows = ["id\tsentiment\treview"]
        for code, label in (("0", "neg"), ("1", "pos")):
            texts = [sample.text for sample in part if sample.label.startswith(label)]
            rows += [f"{n}_{1 + 8 * int(code)}\t{code}\t{text}" for n, text in enumerate(texts)]
            films = (f"/title/tt{len(split)}{n // 5:04}" for n in range(len(texts)))
            write(folder / f"{split}_urls_{label}.txt", "".join(f"{film}\n" for film in films))
        write(folder / f"{split}.tsv", "".join(f"{row}\n" for row in rows))
    return folder


def write_csv(path: Path, samples: Sequence[Sample]) -> Path:
    """A CSV with the columns `text` and `label`, quoted as in RFC 4180."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("text", "label"), *samples])
    return path


def write(path: Path, text: str) -> Path:
    """Exactly these characters as UTF-8, in folders made when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return path


def real_data(name: str) -> Path:
    """A file or folder of the real data sets; skips the test where they are absent.

    They are looked for in VALENCE_DATA, in data/, and in ../shared/data beside the repository.
    """
    repository = Path(__file__).resolve().parents[1]
    named = os.environ.get("VALENCE_DATA")
    places = (
        [Path(named)] if named else [repository / "data", repository.parent / "shared" / "data"]
    )
    for place in places:
        if (place / name).exists():
            return place / name
    pytest.skip(f"the real data is absent: no {name} in VALENCE_DATA, data or ../shared/data")
