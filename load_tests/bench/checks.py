"""Check answers: by the rules of the contract, and against the in-process predictions."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from load_tests.answers import moved, wrong_prediction

Probabilities = Mapping[str, float]
"""The probabilities of one text, by label."""


def check_one(answer: bytes, expected: Probabilities) -> str | None:
    """Check the answer to a request with one text; returns the broken rule, or None."""
    return _check(_parse(answer), expected)


def check_many(answer: bytes, expected: Sequence[Probabilities]) -> str | None:
    """Check the answer to a request with several texts, their order included."""
    body = _parse(answer)
    predictions = body.get("predictions") if isinstance(body, Mapping) else None
    if not isinstance(predictions, list) or len(predictions) != len(expected):
        return "there is one prediction per text"
    rules = (_check(*pair) for pair in zip(predictions, expected, strict=True))
    return next((rule for rule in rules if rule), None)


def _check(prediction: Any, expected: Probabilities) -> str | None:
    rule = wrong_prediction(prediction, expected.keys())
    return rule or moved({"probabilities": expected}, prediction)


def _parse(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return None
