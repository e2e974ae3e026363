"""GET /v1/models: every collection is a model, so any OpenAI client can choose one."""

from typing import Any

from fastapi import APIRouter

from kb.types import Collection
from serving.app.dependencies import (
    AccessDep,
    ServicesDep,
    collection_of,
    model_of,
    readable_collections,
)

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
async def list_models(services: ServicesDep, access: AccessDep) -> dict[str, Any]:
    collections = await readable_collections(services, access)
    return {"object": "list", "data": [_model(collection) for collection in collections]}


@router.get("/{model:path}")
async def get_model(model: str, services: ServicesDep, access: AccessDep) -> dict[str, Any]:
    name = await collection_of(model, services, access)
    return _model(await services.catalog.collection(name))


def _model(collection: Collection) -> dict[str, Any]:
    return {
        "id": model_of(collection.name),
        "object": "model",
        "created": int(collection.created_at.timestamp()),
        "owned_by": "kb",
    }
