"""Bodies of /v1/admin/keys."""

from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, Field

from kb.types import ApiKey, Scope
from serving.app.examples import asked, example

EXAMPLE: Final[dict[str, Any]] = {
    "id": "3f9c0a1b2d4e",
    "object": "key",
    "name": "finance-bot",
    "scopes": ["query"],
    "collections": ["finance"],
    "groups": ["finance"],
    "created_at": "2026-11-25T09:00:00Z",
    "expires_at": "2027-02-23T09:00:00Z",
    "last_used_at": None,
    "revoked_at": None,
}


class KeyCreate(BaseModel):
    """No collections: all. No groups: only documents without groups. No days: for good."""

    model_config = asked(
        {
            "name": "finance-bot",
            "scopes": ["query"],
            "collections": ["finance"],
            "groups": ["finance"],
            "days": 90,
        }
    )

    name: str = Field(description="whose key it is, or what for", min_length=1, max_length=200)
    scopes: list[Scope] = Field(default=[Scope.QUERY], min_length=1)
    collections: list[str] = []
    groups: list[str] = []
    days: int | None = Field(default=None, ge=1, le=36_500, description="until it expires")


class KeyBody(BaseModel):
    """A key, never with its secret."""

    model_config = example(EXAMPLE)

    id: str
    object: str = "key"
    name: str
    scopes: list[Scope]
    collections: list[str]
    groups: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class OwnKey(BaseModel):
    """What a key may do. `runs_server`: also what concerns more than the collections it names."""

    model_config = example(
        {
            "object": "own_key",
            "name": "finance-bot",
            "scopes": ["query"],
            "collections": ["finance"],
            "groups": ["finance"],
            "runs_server": False,
        }
    )

    object: str = "own_key"
    name: str
    scopes: list[Scope]
    collections: list[str]
    groups: list[str]
    runs_server: bool


class KeyMade(KeyBody):
    """`key` is shown this once: keep it like a password."""

    model_config = example(EXAMPLE | {"key": "kb-3f9c0a1b2d4e-THE-SECRET"})

    key: str


class KeyList(BaseModel):
    model_config = example({"object": "list", "data": [EXAMPLE]})

    object: str = "list"
    data: list[KeyBody]


def key_body(key: ApiKey) -> KeyBody:
    return KeyBody(**_fields(key))


def key_made(key: ApiKey, text: str) -> KeyMade:
    return KeyMade(**_fields(key), key=text)


def _fields(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "collections": list(key.collections),
        "groups": list(key.groups),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
    }
