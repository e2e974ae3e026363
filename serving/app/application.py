"""The FastAPI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles

from serving.app.chat.router import router as chat
from serving.app.dependencies import TO_ADMINISTER, TO_QUERY
from serving.app.documents.router import router as documents
from serving.app.embeddings.router import router as embeddings
from serving.app.errors import install_error_handlers
from serving.app.guard import SameMachine
from serving.app.health.router import router as health
from serving.app.limited import Door, within_limits
from serving.app.measured import Measured
from serving.app.metrics.router import router as metrics
from serving.app.models.router import router as models
from serving.app.page.router import router as page
from serving.app.runs.router import router as runs
from serving.app.search.router import router as search
from serving.bootstrap import Services
from serving.caching.cache import Cache
from serving.limits import Limits
from serving.uploads import UploadQueue


def create_app(services: Services) -> FastAPI:
    """The API over services that the caller opens and closes."""
    limits = Limits(services.settings.limits)
    cache = Cache.open(services.settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await services.load_embedders()  # The first question must not wait for a model.
        warming = asyncio.create_task(services.warm_fallback())
        uploads = UploadQueue(services)
        await uploads.start()
        app.state.uploads = uploads
        yield
        warming.cancel()
        await uploads.stop()
        await limits.close()
        await cache.close()

    # No docs pages: they load scripts from elsewhere. The description itself is at /openapi.json.
    app = FastAPI(
        title="kb",
        summary="A local knowledge base: questions in, cited answers out.",
        version=version("kb-server"),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.services = services
    app.state.limits = limits
    app.state.cache = cache
    app.add_middleware(SameMachine, keys_exist=services.catalog.keys.exist)
    server = services.settings.server
    app.add_middleware(Door, most=server.max_requests)
    app.add_middleware(Measured)
    install_error_handlers(app)
    limited = Depends(within_limits)
    body_limit = server.max_body_kb << 10
    for router in (chat, models, embeddings, search):
        app.include_router(router, max_body_size=body_limit, dependencies=[TO_QUERY, limited])
    app.include_router(runs, max_body_size=body_limit, dependencies=[TO_ADMINISTER, limited])
    app.include_router(metrics, max_body_size=body_limit, dependencies=[TO_ADMINISTER])
    for router in (health, page):
        app.include_router(router, max_body_size=body_limit)
    app.include_router(documents, max_body_size=server.max_upload_mb << 20, dependencies=[limited])
    app.mount("/web", StaticFiles(packages=[("serving", "web")]))
    return app
