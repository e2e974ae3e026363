"""What every catalogue must do with API keys, and with documents that not everybody may read."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kb.errors import InvalidKey, InvalidQueryError, NotFoundError
from kb.ports import Catalog
from kb.types import Access, Scope
from serving.keys import authenticate, create_key, rotate_key
from tests.conformance.catalogued import DOCUMENT


async def test_a_key_is_known_by_its_text_until_it_is_rotated_or_revoked(catalog: Catalog) -> None:
    assert not await catalog.keys.exist()
    key, text = await create_key(catalog.keys, "bot", groups=("b", "a", "b"), collections=("docs",))
    assert key.groups == ("a", "b")
    found = await authenticate(catalog.keys, text)
    assert replace(found, last_used_at=None) == key
    newer = await rotate_key(catalog.keys, key.id)
    with pytest.raises(InvalidKey):
        await authenticate(catalog.keys, text)
    await authenticate(catalog.keys, newer)
    await catalog.keys.revoke(key.id, datetime.now(UTC))
    with pytest.raises(InvalidKey):
        await authenticate(catalog.keys, newer)
    with pytest.raises(NotFoundError):
        await rotate_key(catalog.keys, key.id)
    assert await catalog.keys.exist(), "revoking the last key must open nothing"


@pytest.mark.parametrize("text", [None, "", "unused", "kb-", "kb--", "kb-0123", "sk-0-0"])
async def test_what_is_no_key(catalog: Catalog, text: str | None) -> None:
    await create_key(catalog.keys, "bot")
    with pytest.raises(InvalidKey):
        await authenticate(catalog.keys, text)


async def test_another_keys_secret_opens_nothing(catalog: Catalog) -> None:
    one, _ = await create_key(catalog.keys, "one")
    _, text = await create_key(catalog.keys, "two")
    secret = text.split("-", 2)[2]
    with pytest.raises(InvalidKey):
        await authenticate(catalog.keys, f"kb-{one.id}-{secret}")
    found = await catalog.keys.find(one.id)
    assert found
    with pytest.raises(InvalidKey):
        await authenticate(catalog.keys, f"kb-{one.id}-{found[1]}")


async def test_expiry_and_last_use(catalog: Catalog) -> None:
    now = datetime.now(UTC)
    _, expired = await create_key(catalog.keys, "old", expires_at=now - timedelta(seconds=1))
    with pytest.raises(InvalidKey):
        await authenticate(catalog.keys, expired)
    _, text = await create_key(
        catalog.keys, "new", scopes=(Scope.ADMIN,), expires_at=now + timedelta(days=1)
    )
    first = (await authenticate(catalog.keys, text)).last_used_at
    assert (await authenticate(catalog.keys, text)).last_used_at == first, "once a minute"


async def test_a_group_that_is_no_word(catalog: Catalog) -> None:
    for group in ("", " ", "*", "a,b", "a\0b"):
        with pytest.raises(InvalidQueryError):
            await create_key(catalog.keys, "bot", groups=(group,))


async def test_pages_hold_only_what_may_be_read(filled: Catalog) -> None:
    groups = [(), ("team",), ("板",), ("team", "板"), ("a'b",), ()]
    documents = [replace(DOCUMENT, id=f"e{number}", groups=of) for number, of in enumerate(groups)]
    await filled.delete_documents([DOCUMENT.id])
    await filled.save_documents(documents)

    async def seen(access: Access) -> list[str]:
        ids: list[str] = []
        while page := await filled.documents(
            limit=2, after=ids[-1] if ids else None, access=access
        ):
            ids += [document.id for document in page]
        for document in documents:
            if document.id in ids:
                await filled.document(document.id, access)
            else:
                with pytest.raises(NotFoundError):
                    await filled.document(document.id, access)
        return ids

    assert await seen(Access()) == ["e0", "e1", "e2", "e3", "e4", "e5"]
    assert await seen(Access(frozenset())) == ["e0", "e5"]
    assert await seen(Access(frozenset({"板"}))) == ["e0", "e2", "e3", "e5"]
    assert await seen(Access(frozenset({"a'b", "other"}))) == ["e0", "e4", "e5"]
    assert await seen(Access(None, frozenset({"docs"}))) == ["e0", "e1", "e2", "e3", "e4", "e5"]
    assert await seen(Access(None, frozenset({"other"}))) == []
