"""`GET /docs`: Swagger UI with every route and examples."""

from typing import Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

from app.api.security_headers import protect_page

_MOUNT: Final = '<div id="swagger-ui">'
_FALLBACK: Final = (
    "<p>This page needs Swagger UI, which the browser loads from a public network. Without it, "
    'see <a href="/openapi.json">/openapi.json</a>.</p>'
)
_SWAGGER: Final = "https://cdn.jsdelivr.net"
_NO_ICON: Final = "data:,"


def register_documentation(app: FastAPI) -> None:
    """Add `GET /docs`."""
    swagger = get_swagger_ui_html(
        openapi_url="/openapi.json", title="Valence", swagger_favicon_url=_NO_ICON
    )
    # Swagger UI replaces the contents of its element: the fallback shows only if it cannot load.
    page = bytes(swagger.body).decode().replace(_MOUNT, _MOUNT + _FALLBACK)

    headers = protect_page(page, sources=_SWAGGER)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)
