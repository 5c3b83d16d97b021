"""`POST /predict` writes its answers by hand: what comes out is the JSON that an encoder writes."""

import json
import math
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from app.api.predict import describe_answer
from app.serving.predictor import Prediction
from app.serving.repository import Version

labels = st.text(min_size=1, max_size=12)
probability = st.floats(0, 1)


@given(
    st.text(min_size=1, max_size=8),
    st.integers(1, 10**12),
    st.dictionaries(labels, probability, min_size=1, max_size=5),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_answer_is_json(
    name: str, number: int, probabilities: dict[str, float], tokens: int, truncated: bool
) -> None:
    """Any name, label and probability comes back from the answer as it went in."""
    label = max(probabilities, key=lambda each: probabilities[each])
    version = cast("Version", SimpleNamespace(name=name, number=number))
    answer = describe_answer(version, Prediction(label, probabilities, tokens, truncated))
    expected: dict[str, Any] = {
        "model": name,
        "version": number,
        "label": label,
        "probabilities": probabilities,
        "tokens": tokens,
        "truncated": truncated,
    }
    assert answer == json.loads(json.dumps(expected))
    assert all(math.isfinite(value) for value in answer["probabilities"].values())
