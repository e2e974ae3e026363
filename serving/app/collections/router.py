"""List, make and delete under /v1/admin/collections."""

from fastapi import APIRouter

from kb.errors import AccessDenied
from serving.app.collections.protocol import (
    CollectionBody,
    CollectionCreate,
    CollectionDeleted,
    CollectionList,
    collection_body,
)
from serving.app.dependencies import (
    AccessDep,
    ServicesDep,
    check_collection,
    readable_collections,
)

router = APIRouter(prefix="/v1/admin/collections", tags=["collections"])


@router.get("")
async def list_collections(services: ServicesDep, access: AccessDep) -> CollectionList:
    """Those that the key administers."""
    collections = await readable_collections(services, access)
    return CollectionList(data=[collection_body(collection) for collection in collections])


@router.post("", status_code=201)
async def create_collection(
    body: CollectionCreate, services: ServicesDep, access: AccessDep
) -> CollectionBody:
    """With an empty index; the first upload or source makes a collection too. Twice gives the same."""
    if not access.may_manage(body.name):
        raise AccessDenied("This API key is limited to collections, and this is none of them.")
    await services.ensure_collection(body.name)
    return collection_body(await services.catalog.collection(body.name))


@router.delete("/{name}")
async def delete_collection(
    name: str, services: ServicesDep, access: AccessDep
) -> CollectionDeleted:
    """With its index, its sources and its uploaded files. Files in folders stay untouched."""
    await check_collection(name, services, access)
    await services.delete_collection(name)
    return CollectionDeleted(name=name)
