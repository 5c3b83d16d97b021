"""Liveness, readiness, metrics, and the models in the repository."""

from typing import Any, Final

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from app.api.error_handlers import document_problems
from app.api.schemas import (
    Calibration,
    Liveness,
    ModelCard,
    ModelDetail,
    ModelList,
    ModelSummary,
    Readiness,
    VersionSummary,
)
from app.errors import UnknownModel
from app.serving.lifecycle import Lifecycle
from app.serving.repository import Repository, Version
from app.telemetry.tally import Tally
from app.workers import Workers, WorkerState

_UNREADY: Final[dict[int | str, dict[str, Any]]] = {
    503: {"model": Readiness, "description": "Not ready; `reason` says why"}
}
_METRICS_PAGE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            "text/plain": {
                "schema": {"type": "string"},
                "example": (
                    "# HELP valence_requests_in_flight Requests being handled\n"
                    "# TYPE valence_requests_in_flight gauge\n"
                    "valence_requests_in_flight 1.0\n"
                ),
            }
        }
    }
}


def register_health(
    app: FastAPI, lifecycle: Lifecycle, tally: Tally, workers: Workers | None
) -> None:
    """Add `/livez`, `/readyz` and `/metrics`; the latter two cover all workers."""

    async def livez() -> Liveness:
        """200 while the process answers; it never depends on a model."""
        return Liveness()

    async def readyz(response: Response) -> Readiness:
        """200 if the service may receive traffic, else 503 with the reason."""
        states = [WorkerState(lifecycle.phase, lifecycle.ready, lifecycle.reason)]
        states += workers.states if workers else ()
        phases = [state.phase for state in states[1:]] or None
        for state in states:
            if not state.ready:
                response.status_code = 503
                return Readiness(
                    ready=False, phase=state.phase, reason=state.reason, workers=phases
                )
        return Readiness(ready=True, phase=lifecycle.phase, workers=phases)

    async def metrics() -> Response:
        """All metrics in Prometheus' text format."""
        figures = tally.merge(await workers.gather()) if workers else tally.snapshot()
        return Response(tally.render(figures), media_type=CONTENT_TYPE_LATEST)

    for path, probe in (("/livez", livez), ("/readyz", readyz)):
        # Some load balancers probe with HEAD. Starlette takes `Allow` from the first route.
        app.add_api_route(path, probe, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/livez", livez, tags=["health"])
    app.add_api_route("/readyz", readyz, tags=["health"], responses=_UNREADY)
    app.add_api_route(
        "/metrics", metrics, tags=["health"], response_class=Response, responses=_METRICS_PAGE
    )


def register_models(app: FastAPI, repository: Repository) -> None:
    """Add `/models` and `/models/{name}`."""

    @app.get("/models", tags=["models"], response_model_exclude_none=True)
    async def list_models() -> ModelList:
        """Every model and version with its state, and the reason if it was rejected."""
        models = [_summarize(repository, name) for name in repository.versions]
        return ModelList(default=repository.default, models=models)

    @app.get(
        "/models/{name}",
        tags=["models"],
        responses=document_problems(404, detail="there is no such model; there are: bow, lstm"),
    )
    async def describe_model(name: str) -> ModelDetail:
        """One model: its versions, and the card of the newest ready one."""
        if name not in repository.versions:
            names = ", ".join(repository.versions) or "none"
            raise UnknownModel(f"there is no such model; there are: {names}")
        summary = _summarize(repository, name)
        version = repository.newest_ready(name)
        return ModelDetail(**dict(summary), card=_make_card(version) if version else None)


def _summarize(repository: Repository, name: str) -> ModelSummary:
    return ModelSummary(
        name=name,
        default=name == repository.default,
        versions=[_summarize_version(version) for version in repository.versions[name]],
    )


def _summarize_version(version: Version) -> VersionSummary:
    return VersionSummary(
        version=version.number,
        state=version.state,
        reason=version.reason or None,
        engine=version.engine or None,
        labels=list(version.manifest.labels) if version.manifest else None,
    )


def _make_card(version: Version) -> ModelCard | None:
    manifest = version.manifest
    if manifest is None:
        return None
    return ModelCard(
        version=manifest.version,
        architecture=manifest.architecture,
        created=manifest.created,
        data=manifest.data.model_dump(),
        metrics=manifest.metrics,
        calibration=Calibration(temperature=manifest.temperature),
        limits=list(manifest.limits),
    )
