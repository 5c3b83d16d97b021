"""`GET /`: the console, a page for people; its files, and the pictures of a version."""

import hashlib
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api.middleware import context_of
from app.api.security_headers import CONSOLE, KEPT
from app.errors import UnknownModel
from app.serving.repository import Repository

PAGE, SCRIPT, STYLE = "/", "/console/script.js", "/console/style.css"

_FILES: Final = {
    PAGE: ("index.html", "text/html"),
    SCRIPT: ("script.js", "text/javascript"),
    STYLE: ("style.css", "text/css"),
}
_FOLDER: Final = Path(__file__).parent
_METRICS_LINK: Final = b' <a href="/metrics" id="metrics-link">Metrics</a>'


def register_console(app: FastAPI, repository: Repository, *, metrics_are_here: bool) -> None:
    """Add the routes of the console.

    Args:
        app: The application.
        repository: Whose pictures it shows.
        metrics_are_here: Whether `/metrics` is on the same port. The page has a link to them if so,
            by which its script tells whether it can show their figures.
    """
    for path, (name, media_type) in _FILES.items():
        content = (_FOLDER / name).read_bytes()
        if not metrics_are_here:
            content = content.replace(_METRICS_LINK, b"")
        _add_file(app, path, content, media_type)

    @app.get("/console/pictures/{model}/{version}/{name}", include_in_schema=False)
    async def picture(model: str, version: str, name: str) -> Response:
        """A picture of the report of a version."""
        for each in repository.versions.get(model, ()):
            listed = each.manifest is not None and f"report/{name}" in each.manifest.files
            if str(each.number) == version and listed and name.endswith(".png"):
                try:
                    content = await run_in_threadpool((each.folder / "report" / name).read_bytes)
                except OSError:
                    break
                return Response(content, media_type="image/png")
        raise UnknownModel("there is no such picture")


def _add_file(app: FastAPI, path: str, content: bytes, media_type: str) -> None:
    """Add a file, which browsers keep and ask for again with its tag."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    # Weak, because it is the same for an answer that is packed on the way.
    headers = {"ETag": f"W/{tag}", **(CONSOLE if path == PAGE else {})}

    async def get_file(request: Request) -> Response:
        context_of(request.scope).protection = KEPT
        if tag in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    app.add_api_route(path, get_file, include_in_schema=False, response_class=Response)
