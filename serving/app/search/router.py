"""POST /v1/search."""

from fastapi import APIRouter

from kb.errors import InvalidQueryError
from serving.app.dependencies import AccessDep, ServicesDep, check_collection
from serving.app.search.protocol import SearchRequest, SearchResponse, search_hit
from serving.searching import bound_search

router = APIRouter(prefix="/v1/search", tags=["search"])


@router.post("")
async def search(
    request: SearchRequest, services: ServicesDep, access: AccessDep
) -> SearchResponse:
    most = services.settings.search.max_limit
    if request.limit > most:
        raise InvalidQueryError(f"limit: at most {most} hits can be asked for.")
    await check_collection(request.collection, services, access)
    live = await services.live(request.collection)
    find = bound_search(live, services, access, request.limit)
    hits = await find(request.query)
    return SearchResponse(
        collection=request.collection, query=request.query, data=[search_hit(hit) for hit in hits]
    )
