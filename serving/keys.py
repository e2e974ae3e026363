"""API keys: made, rotated, recognised.

A key's text is `kb-<id>-<secret>`, the secret 256 random bits. Only its SHA-256 is kept: nothing slower
is needed, since nobody can guess 256 bits. The text is shown once and never logged.
"""

import hashlib
import hmac
import secrets
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from kb.errors import CatalogUnavailable, InvalidKey, InvalidQueryError, NotFoundError
from kb.ids import check_collection_name
from kb.ports import KeyStore
from kb.types import ApiKey, Scope

PREFIX = "kb"
ID_BYTES = 6
SECRET_BYTES = 32
USE_NOTED_EVERY = timedelta(minutes=1)
"""A key's last use is written no more often than this: a write for every question would be too many."""

INVALID_KEY = (
    "The API key is missing, wrong, expired or revoked. Send it as: Authorization: Bearer KEY"
)
"""One sentence for all cases: a guesser learns nothing."""


async def create_key(
    store: KeyStore,
    name: str,
    *,
    scopes: tuple[Scope, ...] = (Scope.QUERY,),
    collections: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """The key and its text, which can't be had again. Raises InvalidQueryError."""
    for collection in collections:
        check_collection_name(collection)
    key = ApiKey(
        id=secrets.token_hex(ID_BYTES),
        name=name,
        scopes=tuple(sorted(set(scopes))),
        collections=tuple(sorted(set(collections))),
        groups=clean_groups(groups),
        created_at=datetime.now(UTC),
        expires_at=expires_at,
    )
    secret = secrets.token_urlsafe(SECRET_BYTES)
    await store.add(key, hash_of(secret))
    return key, text_of(key.id, secret)


def in_days(days: int | None) -> datetime | None:
    """When a key expires that is good for so many days."""
    return datetime.now(UTC) + timedelta(days=days) if days else None


async def revoke_key(store: KeyStore, key_id: str) -> ApiKey:
    """Ends a key for good, at once. Raises NotFoundError."""
    await store.revoke(key_id, datetime.now(UTC))
    return await key_named(store, key_id)


async def rotate_key(store: KeyStore, key_id: str) -> str:
    """A new text for a key; the old one stops working at once. Raises NotFoundError."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    await store.set_secret(key_id, hash_of(secret))
    return text_of(key_id, secret)


async def authenticate(store: KeyStore, text: str | None) -> ApiKey:
    """The key that this text is of, its use noted. Raises InvalidKey."""
    prefix, _, rest = (text or "").partition("-")
    key_id, _, secret = rest.partition("-")
    found = await store.find(key_id) if prefix == PREFIX and key_id.isalnum() else None
    # Compared even where no such key exists, so that both take as long.
    matches = hmac.compare_digest(hash_of(secret), found[1] if found else hash_of(""))
    now = datetime.now(UTC)
    if not found or not matches or not found[0].is_valid(now):
        raise InvalidKey(INVALID_KEY)
    key = found[0]
    if key.last_used_at is None or now - key.last_used_at >= USE_NOTED_EVERY:
        # Not worth a refusal where nothing can be written, as on a full disk.
        with suppress(CatalogUnavailable):
            await store.used(key.id, now)
            key = replace(key, last_used_at=now)
    return key


async def key_named(store: KeyStore, key_id: str) -> ApiKey:
    """Raises NotFoundError."""
    found = await store.find(key_id)
    if found is None:
        raise NotFoundError(f"There is no key {key_id!r}. `kb keys list` shows the keys there are.")
    return found[0]


def clean_groups(groups: tuple[str, ...]) -> tuple[str, ...]:
    """Group names, each once and sorted. Raises InvalidQueryError for one that is no plain word."""
    names = {group.strip() for group in groups}
    for name in names:
        if not name or not name.isprintable() or "," in name or name == "*":
            raise InvalidQueryError(
                f"{name!r} can't be a group: it must be printable, not empty, without commas and not *."
            )
    return tuple(sorted(names))


def text_of(key_id: str, secret: str) -> str:
    return f"{PREFIX}-{key_id}-{secret}"


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
