"""GET /v1/key: what the key of a request may do."""

from fastapi import APIRouter

from kb.types import Scope
from serving.app.dependencies import KeyDep
from serving.app.keys.protocol import OwnKey

router = APIRouter(prefix="/v1/key", tags=["keys"])


@router.get("")
async def own_key(key: KeyDep) -> OwnKey:
    """Of this request's own key; while there are no keys, this machine may do everything."""
    if key is None:
        return OwnKey(name="", scopes=[Scope.ADMIN], collections=[], groups=[], runs_server=True)
    return OwnKey(
        name=key.name,
        scopes=list(key.scopes),
        collections=list(key.collections),
        groups=list(key.groups),
        runs_server=key.may(Scope.ADMIN),
    )
