"""The requirements files fit together, and each has what its make target needs and no more."""

import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
_PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def pins(name: str) -> set[tuple[str, str]]:
    """Name and version of every package in a requirements file."""
    return set(_PIN.findall((REQUIREMENTS / f"{name}.txt").read_text()))


@pytest.mark.parametrize("name", ["serve", "serve-otel", "load"])
def test_one_environment(name: str) -> None:
    """`make setup` installs what `make serve` and `make load` do, in the same versions."""
    assert pins(name) <= pins("dev")


def test_tracing_is_added() -> None:
    """The image `traced` has what that without has, and what sends spans."""
    assert pins("serve") < pins("serve-otel")
    added = {name for name, _ in pins("serve-otel") - pins("serve")}
    assert {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"} <= added


@pytest.mark.parametrize(
    ("name", "needed", "unneeded"),
    [
        ("serve", "onnxruntime", {"tensorflow", "keras", "locust", "pytest", "websockets"}),
        ("load", "locust", {"tensorflow", "onnxruntime", "fastapi", "uvicorn", "numpy"}),
    ],
)
def test_nothing_unneeded(name: str, needed: str, unneeded: set[str]) -> None:
    """Serving installs no training, load tests install no service."""
    packages = {package for package, _ in pins(name)}
    assert needed in packages
    assert packages.isdisjoint(unneeded)
