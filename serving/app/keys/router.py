"""List, make, rotate and revoke under /v1/admin/keys."""

from fastapi import APIRouter, Response

from serving.app.dependencies import ServicesDep
from serving.app.keys.protocol import KeyBody, KeyCreate, KeyList, KeyMade, key_body, key_made
from serving.keys import create_key, in_days, key_named, revoke_key, rotate_key

router = APIRouter(prefix="/v1/admin/keys", tags=["keys"])


@router.get("")
async def list_keys(services: ServicesDep) -> KeyList:
    """All, oldest first, revoked ones too; never their secrets."""
    return KeyList(data=[key_body(key) for key in await services.catalog.keys.list()])


@router.post("", status_code=201)
async def make_key(body: KeyCreate, services: ServicesDep, response: Response) -> KeyMade:
    """The key is shown this once. From the first key on, everybody needs one."""
    key, text = await create_key(
        services.catalog.keys,
        body.name,
        scopes=tuple(body.scopes),
        collections=tuple(body.collections),
        groups=tuple(body.groups),
        expires_at=in_days(body.days),
    )
    _not_kept(response)
    return key_made(key, text)


@router.post("/{key_id}/rotate")
async def rotate(key_id: str, services: ServicesDep, response: Response) -> KeyMade:
    """A new secret, shown this once; the old one stops working at once."""
    text = await rotate_key(services.catalog.keys, key_id)
    _not_kept(response)
    return key_made(await key_named(services.catalog.keys, key_id), text)


@router.delete("/{key_id}")
async def revoke(key_id: str, services: ServicesDep) -> KeyBody:
    """Ends a key for good, at once. Others still need a key, even when it was the last."""
    return key_body(await revoke_key(services.catalog.keys, key_id))


def _not_kept(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"
