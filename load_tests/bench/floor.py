"""The HTTP floor: a bare route on uvicorn that parses a body and returns a small answer.

It shows what a request costs before anything is validated, counted, tokenized or computed. Runs as
`python -m load_tests.bench.floor`, prints its address as a line of JSON and stops on SIGTERM.
"""

import argparse
import json
import socket
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

FRAMEWORKS: Final = ("starlette", "fastapi")

_BACKLOG: Final = 2048
_ANSWER: Final = {
    "model": "floor",
    "version": 1,
    "label": "positive",
    "probabilities": {"negative": 0.25, "positive": 0.75},
    "unknown": 0,
    "truncated": False,
    "reliable": True,
}


async def predict(request: Request) -> Response:
    """Parse the body; answer with an object as large as a prediction."""
    body: dict[str, Any] = json.loads(await request.body())
    return JSONResponse(_ANSWER | {"tokens": len(body["text"])})


async def readyz(_request: Request) -> Response:
    """Report readiness, which holds as soon as the server answers."""
    return Response()


def make_app(framework: str) -> Starlette:
    """Make the two routes on plain Starlette, or on FastAPI without request or response models."""
    if framework == "starlette":
        routes = [
            Route("/predict", predict, methods=["POST"]),
            Route("/readyz", readyz),
        ]
        return Starlette(routes=routes)
    app = FastAPI()
    app.post("/predict", response_model=None)(predict)
    app.get("/readyz", response_model=None)(readyz)
    return app


def main() -> None:
    """Serve until a signal arrives."""
    parser = argparse.ArgumentParser(description="The bare route that the benchmark compares with.")
    parser.add_argument("framework", choices=FRAMEWORKS)
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(json.dumps({"address": address}), flush=True)  # noqa: T201 - the benchmark reads it
    # The options that the service uses.
    config = uvicorn.Config(
        make_app(options.framework),
        log_config=None,
        access_log=False,
        http="httptools",
        server_header=False,
        ws="none",
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
