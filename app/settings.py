"""All settings of the service, with their bounds; the unit is in the name.

Each is read from the option of `valence serve` with the same name, or from the environment variable
with the prefix `VALENCE_`.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_PREFIX = "VALENCE_"

_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


class Settings(BaseSettings):
    """The settings of one service."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, env_ignore_empty=True)

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0: any free port")
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="port for /metrics alone (default: on the other port)"
    )

    workers: int = Field(
        0,
        ge=0,
        le=256,
        description="worker processes; 0: one per core on ONNX Runtime, one on TensorFlow",
    )

    models_dir: Path = Field(Path("models"), description="folder of models: <name>/<version>/")
    default_model: str | None = Field(
        None, description="model for requests that name none (default: lstm, else the first)"
    )
    engine: Literal["auto", "tensorflow", "onnx"] = Field(
        "auto", description="library that runs the models: auto, tensorflow or onnx"
    )
    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="device that runs the models: auto, cpu or gpu"
    )
    threads: int = Field(
        0,
        ge=0,
        le=256,
        description="batches that each worker runs at once, one core each; 0: its share of cores",
    )

    # Measured with make bench: larger batches bring no throughput, more padding and more memory.
    max_batch_items: int = Field(8, ge=1, le=4096, description="maximum texts per batch")
    max_batch_tokens: int = Field(
        16_384, ge=1, le=2**24, description="maximum tokens per batch, padding included"
    )
    max_queue_delay_ms: float = Field(
        0, ge=0, le=1000, description="how long an idle engine waits for a batch to fill"
    )
    max_queue_items: int = Field(
        4096, ge=1, le=2**20, description="maximum texts in the queue of each worker"
    )
    max_queue_bytes: int = Field(
        64 * 2**20, ge=1024, le=2**40, description="maximum bytes of the texts in all its queues"
    )
    # A run takes a few hundredths of a second; after this long it will not end.
    engine_timeout_s: float = Field(
        10, ge=0.1, le=3600, description="after so long a model run is given up, and its worker"
    )

    max_text_chars: int = Field(100_000, ge=1, le=10**7, description="maximum characters per text")
    max_texts_per_request: int = Field(
        1024, ge=1, le=2**16, description="maximum texts per request"
    )
    max_body_bytes: int = Field(
        4 * 2**20, ge=64, le=2**30, description="maximum bytes per request body"
    )
    # As much as the queue may hold of texts, and 16 of the largest bodies.
    max_bodies_bytes: int = Field(
        64 * 2**20,
        ge=1024,
        le=2**40,
        description="maximum bytes of all request bodies in flight in each worker",
    )
    request_timeout_ms: int = Field(
        10_000, ge=1, le=600_000, description="default and maximum deadline of a request"
    )

    header_timeout_s: float = Field(
        10, ge=0.1, le=600, description="how long the head of a request may take to arrive"
    )
    min_body_bytes_per_s: int = Field(
        240, ge=0, le=2**30, description="slowest body after its first 5 s; 0: any"
    )
    max_connections: int = Field(
        4096, ge=1, le=2**20, description="maximum open connections of each worker"
    )
    api_keys_file: Path | None = Field(
        None, description="file with the hashes of the API keys (default: no key is needed)"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins whose web pages may ask, with commas between, or * (default: none)"
    )
    console: Literal["on", "off"] = Field(
        "on", description="whether / is the console, a page for people: on or off"
    )
    reload_poll_s: float = Field(
        10, ge=0, le=86_400, description="seconds between looks for new versions; 0: on SIGHUP only"
    )

    # Above 0: a request that a client sends on an idle connection while the server closes it is
    # lost. During the delay each answer asks its client to close; see docs/kubernetes.md.
    drain_delay_s: float = Field(
        5, ge=0, le=600, description="after SIGTERM, how long to answer while unready"
    )
    drain_timeout_s: int = Field(
        25, ge=1, le=3600, description="after that, how long open requests may take to finish"
    )

    access_log: Literal["off", "errors", "all"] = Field(
        "errors", description="requests that are logged: off, errors (from status 400) or all"
    )
    log_format: Literal["json", "text"] | None = Field(
        None, description="json or text (default: text on a terminal, else json)"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is logged: debug, info, warning or error"
    )

    tracing: Literal["off", "otlp"] = Field(
        "off", description="whether spans are sent by OpenTelemetry: off or otlp"
    )

    @field_validator(
        *("log_format", "log_level", "access_log", "tracing", "engine", "device", "console"),
        mode="before",
    )
    @classmethod
    def _lower(cls, value: object, _info: ValidationInfo) -> object:
        """Accept these words in any case."""
        return value.lower() if isinstance(value, str) else value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object, _info: ValidationInfo) -> object:
        """Accept one string with commas or spaces between the origins."""
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        """Check that each is written as browsers send it, or that * is alone."""
        if origins != ("*",) and not all(map(_ORIGIN.fullmatch, origins)):
            raise ValueError(
                "must be origins such as https://example.com or http://localhost:3000, in lower "
                "case and without a path, or * alone"
            )
        return origins

    @model_validator(mode="after")
    def _nest(self) -> Self:
        """Check the bounds that depend on other settings."""
        if self.metrics_port == self.port != 0:
            raise ValueError(f"METRICS_PORT must differ from PORT. Received: {self.port} for both")
        if self.max_texts_per_request > self.max_queue_items:
            raise ValueError(
                "MAX_TEXTS_PER_REQUEST must be at most MAX_QUEUE_ITEMS, so that every request fits "
                f"into the queue. Received: {self.max_texts_per_request} and {self.max_queue_items}"
            )
        if 2 * self.max_body_bytes > self.max_bodies_bytes:
            raise ValueError(
                "MAX_BODIES_BYTES must be at least twice MAX_BODY_BYTES, so that a body finds room "
                f"beside others. Received: {self.max_bodies_bytes} and {self.max_body_bytes}"
            )
        if self.request_timeout_ms >= self.drain_timeout_s * 1000:
            raise ValueError(
                "REQUEST_TIMEOUT_MS must be shorter than DRAIN_TIMEOUT_S, so that open requests "
                f"finish. Received: {self.request_timeout_ms} ms and {self.drain_timeout_s} s"
            )
        return self


def explain_settings_error(error: ValidationError, typed: Collection[str] = ()) -> str:
    """The first invalid setting, in one sentence.

    Args:
        error: As raised by `Settings`.
        typed: Names of the settings that were given as options; the sentence calls them by option.
    """
    first = error.errors()[0]
    if not first["loc"]:
        return first["msg"].removeprefix("Value error, ")
    field = str(first["loc"][0])
    name = f"--{field.replace('_', '-')}" if field in typed else f"{ENV_PREFIX}{field.upper()}"
    rule = first["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
    return f"{name} {rule}. Received: {first['input']}"


def unknown_variables(names: Iterable[str]) -> list[str]:
    """The environment variables that look like a setting and are none, in alphabetical order.

    Kubernetes makes some: `VALENCE_SERVICE_HOST` and the like for a Service named valence.

    Args:
        names: The names of all environment variables; case does not matter.
    """
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    return sorted(n for n in names if n.upper().startswith(ENV_PREFIX) and n.upper() not in known)
