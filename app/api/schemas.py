"""The bodies of requests and answers, for the OpenAPI document.

FastAPI validates and writes the answers of `GET` routes with them. The body of `POST /predict` is
only documented here; `app.api.body` parses it.
"""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Body(BaseModel):
    """A JSON object without undeclared fields."""

    model_config = ConfigDict(extra="forbid")


class PredictRequest(_Body):
    """One text or several, and the model that answers. Exactly one of `text` and `texts`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "A warm, funny film that I will happily watch again."},
                {
                    "texts": ["A warm, funny film.", "Two hours I will never get back."],
                    "model": "lstm",
                },
                {"text": "A warm, funny film.", "explain": True},
            ],
            "oneOf": [{"required": ["text"]}, {"required": ["texts"]}],
        }
    )

    text: str = Field(default_factory=str, min_length=1, description="One text.")
    texts: list[str] = Field(
        default_factory=list,
        min_length=1,
        description="Several texts. An invalid one fails alone, in its place.",
    )
    model: str | None = Field(default=None, description="The default model if omitted.")
    version: int | str | None = Field(
        default=None,
        description="A number, or an alias such as stable or canary. If omitted: the alias stable "
        "if there is one, else the newest ready version.",
    )
    explain: bool | None = Field(
        default=None,
        description="Whether the answer says how much each word contributed; with at most 16 "
        "texts.",
    )


class ClassifyRequest(_Body):
    """The body that Hugging Face's clients send."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"inputs": "A warm, funny film."},
                {
                    "inputs": ["A warm, funny film.", "Two hours I will never get back."],
                    "parameters": {"top_k": 1},
                },
            ],
            "required": ["inputs"],
        }
    )

    inputs: str | list[str] | list[list[str]] = Field(
        default_factory=str, description="One text, or a list of texts."
    )
    parameters: dict[str, Any] | None = Field(
        default=None, description="top_k, and function_to_apply, which must be softmax."
    )
    raw_scores: Literal[False] | None = Field(default=None, description="Must be false.")
    truncate: bool | None = Field(
        default=None, description="False refuses a text that is longer than the model reads."
    )
    model: str | None = Field(default=None, description="The default model if omitted.")
    version: int | str | None = Field(default=None, description="A number, or an alias.")


class LabelScore(_Body):
    """One label of a text with its probability; the best comes first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"label": "positive", "score": 0.98}]}
    )

    label: str
    score: float


class ItemProblem(_Body):
    """Why one text of a list has no prediction."""

    type: str
    title: str
    status: int
    detail: str


class Problem(_Body):
    """Problem details (RFC 9457). The detail names the field and the rule; it quotes no text."""

    type: str = Field(description="A URI that identifies the problem type.")
    title: str
    status: int
    detail: str
    request_id: str = Field(description="The same as in the header X-Request-ID.")


class WordContribution(_Body):
    """How much one word contributed to the label."""

    start: int = Field(description="Of the word in the text as sent, in Unicode code points.")
    end: int = Field(description="After the word.")
    contribution: float = Field(
        description="How much the log-odds of the label fall without the word; negative if it "
        "speaks against the label."
    )
    known: bool = Field(description="Whether the word is in the model's vocabulary.")


class TextPrediction(_Body):
    """The prediction for one text."""

    label: str = Field(
        description="The most probable label. If the text cannot be judged, it is neutral, or "
        "without that label the first one."
    )
    probabilities: dict[str, float] = Field(description="One for each label; they sum to 1.")
    tokens: int = Field(
        description="Tokens of the whole text: words, ! and ?, emoji, emoticons, ratings, grades."
    )
    unknown: int = Field(description="Those of them that are not in the model's vocabulary.")
    truncated: bool = Field(description="Whether the text was longer than the model reads.")
    reliable: bool = Field(
        description="False if the model cannot judge the text: it knows no token, or too few by "
        "the rule on its card. Then the probabilities are equal."
    )
    explanation: list[WordContribution] | None = Field(
        default=None,
        description="With explain: every word that the model reads, and every ! and ?, in order.",
    )


class TextFailure(_Body):
    """Takes the place of the prediction for an invalid text."""

    error: ItemProblem


_EXAMPLE_PREDICTION: Final[dict[str, Any]] = {
    "label": "positive",
    "probabilities": {"negative": 0.0213, "positive": 0.9787},
    "tokens": 10,
    "unknown": 0,
    "truncated": False,
    "reliable": True,
}


class PredictResponse(TextPrediction):
    """The response to `text`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "lstm", "version": 1, **_EXAMPLE_PREDICTION},
                {
                    "model": "lstm",
                    "version": 1,
                    **_EXAMPLE_PREDICTION,
                    "explanation": [
                        {"start": 0, "end": 1, "contribution": -0.0214, "known": True},
                        {"start": 2, "end": 6, "contribution": 0.4127, "known": True},
                    ],
                },
            ]
        }
    )

    model: str
    version: int


