from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.settings import Settings, explain_settings_error, unknown_variables


def explain(**settings: Any) -> str:
    with pytest.raises(ValidationError) as error:
        Settings(**settings)
    return explain_settings_error(error.value)


def test_defaults() -> None:
    """By default the service listens on the loopback address, and adds no queue delay."""
    settings = Settings()
    assert (settings.host, settings.port, settings.max_queue_delay_ms) == ("127.0.0.1", 8000, 0)
    assert settings.models_dir == Path("models")


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting is read from its variable; an empty variable counts as unset."""
    monkeypatch.setenv("VALENCE_MAX_BATCH_ITEMS", "4")
    monkeypatch.setenv("VALENCE_LOG_LEVEL", "WARNING")
    monkeypatch.setenv("VALENCE_PORT", "")
    settings = Settings()
    assert (settings.max_batch_items, settings.log_level, settings.port) == (4, "warning", 8000)


def test_options_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option overrides the environment."""
    monkeypatch.setenv("VALENCE_PORT", "9000")
    assert Settings(port="9001").port == 9001  # type: ignore[arg-type]  # as from a command line


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"port": 65536}, ["VALENCE_PORT", "65535", "65536"]),
        ({"port": "http"}, ["VALENCE_PORT", "integer", "http"]),
        ({"threads": -1}, ["VALENCE_THREADS", "0"]),
        ({"max_queue_delay_ms": "nan"}, ["VALENCE_MAX_QUEUE_DELAY_MS"]),
        ({"engine": "torch"}, ["VALENCE_ENGINE", "tensorflow"]),
        ({"log_format": "xml"}, ["VALENCE_LOG_FORMAT", "json"]),
        ({"max_queue_items": 10}, ["MAX_TEXTS_PER_REQUEST", "MAX_QUEUE_ITEMS", "1024", "10"]),
        *(
            ({"cors_origins": origins}, ["VALENCE_CORS_ORIGINS", "must be origins", origins])
            for origins in (
                *("example.com", "https://example.com/", "HTTPS://example.com", "null"),
                *("*,https://example.com", "https://*.example.com", "https://a:b@example.com"),
            )
        ),
        ({"metrics_port": 8000}, ["METRICS_PORT", "differ from PORT", "8000"]),
        ({"max_body_bytes": 2**26}, ["MAX_BODIES_BYTES", "twice MAX_BODY_BYTES", "67108864"]),
        ({"drain_timeout_s": 5}, ["REQUEST_TIMEOUT_MS", "DRAIN_TIMEOUT_S", "10000", "5"]),
    ],
)
def test_out_of_bounds(settings: dict[str, Any], words: list[str]) -> None:
    """An invalid value gets one sentence: the name, the rule, and what was received."""
    sentence = explain(**settings)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


def test_typed_option_is_named() -> None:
    """An invalid value of an option is reported with the option's name."""
    with pytest.raises(ValidationError) as error:
        Settings(port=65536, max_queue_items=1)
    sentence = explain_settings_error(error.value, typed=("port", "max_queue_items"))
    assert sentence.startswith("--port must be")


def test_every_setting_is_described() -> None:
    """Each setting has a description for --help."""
    assert all(field.description for field in Settings.model_fields.values())


def test_unknown_variables() -> None:
    """Variables with the prefix that are no setting are found, in any case; others are not ours."""
    names = ["VALENCE_PORT", "valence_host", "VALENCE_SERVICE_HOST", "Valence_Prot", "HOME"]
    assert unknown_variables(names) == ["VALENCE_SERVICE_HOST", "Valence_Prot"]


def test_list_of_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Origins are separated by commas or spaces, in an option as in a variable."""
    origins = ("https://example.com", "http://[::1]:3000")
    assert Settings(cors_origins=", ".join(origins)).cors_origins == origins  # type: ignore[arg-type]
    monkeypatch.setenv("VALENCE_CORS_ORIGINS", " ".join(origins))
    assert Settings().cors_origins == origins
    monkeypatch.setenv("VALENCE_CORS_ORIGINS", "*")
    assert Settings().cors_origins == ("*",)
