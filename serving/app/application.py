"""The FastAPI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles

from serving.app.backups.router import router as backups
from serving.app.chat.router import router as chat
from serving.app.collections.router import router as collections
from serving.app.configuration.router import router as configuration
from serving.app.dependencies import (
    TO_ADMINISTER,
    TO_INGEST,
    TO_MANAGE,
    TO_MEASURE,
    TO_QUERY,
)
from serving.app.described import (
    ALWAYS,
    MANAGED,
    UPLOADED,
    WITH_KEY,
    errors,
    install_description,
)
from serving.app.doctor.router import router as doctor
from serving.app.documents.administration import router as documents_administration
from serving.app.documents.router import router as documents
from serving.app.embeddings.router import router as embeddings
from serving.app.errors import REQUEST_ID, install_error_handlers
from serving.app.evaluation.router import router as evaluation
from serving.app.feedback.router import administration as feedback_administration
from serving.app.feedback.router import router as feedback
from serving.app.generations.router import router as generations
from serving.app.guard import SameMachine
from serving.app.health.router import router as health
from serving.app.keys.own import router as own_key
from serving.app.keys.router import router as keys
from serving.app.limited import Door, within_limits
from serving.app.measured import Measured, is_request_id
from serving.app.metrics.router import router as metrics
from serving.app.models.router import router as models
from serving.app.page.router import router as page
from serving.app.runs.own import router as own_runs
from serving.app.runs.router import router as runs
from serving.app.search.router import router as search
from serving.app.sources.router import router as sources
from serving.app.wellformed import WellFormed, check_body
from serving.bootstrap import Services
from serving.caching.cache import Cache
from serving.limits import Limits
from serving.run_queue import RunQueue
from serving.uploads import take_up_pending


def create_app(services: Services) -> FastAPI:
    """The API over services that the caller opens and closes."""
    limits = Limits(services.settings.limits)
    queue = RunQueue(services)
    cache = Cache.open(services.settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await services.load_embedders()  # The first question must not wait for a model.
        warming = asyncio.create_task(services.warm_fallback())
        await take_up_pending(services, queue)
        await queue.start()
        yield
        warming.cancel()
        await queue.stop()
        await limits.close()
        await cache.close()

    # No docs pages: they load scripts from elsewhere. The description itself is at /openapi.json.
    app = FastAPI(
        title="kb",
        summary="A local knowledge base: questions in, cited answers out.",
        version=version("kb-server"),
        docs_url=None,
        redoc_url=None,
        # Our own spans (measured.py) hold no paths and queries, nor messages of errors.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        lifespan=lifespan,
        dependencies=[Depends(check_body)],
    )
    app.state.services = services
    app.state.limits = limits
    app.state.queue = queue
    app.state.draining = asyncio.Event()
    app.state.stopping = asyncio.Event()
    app.state.cache = cache
    app.add_middleware(SameMachine, keys_exist=services.catalog.keys.exist)
    server = services.settings.server
    app.add_middleware(Door, most=server.max_requests)
    app.add_middleware(WellFormed)
    app.add_middleware(Measured)
    # Outermost, so that everything that is logged or refused has an id.
    app.add_middleware(CorrelationIdMiddleware, header_name=REQUEST_ID, validator=is_request_id)
    install_error_handlers(app)
    limited = Depends(within_limits)
    keyed: dict[str, Any] = {
        "max_body_size": server.max_body_kb << 10,
        "responses": errors(WITH_KEY),
    }
    for router in (chat, models, embeddings, search, feedback):
        app.include_router(router, dependencies=[TO_QUERY, limited], **keyed)
    app.include_router(own_key, dependencies=[limited], **keyed)
    app.include_router(own_runs, dependencies=[TO_INGEST, limited], **keyed)
    managed = keyed | {"responses": errors(MANAGED)}
    for router in (
        collections,
        sources,
        documents_administration,
        runs,
        generations,
        doctor,
        feedback_administration,
        evaluation,
    ):
        app.include_router(router, dependencies=[TO_MANAGE, limited], **managed)
    for router in (keys, backups, configuration):
        app.include_router(router, dependencies=[TO_ADMINISTER, limited], **managed)
    app.include_router(metrics, dependencies=[TO_MEASURE], **keyed)
    for router in (health, page):
        app.include_router(router, **keyed | {"responses": errors(ALWAYS)})
    app.include_router(
        documents,
        max_body_size=server.max_upload_mb << 20,
        dependencies=[limited],
        responses=errors(UPLOADED),
    )
    install_description(app)
    app.mount("/web", StaticFiles(packages=[("serving", "web")]))
    return app
