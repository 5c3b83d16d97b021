"""Rules that a correct answer follows, from the public HTTP contract alone.

A load test that only counts status codes would also reward a server that is fast and wrong. Each
function returns the rule that was broken, or None. The rules are a small fixed set of sentences, so
that Locust can count failures by rule.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

SUM_TOLERANCE = 1e-6
"""The largest deviation from 1 of the sum of one text's probabilities."""

SAME_TEXT_TOLERANCE = 1e-5
"""The largest change of a probability when the same text is sent in another batch."""


def wrong_prediction(prediction: Any, labels: Collection[str]) -> str | None:
    """Check the prediction for one text.

    Args:
        prediction: The prediction, as decoded from JSON.
        labels: The labels of the model, as listed by /models.

    Returns:
        The broken rule, or None.
    """
    if not isinstance(prediction, Mapping):
        return "a prediction is an object"
    if "error" in prediction:
        return "a valid text gets a prediction, not an error"
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
    """Check the answer to a request with several texts.

    Args:
        body: The answer, as decoded from JSON.
        labels: The labels of the model, as listed by /models.
        words: The number of words of each text, in the order sent. A text with more words cannot
            have fewer tokens, which reveals predictions in the wrong order.

    Returns:
        The broken rule, or None.
    """
    predictions = body.get("predictions") if isinstance(body, Mapping) else None
    if not isinstance(predictions, list) or len(predictions) != len(words):
        return "there is one prediction per text"
    for prediction in predictions:
        if rule := wrong_prediction(prediction, labels):
            return rule
    tokens = [prediction.get("tokens") for prediction in predictions]
    if not all(isinstance(count, int) for count in tokens):
        return "the number of tokens is an integer"
    by_length = sorted(zip(words, tokens, strict=True))
    in_order = [count for _, count in by_length]
    if in_order != sorted(in_order):
        return "predictions are in the order of the texts"
    return None


def wrong_tensors(body: Any, labels: Sequence[str], count: int) -> str | None:
    """Check the answer of the Open Inference Protocol, in JSON.

    Args:
        body: The answer, as decoded from JSON.
        labels: The labels of the model in the order of /models, which is that of the columns.
        count: The number of texts.

    Returns:
        The broken rule, or None.
    """
    outputs = body.get("outputs") if isinstance(body, Mapping) else None
    if not isinstance(outputs, list) or not all(isinstance(each, Mapping) for each in outputs):
        return "an answer has a list of outputs"
    data = {output.get("name"): output.get("data") for output in outputs}
    chosen, flat = data.get("label"), data.get("probabilities")
    if not isinstance(chosen, list) or len(chosen) != count:
        return "there is one prediction per text"
    if not isinstance(flat, list) or len(flat) != count * len(labels):
        return "there is one probability for each label of the model"
    for index, label in enumerate(chosen):
        row = flat[index * len(labels) : (index + 1) * len(labels)]
        prediction = {"label": label, "probabilities": dict(zip(labels, row, strict=True))}
        if rule := wrong_prediction(prediction, labels):
            return rule
    return None


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Compare two correct predictions for the same text; returns the broken rule, or None."""
    one, other = before["probabilities"], after["probabilities"]
    if any(abs(one[label] - other[label]) > SAME_TEXT_TOLERANCE for label in one):
        return "the same text gets the same answer in every batch"
    return None


def server_timing(header: str) -> dict[str, float]:
    """Read the durations of a Server-Timing header, in milliseconds by metric name.

    Metrics without a duration are skipped.

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
