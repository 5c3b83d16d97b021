"""`GET /docs`: every route with examples, to try in the browser."""

from typing import Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

_MOUNT: Final = '<div id="swagger-ui">'
_FALLBACK: Final = (
    "<p>This page is drawn by Swagger UI, which the browser loads from a public network. If "
    'nothing more appears, the same is in <a href="/openapi.json">/openapi.json</a>.</p>'
)
_NO_ICON: Final = "data:,"


def register_documentation(app: FastAPI) -> None:
    """Add `GET /docs`."""
    drawn = get_swagger_ui_html(
        openapi_url="/openapi.json", title="Valence", swagger_favicon_url=_NO_ICON
    )
    # Swagger UI replaces what stands in its place, so this is seen only where it does not come.
    page = bytes(drawn.body).decode().replace(_MOUNT, _MOUNT + _FALLBACK)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page)
