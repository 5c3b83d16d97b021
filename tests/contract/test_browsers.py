"""What browsers are told: headers of every answer, and which other origins may ask."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from app.api.error_handlers import HTTP_PROBLEMS, refuse_http
from app.api.middleware import VALID_ID
from app.main import DIALECTS
from app.telemetry.metrics import Metrics
from tests.fakes import Running, run_service

pytestmark = pytest.mark.anyio

SITE, OTHER = "https://example.com", "https://example.com.evil.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}


def assert_safe(headers: Any) -> None:
    """No cache keeps the answer, and no browser guesses its type."""
    assert headers.get_list("Cache-Control") == ["no-store"]
    assert headers.get_list("X-Content-Type-Options") == ["nosniff"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/predict", b'{"text": "good"}', 200),
        ("POST", "/predict", b"[", 400),
        ("POST", "/predict", b'{"text": "poison"}', 500),
        ("GET", "/predict", b"", 405),
        ("GET", "/none", b"", 404),
        ("GET", "/models", b"", 200),
        ("GET", "/metrics", b"", 200),
        ("HEAD", "/readyz", b"", 200),
        ("GET", "/docs", b"", 200),
        ("GET", "/openapi.json", b"", 200),
    ],
)
async def test_every_answer(
    running: Running, method: str, path: str, body: bytes, status: int
) -> None:
    """Every answer, errors included, has the headers once."""
    response = await running.client.request(method, path, content=body)
    assert response.status_code == status
    assert_safe(response.headers)


async def test_unexpected_error(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a bug has the headers, too."""
    monkeypatch.setattr("app.api.health._summarize", lambda *_: 1 / 0)
    response = await running.client.get("/models")
    assert response.status_code == 500
    assert_safe(response.headers)


@pytest.mark.parametrize("path", ["/predict", "/v1/models/lstm", "/v2"])
@pytest.mark.parametrize("status", HTTP_PROBLEMS)
async def test_answers_without_the_application(status: int, path: str) -> None:
    """What ends a connection has the headers, although no middleware sees it."""
    headers = refuse_http(Metrics(), status, path, dialects=DIALECTS).headers
    assert VALID_ID.fullmatch(headers["X-Request-ID"].encode())
    assert ("Retry-After" in headers) == (status == 503)
    assert headers.getlist("Cache-Control") == ["no-store"]
    assert headers.getlist("X-Content-Type-Options") == ["nosniff"]


async def test_page(running: Running) -> None:
    """On the page of the documentation only its own scripts run; nobody may frame it."""
    page = await running.client.get("/docs")
    policy = page.headers["Content-Security-Policy"]
    scripts = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    assert scripts
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    (script_source,) = re.findall(r"script-src ([^;]*)", policy)
    assert "unsafe" not in script_source
    assert "frame-ancestors 'none'" in policy
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert "//" not in policy
    for path in re.findall(r'(?:src|href)="(/docs/[^"]+)', page.text):
        assert (await running.client.get(path)).status_code == 200
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page.text)


# --- other origins


async def test_off_by_default(running: Running) -> None:
    """Without the setting no answer names an origin, and a preflight allows nothing."""
    for method in ("GET", "OPTIONS"):
        response = await running.client.request(
            method, "/models", headers={"Origin": SITE, **PREFLIGHT}
        )
        assert not [name for name in response.headers if name.startswith("access-control")]
        assert "vary" not in response.headers
    assert response.status_code == 204


@pytest.mark.parametrize(
    ("setting", "origin", "allowed"),
    [
        (SITE, SITE, SITE),
        (f"http://localhost:3000,{SITE}", SITE, SITE),
        (SITE, OTHER, None),
        (SITE, SITE.upper(), None),
        (SITE, "null", None),
        (SITE, None, None),
        ("*", OTHER, "*"),
        ("*", None, "*"),
    ],
)
async def test_origins(
    fake_models: Path, setting: str, origin: str | None, allowed: str | None
) -> None:
    """Only the exact origins of the setting may read answers, errors included."""
    headers = {"Origin": origin} if origin else {}
    async with run_service(fake_models, cors_origins=setting) as service:
        answers = [
            await service.client.post("/predict", content=body, headers=headers)
            for body in (b'{"text": "good"}', b"[")
        ]
        answers.append(await service.client.get("/none", headers=headers))
    for answer in answers:
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed
        assert answer.headers.get("Vary") == (None if setting == "*" else "Origin")
        assert "access-control-allow-credentials" not in answer.headers
        exposed = answer.headers.get("Access-Control-Expose-Headers", "")
        assert ("X-Request-ID" in exposed) == (allowed is not None)
    assert [answer.status_code for answer in answers] == [200, 400, 404]


@pytest.mark.parametrize(("origin", "allowed"), [(SITE, SITE), (OTHER, None)])
async def test_preflight(
    fake_models: Path, tmp_path: Path, origin: str, allowed: str | None
) -> None:
    """A preflight needs no key; it allows the methods and headers of the API to the origins."""
    keys = tmp_path / "keys.txt"
    line = f"shop {hashlib.sha256(b'key').hexdigest()}"
    keys.write_text(line)
    settings: dict[str, Any] = {"cors_origins": SITE, "api_keys_file": keys}
    async with run_service(fake_models, **settings) as service:
        headers = {"Origin": origin, **PREFLIGHT}
        response = await service.client.options("/predict", headers=headers)
        refused = await service.client.post("/predict", headers={"Origin": origin})
    assert (response.status_code, response.content) == (204, b"")
    assert_safe(response.headers)
    assert "X-Request-ID" in response.headers
    assert response.headers.get("Access-Control-Allow-Origin") == allowed
    names = response.headers.get("Access-Control-Allow-Headers", "").split(", ")
    assert ({"Authorization", "X-API-Key", "Content-Type"} <= {*names}) == (allowed is not None)
    assert refused.status_code == 401
    assert refused.headers.get("Access-Control-Allow-Origin") == allowed
