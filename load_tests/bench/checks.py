"""Whether an answer is right: by the rules, and beside what the model answers in-process."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from load_tests.answers import moved, wrong_prediction

Probabilities = Mapping[str, float]
"""Of each label."""


def check_one(answer: bytes, expected: Probabilities) -> str | None:
    """The rule that the answer to one text breaks, if any."""
    return _check(_parse(answer), expected)


def check_many(answer: bytes, expected: Sequence[Probabilities]) -> str | None:
    """The rule that the answer to several texts breaks, if any; their order is one."""
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