class PredictListResponse(_Body):
    """The response to `texts`, in the order of the request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "lstm",
                    "version": 1,
                    "predictions": [
                        _EXAMPLE_PREDICTION,
                        {
                            "error": {
                                "type": "urn:valence:problem:invalid-input",
                                "title": "A field is wrong",
                                "status": 422,
                                "detail": "text must have a character other than white space",
                            }
                        },
                    ],
                }
            ]
        }
    )

    model: str
    version: int
    predictions: list[TextPrediction | TextFailure]


class VersionComparison(_Body):
    """How a version differs from another one, on its golden texts."""

    version: int = Field(description="The other version.")
    texts: int
    mean_difference: float = Field(description="Mean absolute difference of the probabilities.")
    changed_labels: float = Field(description="Share of the texts whose label differs.")


class VersionSummary(_Body):
    """One version and its state."""

    version: int
    state: str = Field(description="waiting, loading, ready, rejected or removed")
    reason: str | None = Field(
        default=None, description="Why it does not serve, or what is wrong with its folder."
    )
    engine: str | None = Field(
        default=None, description="The engine that runs it, once it is ready."
    )
    labels: list[str] | None = Field(
        default=None, description="In the order of the model's outputs."
    )
    compared: VersionComparison | None = Field(
        default=None, description="How it differs from the version that was in service before it."
    )


class ModelSummary(_Body):
    """One model and its versions, newest first."""

    name: str
    default: bool = Field(description="Whether it answers requests that name no model.")
    aliases: dict[str, int | float] | None = Field(
        default=None, description="The version each alias stands for, and `canary_share`."
    )
    reason: str | None = Field(default=None, description="Why its aliases.json is refused.")
    versions: list[VersionSummary]


_EXAMPLE_MODEL: Final[dict[str, Any]] = {
    "name": "lstm",
    "default": True,
    "versions": [
        {
            "version": 1,
            "state": "ready",
            "engine": "tensorflow",
            "labels": ["negative", "positive"],
        }
    ],
}


class ModelList(_Body):
    """All models in the repository."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"default": "lstm", "models": [_EXAMPLE_MODEL]}]}
    )

    default: str | None
    reason: str | None = Field(
        default=None, description="Why not all workers can answer, in the words of /readyz."
    )
    models: list[ModelSummary]


class Calibration(_Body):
    """How the probabilities were calibrated."""

    temperature: float = Field(
        description="The logits are divided by it, inside the model; those of short texts may have "
        "another divisor in addition, which the limits then mention."
    )


class KindQuality(_Body):
    """What a version is worth on texts of one kind."""

    texts: int = Field(description="Texts with an opinion.")
    accuracy: float | None = Field(default=None, description="The share with the right label.")
    interval: tuple[float, float] | None = Field(
        default=None, description="95 % confidence interval of the accuracy."
    )
    calibration_error: float | None = None
    sure_and_wrong: float | None = Field(
        default=None, description="The share with a wrong label and more than 0.8."
    )
    neutral_texts: int = Field(default=0, description="Texts without an opinion.")
    undecided: float | None = Field(
        default=None, description="The share of those in which no label has more than 0.8."
    )


class ReliabilityRule(_Body):
    """Which texts a version can judge. All others get even odds and `reliable` false."""

    max_unknown_share: float = Field(
        description="The largest share of unknown tokens, of those that the model reads."
    )
    min_known_tokens: int = Field(description="The fewest known tokens.")
    measured: dict[str, float] = Field(description="The figures that led to the rule.")


class ModelCard(_Body):
    """The model card: data, metrics, quality by kind of text, calibration and limits."""

    version: int
    architecture: str
    created: str
    data: dict[str, Any]
    metrics: dict[str, dict[str, dict[str, float]]]
    calibration: Calibration
    limits: list[str]
    quality: dict[str, KindQuality] = Field(
        description="What it is worth, by kind of text; empty if that was not measured."
    )
    reliability: ReliabilityRule


class ModelDetail(ModelSummary):
    """One model, with the card of the version that answers by default."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_EXAMPLE_MODEL,
                    "card": {
                        "version": 1,
                        "architecture": "lstm",
                        "created": "2026-01-31T12:00:00+00:00",
                        "data": {"name": "imdb", "counts": {"train": 22500, "test": 25000}},
                        "metrics": {"test": {"tensorflow": {"accuracy": 0.89}}},
                        "calibration": {"temperature": 1.1},
                        "limits": ["Trained on English film reviews."],
                        "quality": {
                            "imdb test": {
                                "texts": 25000,
                                "accuracy": 0.9337,
                                "interval": [0.9305, 0.9367],
                                "calibration_error": 0.008,
                            }
                        },
                        "reliability": {
                            "max_unknown_share": 0.6,
                            "min_known_tokens": 1,
                            "measured": {"level": 0.8},
                        },
                    },
                }
            ]
        }
    )

    card: ModelCard | None = Field(
        description="The card of the version that answers by default; null if there is none."
    )


class Readiness(_Body):
    """Whether the service may receive traffic."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"ready": True, "phase": "ready", "reason": None, "workers": ["ready", "ready"]},
                {
                    "ready": True,
                    "phase": "ready",
                    "reason": "worker 2: died; it is being replaced",
                    "workers": ["ready", "starting"],
                },
                {
                    "ready": False,
                    "phase": "warming",
                    "reason": "worker 1: the models are being loaded; worker 2: starting",
                    "workers": ["warming", "starting"],
                },
            ]
        }
    )

    ready: bool
    phase: str
    reason: str | None = None
    workers: list[str] | None = Field(
        default=None, description="The phase of each worker, if there are several."
    )


class Liveness(_Body):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"live": True}]})

    live: bool = True
