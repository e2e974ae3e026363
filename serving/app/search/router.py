"""POST /v1/search."""

from fastapi import APIRouter

from kb.errors import InvalidQueryError
from serving.app.dependencies import AccessDep, CacheDep, ServicesDep, live_of
from serving.app.questions import log_question
from serving.app.search.protocol import SearchOrigin, SearchRequest, SearchResponse, search_hit
from serving.caching.cache import View
from serving.searching import bound_search

router = APIRouter(prefix="/v1/search", tags=["search"])


@router.post("")
async def search(
    request: SearchRequest, services: ServicesDep, access: AccessDep, cache: CacheDep
) -> SearchResponse:
    settings = services.settings.search
    most = settings.max_limit
    if request.limit > most:
        raise InvalidQueryError(f"limit: at most {most} hits can be asked for.")
    log_question(request.query, services.settings.log)
    live = await live_of(request.collection, services, access)
    find = bound_search(live, services, access, request.limit, settings.timeout_s)
    found = await cache.search(request.query, request.limit, View(live.generation, access), find)
    return SearchResponse(
        collection=request.collection,
        query=request.query,
        data=[search_hit(hit) for hit in found.hits],
        kb=SearchOrigin(cached=found.cached),
    )
