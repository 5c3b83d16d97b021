"""`GET /docs`: Swagger UI with every route and examples, without any other host.

The script and the style are files of the package `fastapi-offline`, whose code is not used.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from app.api.security_headers import protect_page

SCRIPT, STYLE = "/docs/swagger-ui.js", "/docs/swagger-ui.css"

_PACKAGE: Final = "fastapi_offline"
_FILES: Final = {
    SCRIPT: ("swagger-ui-bundle.js", "text/javascript"),
    STYLE: ("swagger-ui.css", "text/css"),
}
_MOUNT: Final = '<div id="swagger-ui">'
_FALLBACK: Final = (
    '<p>This page needs JavaScript. Without it, see <a href="/openapi.json">/openapi.json</a>.</p>'
)
_NO_ICON: Final = "data:,"


def register_documentation(app: FastAPI) -> None:
    """Add `GET /docs` and its files."""
    swagger = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Valence",
        swagger_js_url=SCRIPT,
        swagger_css_url=STYLE,
        swagger_favicon_url=_NO_ICON,
    )
    # Swagger UI replaces the contents of its element: the fallback shows only if it does not run.
    page = bytes(swagger.body).decode().replace(_MOUNT, _MOUNT + _FALLBACK)
    headers = protect_page(page, sources="'self'")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    def add_file(path: str, name: str, media_type: str) -> None:
        async def get_file() -> Response:
            content = await run_in_threadpool((_folder() / name).read_bytes)
            return Response(content, media_type=media_type)

        add: Any = app.add_api_route
        add(path, get_file, include_in_schema=False)

    for path, (name, media_type) in _FILES.items():
        add_file(path, name, media_type)


@cache
def _folder() -> Path:
    """Where the package has the files; it is not imported."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(_PACKAGE)
    return Path(spec.origin).parent / "static"
