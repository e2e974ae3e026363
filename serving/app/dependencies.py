"""What routes are given: the services of this process, who asks, and what they may read."""

import asyncio
from typing import Annotated

from fastapi import Depends, Request

from kb.db.runs import no_run
from kb.errors import AccessDenied, CatalogUnavailable, InvalidKey, NotFoundError
from kb.types import UNRESTRICTED, Access, ApiKey, Collection, Run, Scope
from serving.bootstrap import DEFAULT_COLLECTION, Services
from serving.caching.cache import Cache
from serving.keys import authenticate
from serving.parts import Live
from serving.run_queue import RunQueue
from serving.server_address import is_loopback

MODEL_PREFIX = "kb"
BEARER = "bearer"


class ModelNotFound(NotFoundError):
    code = "model_not_found"


# All are coroutines, also those that wait for nothing: FastAPI calls plain functions in a thread each,
# which takes longer than what they do.


async def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def queue_of(request: Request) -> RunQueue:
    queue: RunQueue = request.app.state.queue
    return queue


async def draining_of(request: Request) -> asyncio.Event:
    draining: asyncio.Event = request.app.state.draining
    return draining


async def stopping_of(request: Request) -> asyncio.Event:
    stopping: asyncio.Event = request.app.state.stopping
    return stopping


async def cache_of(request: Request) -> Cache:
    """The server's, or none for a request that says `Cache-Control: no-store` (or `no-cache`)."""
    cache: Cache = request.app.state.cache
    wishes = request.headers.get("cache-control", "").lower()
    return cache.without_store() if "no-store" in wishes or "no-cache" in wishes else cache


async def key_of(request: Request) -> ApiKey | None:
    """The key of the request; None where no key was ever made, and so this machine may do everything.

    Raises InvalidKey. Asked once a request, however many need it.
    """
    keys = (await services_of(request)).catalog.keys
    if not await keys.exist():
        if not is_loopback(request.scope["server"][0]):
            raise InvalidKey("Without keys only this machine may ask. Make one: kb keys create")
        return None
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    key = await authenticate(keys, text.strip() if scheme.lower() == BEARER else None)
    request.state.key_id = key.id  # For the log.
    return key


KeyDep = Annotated[ApiKey | None, Depends(key_of)]


async def is_administrator(request: Request) -> bool:
    """For what answers everybody, but not everybody everything. A catalogue that is gone tells none."""
    try:
        key = await key_of(request)
    except (InvalidKey, CatalogUnavailable):
        return False
    return key is None or key.may(Scope.ADMIN)


class Needs:
    """A dependency of routes: the key must have one of these scopes. Raises InvalidKey, AccessDenied."""

    def __init__(self, *scopes: Scope) -> None:
        self._scopes = scopes

    async def __call__(self, key: KeyDep) -> None:
        self.check(key)

    def check(self, key: ApiKey | None) -> None:
        if key is not None and not any(map(key.may, self._scopes)):
            raise AccessDenied(f"This API key has not the scope {' or '.join(self._scopes)}.")


async def manages(key: KeyDep) -> None:
    """A dependency of routes: the key administers all, or the collections it names.

    What may be touched of it the route's `AccessDep` says. Raises InvalidKey, AccessDenied.
    """
    if key is not None and not key.is_admin:
        raise AccessDenied(f"This API key has not the scope {Scope.ADMIN}.")


def check_administers(key: ApiKey | None) -> None:
    """For the part of a request that concerns the whole server. Raises AccessDenied."""
    Needs(Scope.ADMIN).check(key)


async def access_of(key: KeyDep) -> Access:
    return UNRESTRICTED if key is None else key.access


