"""The response of `POST /predict` is the JSON of the prediction, value by value."""

import json
import math
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from app.api.body import PredictCall
from app.api.predict import write_predictions
from app.serving.predictor import Prediction, Result
from app.serving.repository import Version

labels = st.text(min_size=1, max_size=12)
probability = st.floats(0, 1)


@given(
    st.text(min_size=1, max_size=8),
    st.integers(1, 10**12),
    st.dictionaries(labels, probability, min_size=1, max_size=5),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.booleans(),
    st.booleans(),
)
def test_response_is_json(
    name: str,
    number: int,
    probabilities: dict[str, float],
    tokens: int,
    unknown: int,
    truncated: bool,
    reliable: bool,
) -> None:
    """Any name, label and probability is the same in the response, to the last bit."""
    label = max(probabilities, key=lambda each: probabilities[each])
    version = cast("Version", SimpleNamespace(name=name, number=number))
    prediction = Prediction(label, probabilities, tokens, unknown, truncated, reliable)
    result = Result([prediction], 0.0, 0.0, 0.0)
    item: dict[str, Any] = {
        "label": label,
        "probabilities": probabilities,
        "tokens": tokens,
        "unknown": unknown,
        "truncated": truncated,
        "reliable": reliable,
    }
    about = {"model": name, "version": number}
    single, _ = write_predictions(version, PredictCall(["text"], {}, True, None, None), result)
    several, _ = write_predictions(version, PredictCall(["text"], {}, False, None, None), result)
    assert json.loads(single) == about | item
    assert json.loads(several) == about | {"predictions": [item]}
    assert all(math.isfinite(p) for p in json.loads(single)["probabilities"].values())
