"""Liveness, readiness, metrics, and the models in the repository."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from app.api.error_handlers import document_problems
from app.api.schemas import (
    Calibration,
    KindQuality,
    Liveness,
    ModelCard,
    ModelDetail,
    ModelList,
    ModelSummary,
    Readiness,
    ReliabilityRule,
    VersionComparison,
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
                    "# HELP valence_requests_in_flight Requests for predictions being answered\n"
                    "# TYPE valence_requests_in_flight gauge\n"
                    "valence_requests_in_flight 1.0\n"
                ),
            }
        }
    }
}


def register_probes(app: FastAPI, lifecycle: Lifecycle, workers: Workers | None) -> None:
    """Add `/livez`, and `/readyz`, which covers all workers."""

    async def livez() -> Liveness:
        """200 while the process answers; it never depends on a model."""
        return Liveness()

    async def readyz(response: Response) -> Readiness:
        """200 if the service may receive traffic, else 503 with the reason.

        One worker that can answer is enough; `reason` then says what is wrong with the others.
        """
        state = assess(lifecycle, workers)
        response.status_code = 200 if state.ready else 503
        return state

    app.add_api_route("/livez", livez, tags=["health"])
    app.add_api_route("/readyz", readyz, tags=["health"], responses=_UNREADY)


def assess(lifecycle: Lifecycle, workers: Workers | None) -> Readiness:
    """Whether the service may receive traffic."""
    own = state_of(lifecycle)
    states = current_states(own, workers)
    first = next((state for state in states if state.ready), own)
    ready = first.ready and not lifecycle.draining
    # While the service drains, every worker has the same reason.
    reason = explain_loss(states) if workers and not lifecycle.draining else own.reason
    return Readiness(
        ready=ready,
        phase=(first if ready else own).phase,
        reason=reason or None,
        workers=[state.phase for state in states] if workers else None,
    )


def register_metrics(app: FastAPI, tally: Tally, workers: Workers | None) -> None:
    """Add `/metrics`, which covers all workers."""

    async def metrics() -> Response:
        """All metrics in Prometheus' text format."""
        figures = tally.merge(await workers.gather()) if workers else tally.snapshot()
        return Response(tally.render(figures), media_type=CONTENT_TYPE_LATEST)

    app.add_api_route(
        "/metrics", metrics, tags=["health"], response_class=Response, responses=_METRICS_PAGE
    )


def link_to_model(field: str) -> dict[str, Any]:
    """The link from a response to `/models/{name}` of the model that a field of it names."""
    parameters = {"name": f"$response.body#/{field}"}
    return {"model": {"operationId": "describe_model", "parameters": parameters}}


def state_of(lifecycle: Lifecycle) -> WorkerState:
    """The state of this process now."""
    return WorkerState(lifecycle.phase, lifecycle.ready, lifecycle.reason)


def current_states(own: WorkerState, workers: Workers | None) -> list[WorkerState]:
    """The state of each worker, as last sent; of this one as it is now."""
    if workers is None:
        return [own]
    states = list(workers.states)
    states[workers.number - 1] = own
    return states


def explain_loss(states: Sequence[WorkerState]) -> str:
    """Why not all workers can answer; empty if all can."""
    return "; ".join(
        f"worker {number}: {state.reason}"
        for number, state in enumerate(states, start=1)
        if not state.ready
    )


def register_models(
    app: FastAPI, repository: Repository, lifecycle: Lifecycle, workers: Workers | None
) -> None:
    """Add `/models` and `/models/{name}`."""

    @app.get(
        "/models",
        tags=["models"],
        response_model_exclude_none=True,
        responses={200: {"links": link_to_model("default")}},
    )
    async def list_models() -> ModelList:
        """Every model and version with its state, and the reason if it was rejected."""
        models = [_summarize(repository, name) for name in repository.versions]
        own = state_of(lifecycle)
        loss = explain_loss(current_states(own, workers)) if workers else own.reason
        return ModelList(default=repository.default, reason=loss or None, models=models)

    @app.get(
        "/models/{name}",
        tags=["models"],
        operation_id="describe_model",
        responses=document_problems(404, detail="there is no such model; there are: bow, lstm"),
    )
    async def describe_model(name: str) -> ModelDetail:
        """One model: its versions, and the card of the one that answers by default."""
        if name not in repository.versions:
            names = ", ".join(repository.versions) or "none"
            raise UnknownModel(f"there is no such model; there are: {names}")
        summary = _summarize(repository, name)
        version = repository.answering(name)
        return ModelDetail(**dict(summary), card=_make_card(version) if version else None)


def _summarize(repository: Repository, name: str) -> ModelSummary:
    return ModelSummary(
        name=name,
        default=name == repository.default,
        aliases=dict(repository.aliases(name)) or None,
        reason=repository.notes.get(name, {}).get("reason"),
        versions=[_summarize_version(version) for version in repository.versions[name]],
    )


def _summarize_version(version: Version) -> VersionSummary:
    comparison = version.loaded.comparison if version.loaded else None
    return VersionSummary(
        version=version.number,
        state=version.state,
        reason=version.reason or None,
        engine=version.engine or None,
        labels=list(version.manifest.labels) if version.manifest else None,
        compared=VersionComparison(**asdict(comparison)) if comparison else None,
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
        quality={kind: KindQuality(**dict(each)) for kind, each in manifest.quality.items()},
        reliability=ReliabilityRule(**dict(manifest.reliability)),
    )
