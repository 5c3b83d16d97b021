"""Every knob of the service, once, with its bounds; the unit is in the name.

Each is read from the environment variable `VALENCE_` plus its name, or from the option of
`valence serve` with the same words.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ENV_PREFIX = "VALENCE_"


class Settings(BaseSettings):
    """How one process of the service runs."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, env_ignore_empty=True)

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")

    workers: int = Field(
        0,
        ge=0,
        le=256,
        description="processes behind the port; 0: one for each core where models run on ONNX "
        "Runtime, else 1",
    )

    models_dir: Path = Field(Path("models"), description="folder of <name>/<version>/")
    default_model: str | None = Field(
        None, description="model that answers when none is named; else lstm, else the first"
    )
    engine: Literal["auto", "tensorflow", "onnx"] = Field(
        "auto", description="what runs a model: auto, tensorflow or onnx"
    )
    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="where it runs: auto, cpu or gpu"
    )
    threads: int = Field(
        0,
        ge=0,
        le=256,
        description="batches that run at once in each worker, a core each; 0: its share of cores",
    )

    # By make bench: more rows answer no more requests, pad more and take more memory.
    max_batch_items: int = Field(8, ge=1, le=4096, description="texts of one batch at most")
    max_batch_tokens: int = Field(
        16_384, ge=1, le=2**24, description="padded tokens of one batch at most"
    )
    max_queue_delay_ms: float = Field(
        0, ge=0, le=1000, description="how long an idle engine waits for a batch to fill"
    )
    max_queue_items: int = Field(
        4096, ge=1, le=2**20, description="texts waiting at most, in each worker"
    )

    max_text_chars: int = Field(100_000, ge=1, le=10**7, description="characters of one text")
    max_texts_per_request: int = Field(1024, ge=1, le=2**16, description="texts of one request")
    max_body_bytes: int = Field(4 * 2**20, ge=64, le=2**30, description="bytes of one body")
    request_timeout_ms: int = Field(
        10_000, ge=1, le=600_000, description="the longest deadline, and the one by default"
    )

    drain_delay_s: float = Field(
        0, ge=0, le=600, description="after SIGTERM: unready, but still answering, this long"
    )
    drain_timeout_s: int = Field(
        25, ge=1, le=3600, description="then: time to finish what was admitted"
    )

    log_format: Literal["json", "text"] | None = Field(
        None, description="json or text; by default text on a terminal, json elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error: this and worse is logged"
    )

    @field_validator("log_format", "log_level", "engine", "device", mode="before")
    @classmethod
    def _lower(cls, value: object, _info: ValidationInfo) -> object:
        """Words are read in any case."""
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _nest(self) -> Self:
        """Limits that depend on each other."""
        if self.max_texts_per_request > self.max_queue_items:
            raise ValueError(
                "MAX_TEXTS_PER_REQUEST must be at most MAX_QUEUE_ITEMS, or a request could never "
                f"be admitted. Received: {self.max_texts_per_request} and {self.max_queue_items}"
            )
        if self.request_timeout_ms >= self.drain_timeout_s * 1000:
            raise ValueError(
                "REQUEST_TIMEOUT_MS must be shorter than DRAIN_TIMEOUT_S, or a request could be "
                f"cut off. Received: {self.request_timeout_ms} ms and {self.drain_timeout_s} s"
            )
        return self


def explain_settings_error(error: ValidationError, typed: Collection[str] = ()) -> str:
    """The first thing that is wrong with the settings, in one sentence.

    Args:
        error: What pydantic found.
        typed: The settings that came as options of a call; they are named as options.
    """
    first = error.errors()[0]
    if not first["loc"]:
        return first["msg"].removeprefix("Value error, ")
    field = str(first["loc"][0])
    name = f"--{field.replace('_', '-')}" if field in typed else f"{ENV_PREFIX}{field.upper()}"
    rule = first["msg"].replace("Input should be", "must be")
    return f"{name} {rule}. Received: {first['input']}"
