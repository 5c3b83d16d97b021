"""Capabilities: what a model of sentiment must be able to do, tested with sentences from templates.

A capability has tests of three kinds. *Minimum functionality*: a simple text must get its label.
*Invariance*: a change that does not touch the meaning, such as another name or a typing error, must
not change the answer. *Directional expectation*: a change that strengthens an opinion must not
weaken the answer. The templates are in `capabilities.toml`; equal templates give equal sentences.
Nothing is ever trained on them.

Source:
    Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList" (2020).
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any, Final

import numpy as np

from training.reports.scores import wilson
from training.support.arrays import BoolArray, Float64Array, FloatArray

TOLERANCE: Final = 0.1
"""An answer may move by this much, as in CheckList."""
POLAR: Final = ("negative", "positive")
"""Labels that a model must have to be tested."""
MINIMUM, INVARIANCE, DIRECTION = "minimum functionality", "invariance", "directional expectation"

_CASES: Final = 32
"""Cases of a test."""
_SEED: Final = 1
_TRIES: Final = 40
_SLOT: Final = re.compile(r"\{(\w+)\}")
_LONG_WORD: Final = re.compile(r"[a-z]{5,}")
_VOWEL_INSIDE: Final = re.compile(r"(?<=[a-z])[aeiou](?=[a-z])")
_WORD_START: Final = re.compile(r"\b[a-z]")
_ARTICLE: Final = re.compile(r"\b([Aa]) (?=[aeiou])")


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a test.

    Attributes:
        text: The text.
        changed: The changed text; None for a test of minimum functionality.
    """

    text: str
    changed: str | None = None


@dataclass(frozen=True, slots=True)
class CapabilityTest:
    """A test of one capability.

    Attributes:
        capability: Such as `negation`.
        kind: `MINIMUM`, `INVARIANCE` or `DIRECTION`.
        about: What must hold, in a few words.
        expect: A label, `not` and a label, or, of a directional expectation, the label whose
            probability must not fall; empty for invariance.
        cases: All different.
    """

    capability: str
    kind: str
    about: str
    expect: str
    cases: tuple[Case, ...]


@cache
def capability_tests() -> tuple[CapabilityTest, ...]:
    """Return all tests, the same ones every time."""
    content = tomllib.loads(files(__package__).joinpath("capabilities.toml").read_text("utf-8"))
    fill = {name: _alternatives(text) for name, text in content["fill"].items()}
    return tuple(_make_test(test, fill) for test in content["test"])


def suite_fingerprint() -> str:
    """Return the sha256 of all tests."""
    content = json.dumps([asdict(test) for test in capability_tests()])
    return hashlib.sha256(content.encode("ascii")).hexdigest()


def suite_texts() -> list[str]:
    """Return every different text of all tests, in order."""
    return list(
        dict.fromkeys(
            text
            for test in capability_tests()
            for case in test.cases
            for text in (case.text, case.changed)
            if text is not None
        )
    )


def has_polarity(labels: Sequence[str]) -> bool:
    """Whether a model with these labels can be tested."""
    return set(POLAR) <= set(labels)


def judge(labels: Sequence[str], probabilities: FloatArray) -> dict[str, Any]:
    """Judge the answers of a model, ready for JSON.

    Args:
        labels: In the order of the model's outputs, both of `POLAR` among them.
        probabilities: Of `suite_texts()`, float (texts, classes).

    Returns:
        `fingerprint` of the suite; `capabilities`, by name: the number `n` of cases, how many
        `failed`, the `failure_rate` with its 95 % interval from `low` to `high`, and its `tests`.
    """
    place = {text: row for row, text in enumerate(suite_texts())}
    answers = np.asarray(probabilities, np.float64)
    found: dict[str, dict[str, Any]] = {}
    for test in capability_tests():
        first = answers[[place[case.text] for case in test.cases]]
        second = answers[[place[case.changed or case.text] for case in test.cases]]
        failed = int((~_passes(test, labels, first, second)).sum())
        entry = found.setdefault(test.capability, {"n": 0, "failed": 0, "tests": []})
        entry["n"] += len(test.cases)
        entry["failed"] += failed
        entry["tests"].append(
            {"about": test.about, "kind": test.kind, "n": len(test.cases), "failed": failed}
        )
    for entry in found.values():
        low, high = wilson(entry["failed"], entry["n"])
        entry |= {"failure_rate": entry["failed"] / entry["n"], "low": low, "high": high}
    return {"fingerprint": suite_fingerprint(), "capabilities": found}