ServicesDep = Annotated[Services, Depends(services_of)]
QueueDep = Annotated[RunQueue, Depends(queue_of)]
DrainingDep = Annotated[asyncio.Event, Depends(draining_of)]
"""Set when the server was told to stop, and answers on until its load goes elsewhere."""
StoppingDep = Annotated[asyncio.Event, Depends(stopping_of)]
"""Set when the server begins to stop: streams end then."""
CacheDep = Annotated[Cache, Depends(cache_of)]
AccessDep = Annotated[Access, Depends(access_of)]
AdministratorDep = Annotated[bool, Depends(is_administrator)]

TO_QUERY = Depends(Needs(Scope.QUERY))
TO_INGEST = Depends(Needs(Scope.INGEST))
TO_FOLLOW = Depends(Needs(Scope.QUERY, Scope.INGEST))
"""Who uploads may see what became of it."""
TO_MEASURE = Depends(Needs(Scope.METRICS))
TO_MANAGE = Depends(manages)
TO_ADMINISTER = Depends(Needs(Scope.ADMIN))
"""What concerns the whole server: not for keys that are limited to collections."""


def model_of(collection: str) -> str:
    return MODEL_PREFIX if collection == DEFAULT_COLLECTION else f"{MODEL_PREFIX}/{collection}"


def id_of(key: ApiKey | None) -> str | None:
    return None if key is None else key.id


async def managed_run(run_id: str, services: ServicesDep, access: AccessDep) -> Run:
    """A run of what may be administered. Raises NotFoundError: others look as if they were not there."""
    run = await services.catalog.run(run_id)
    if not access.may_manage(run.collection):
        raise no_run(run_id)
    return run


ManagedRunDep = Annotated[Run, Depends(managed_run)]


async def readable_collections(services: Services, access: Access) -> list[Collection]:
    return [c for c in await services.catalog.collections() if access.may_read(c.name)]


async def _is_readable(name: str, services: Services, access: Access) -> bool:
    """Without counting documents where it can: every question asks this."""
    if not access.may_read(name):
        return False
    if await services.catalog.live_generation(name) is not None:
        return True
    return name in [c.name for c in await services.catalog.collections()]


async def live_of(name: str, services: Services, access: Access) -> Live:
    """The live index of a collection that may be read, in one query. Raises as `check_collection` does."""
    return await _live(name, services, access) or await _without_index(name, services, access)


async def live_of_model(model: str, services: Services, access: Access) -> Live:
    """As `live_of`, of the collection that a model stands for. Raises as `collection_of` does."""
    prefix, _, rest = model.partition("/")
    name = rest or DEFAULT_COLLECTION
    if prefix == MODEL_PREFIX and (live := await _live(name, services, access)):
        return live
    return await services.live(await collection_of(model, services, access))


async def _live(name: str, services: Services, access: Access) -> Live | None:
    generation = await services.catalog.live_generation(name) if access.may_read(name) else None
    return await services.open(generation) if generation else None


async def _without_index(name: str, services: Services, access: Access) -> Live:
    await check_collection(name, services, access)
    return await services.live(name)  # Made meanwhile, or an error that says what to do.


async def check_collection(name: str, services: Services, access: Access) -> None:
    """Raises NotFoundError; a collection that may not be read looks like one that is not there."""
    if not await _is_readable(name, services, access):
        readable = [c.name for c in await readable_collections(services, access)]
        there = f"There are: {', '.join(readable)}." if readable else "There are none."
        raise NotFoundError(f"There is no collection {name!r}. {there}")


async def collection_of(model: str, services: Services, access: Access) -> str:
    """`kb` is the default collection, `kb/<name>` the one of that name.

    Raises ModelNotFound, in the caller's word: to an OpenAI client a collection is a model.
    """
    prefix, _, rest = model.partition("/")
    name = rest or DEFAULT_COLLECTION
    if prefix == MODEL_PREFIX and await _is_readable(name, services, access):
        return name
    models = ", ".join(model_of(c.name) for c in await readable_collections(services, access))
    raise ModelNotFound(
        f"There is no model {model!r}. "
        + (f"There are: {models}." if models else "Nothing is ingested yet.")
    )
