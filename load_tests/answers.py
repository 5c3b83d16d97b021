"""What a right answer looks like, to someone who knows only the public surface.

A load test that counts status codes measures how fast a server can be wrong. Each function returns
a sentence on the rule that was broken, from a small fixed set so that Locust can count them, or
None.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

SUM_TOLERANCE = 1e-6
"""How far from 1 the probabilities of one text may add up."""

SAME_TEXT_TOLERANCE = 1e-5
"""How far a probability may move when the same text is asked in other company."""


def wrong_prediction(prediction: Any, labels: Collection[str]) -> str | None:
    """The rule that one text's answer breaks, if any.

    Args:
        prediction: From the answer's JSON.
        labels: The labels of the model, as /models gives them.
    """
    if not isinstance(prediction, Mapping):
        return "a prediction is an object"
    if "error" in prediction:
        return "a good text gets a prediction, not an error"
    probabilities = prediction.get("probabilities")
    if not isinstance(probabilities, Mapping) or set(probabilities) != set(labels):
        return "there is one probability for each label of the model"
    values = list(probabilities.values())
    if not all(isinstance(value, int | float) and 0 <= value <= 1 for value in values):
        return "a probability is a number from 0 to 1"
    if abs(sum(values) - 1) > SUM_TOLERANCE:
        return "probabilities sum to 1"
    label = prediction.get("label")
    if label not in probabilities or probabilities[label] < max(values):
        return "the label is the one with the highest probability"
    return None


def wrong_predictions(body: Any, labels: Collection[str], words: Sequence[int]) -> str | None:
    """The rule that the answer to several texts breaks, if any.

    Args:
        body: The answer's JSON.
        labels: The labels of the model.
        words: Words in each text that was sent, in that order. A longer text cannot have fewer
            tokens, which is how answers in the wrong order show.
    """
    predictions = body.get("predictions") if isinstance(body, Mapping) else None
    if not isinstance(predictions, list) or len(predictions) != len(words):
        return "there is one prediction per text"
    for prediction in predictions:
        if rule := wrong_prediction(prediction, labels):
            return rule
    tokens = [prediction.get("tokens") for prediction in predictions]
    if not all(isinstance(count, int) for count in tokens):
        return "tokens is a whole number"
    by_length = sorted(zip(words, tokens, strict=True))
    in_order = [count for _, count in by_length]
    if in_order != sorted(in_order):
        return "predictions are in the order of the texts"
    return None


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """The rule that two right answers to one text break, if any."""
    one, other = before["probabilities"], after["probabilities"]
    if any(abs(one[label] - other[label]) > SAME_TEXT_TOLERANCE for label in one):
        return "the same text gets the same answer, whatever it is batched with"
    return None


def server_timing(header: str) -> dict[str, float]:
    """Milliseconds by name, of a Server-Timing header; what has no duration is left out.

    Source:
        W3C, Server Timing, section 3: `name;dur=1.5;desc="...", name;dur=...`.
    """
    result: dict[str, float] = {}
    for metric in header.split(","):
        name, *parameters = (part.strip() for part in metric.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "dur":
                result[name] = float(value)
    return result