def _passes(
    test: CapabilityTest, labels: Sequence[str], first: Float64Array, second: Float64Array
) -> BoolArray:
    """Whether each case passes, bool (cases,); `first` and `second` are (cases, classes)."""
    passed: BoolArray
    if test.kind == INVARIANCE:
        moved = np.abs(second - first).max(axis=1)
        passed = (first.argmax(axis=1) == second.argmax(axis=1)) | (moved <= TOLERANCE)
        return passed
    denied = test.expect.startswith("not ")
    column = list(labels).index(test.expect.removeprefix("not "))
    if test.kind == DIRECTION:
        passed = second[:, column] >= first[:, column] - TOLERANCE
    else:
        passed = (first.argmax(axis=1) == column) != denied
    return passed


# --- from templates to cases ---


def _make_test(test: Mapping[str, str], fill: Mapping[str, Sequence[str]]) -> CapabilityTest:
    """Fill the templates of a test in turn until it has enough cases."""
    expect = test.get("expect", "")
    if not {"then", "swap", "change"} & test.keys():
        kind = MINIMUM
    else:
        kind = DIRECTION if expect else INVARIANCE
    random = Random(f"{_SEED} {test['capability']} {test['about']}")
    templates = _alternatives(test["texts"])
    later = _alternatives(test.get("then", ""))
    cases: dict[Case, None] = {}
    for attempt in range(_TRIES * _CASES):
        if len(cases) == _CASES:
            break
        at = attempt % len(templates)
        values: dict[str, str] = {}
        text = _fill(templates[at], fill, values, random)
        if "then" in test:
            changed = _fill(later[at], fill, values, random)
        elif "swap" in test:
            others = [value for value in fill[test["swap"]] if value != values[test["swap"]]]
            values[test["swap"]] = random.choice(others)
            changed = _fill(templates[at], fill, values, random)
        elif "change" in test:
            changed = _CHANGES[test["change"]](text, random)
        else:
            changed = None
        if changed != text:
            cases[Case(text, changed)] = None
    return CapabilityTest(test["capability"], kind, test["about"], expect, tuple(cases))


def _fill(
    template: str, fill: Mapping[str, Sequence[str]], values: dict[str, str], random: Random
) -> str:
    """Replace the slots of a template; what is chosen is in `values`, and stays chosen."""

    def choose(match: re.Match[str]) -> str:
        slot = match[1]
        if slot not in values:
            values[slot] = _fill(random.choice(fill[slot]), fill, values, random)
        return values[slot]

    return _ARTICLE.sub(r"\1n ", _SLOT.sub(choose, template))


def _alternatives(text: str) -> list[str]:
    return [" ".join(each.split()) for each in text.split("|")]


# --- changes ---


def _exchange(text: str, random: Random) -> str:
    """Exchange two letters inside a word of at least five letters."""
    found = list(_LONG_WORD.finditer(text))
    if not found:
        return text
    word = random.choice(found)
    at = random.randrange(word.start() + 1, word.end() - 2)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _drop(text: str, random: Random) -> str:
    """Leave out a letter inside a word of at least five letters."""
    found = list(_LONG_WORD.finditer(text))
    if not found:
        return text
    word = random.choice(found)
    at = random.randrange(word.start() + 1, word.end() - 1)
    return text[:at] + text[at + 1 :]


def _draw_out(text: str, random: Random) -> str:
    """Write a vowel inside a word three times more."""
    found = list(_VOWEL_INSIDE.finditer(text))
    if not found:
        return text
    vowel = random.choice(found)
    return text[: vowel.end()] + 3 * vowel[0] + text[vowel.end() :]


_CHANGES: Final[Mapping[str, Callable[[str, Random], str]]] = {
    "exchange": _exchange,
    "drop": _drop,
    "draw_out": _draw_out,
    "without_apostrophes": lambda text, _: text.replace("'", ""),
    "upper": lambda text, _: text.upper(),
    "lower": lambda text, _: text.lower().rstrip("."),
    "title": lambda text, _: _WORD_START.sub(lambda first: first[0].upper(), text),
}
