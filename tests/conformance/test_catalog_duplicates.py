"""Documents with the same text, as every catalogue must tell of them."""

import asyncio
from dataclasses import replace

import pytest

from kb.db.catalog import SQLCatalog
from kb.db.duplicates import MOST_PLACES
from kb.errors import OriginalGone
from kb.ports import Catalog
from kb.types import UNRESTRICTED, Access, Document, DocumentStatus
from tests.conformance.catalogued import DOCUMENT, SOURCE

ORIGINAL = replace(DOCUMENT, id="o", uri="file:///o", text_hash="t")
DUPLICATE = replace(ORIGINAL, id="d", uri="file:///d", chunk_count=0, duplicate_of="o")


@pytest.fixture
async def catalog_with_two(filled: Catalog) -> Catalog:
    await filled.save_documents([ORIGINAL, DUPLICATE])
    return filled


async def uris(catalog: Catalog, document: Document, access: Access = UNRESTRICTED) -> list[str]:
    found = await catalog.places([document.id], access)
    return [place.uri for place in found.get(document.id, [])]


async def test_only_what_is_indexed_under_its_own_name_is_an_original(
    catalog_with_two: Catalog,
) -> None:
    catalog = catalog_with_two
    await catalog.save_documents(
        [
            replace(ORIGINAL, id="p", status=DocumentStatus.PENDING),
            replace(ORIGINAL, id="x", text_hash="x"),
        ]
    )
    assert await catalog.originals("docs", ["t", "unknown"]) == [ORIGINAL]
    assert await catalog.originals("docs", []) == []
    assert await catalog.originals("other", ["t"]) == []


async def test_what_gave_its_text_up_is_pending_and_gets_no_duplicates(
    catalog_with_two: Catalog,
) -> None:
    catalog = catalog_with_two
    assert await catalog.give_up(["o", "unknown"]) == [DUPLICATE]
    assert (await catalog.document("o")).status is DocumentStatus.PENDING
    with pytest.raises(OriginalGone):
        await catalog.save_documents([replace(DUPLICATE, id="e")])
    assert len(await catalog.documents()) == 3, "nothing of it is saved"
    assert await catalog.give_up(["o"]) == []
    assert await catalog.strays(SOURCE.id) == {"d"}


@pytest.mark.parametrize(
    "original",
    [
        None,
        replace(ORIGINAL, text_hash="another"),
        replace(ORIGINAL, duplicate_of="o2", chunk_count=0),
        replace(ORIGINAL, status=DocumentStatus.FAILED, text_hash=""),
    ],
)
async def test_a_duplicate_whose_original_has_another_text_is_a_stray(
    catalog_with_two: Catalog, original: Document | None
) -> None:
    catalog = catalog_with_two
    assert await catalog.strays(SOURCE.id) == frozenset()
    if original is None:
        await catalog.delete_documents(["o"])
    else:
        await catalog.save_documents([replace(ORIGINAL, id="o2"), original])
    assert "d" in await catalog.strays(SOURCE.id)
    assert await catalog.strays("another source") == frozenset()
    with pytest.raises(OriginalGone):
        await catalog.save_documents([DUPLICATE])


async def test_a_duplicate_of_other_rights_is_refused(catalog_with_two: Catalog) -> None:
    with pytest.raises(OriginalGone):
        await catalog_with_two.save_documents([replace(DUPLICATE, groups=("team",))])


async def test_an_original_and_its_duplicates_are_saved_together(filled: Catalog) -> None:
    await filled.save_documents([DUPLICATE, ORIGINAL])
    assert await filled.document("d") == DUPLICATE


async def test_places_are_those_that_may_be_read(catalog_with_two: Catalog) -> None:
    catalog = catalog_with_two
    public = replace(ORIGINAL, id="p", uri="file:///p", groups=())
    await catalog.save_documents([public, replace(ORIGINAL, id="x", text_hash="x")])
    assert await uris(catalog, ORIGINAL) == ["file:///p", "file:///d"], "those in the index first"
    assert await uris(catalog, DUPLICATE) == ["file:///o", "file:///p"]
    assert await uris(catalog, public) == ["file:///o", "file:///d"]
    assert await uris(catalog, public, Access(frozenset({"team"}))) == ["file:///o", "file:///d"]
    assert await uris(catalog, public, Access(frozenset({"others"}))) == []
    assert await uris(catalog, ORIGINAL, Access(frozenset())) == ["file:///p"]


async def test_documents_of_unknown_text_have_no_places(filled: Catalog) -> None:
    await filled.save_documents([replace(DOCUMENT, id="d2")])
    assert await filled.places(["d1", "d2"]) == {}
    assert await filled.places([]) == {}


async def test_only_so_many_places_are_named(catalog_with_two: Catalog) -> None:
    more = [replace(DUPLICATE, id=f"d{n}", uri=f"file:///d{n}") for n in range(2 * MOST_PLACES)]
    await catalog_with_two.save_documents(more)
    found = await catalog_with_two.places(["o", "d"])
    assert {name: len(places) for name, places in found.items()} == {
        "o": MOST_PLACES,
        "d": MOST_PLACES,
    }


async def test_giving_up_and_becoming_a_duplicate_at_once_lose_nothing(
    catalog_with_two: Catalog, catalog_url: str
) -> None:
    """Whoever comes first: either the new duplicate is handed over too, or it is refused."""
    other = await SQLCatalog.open(catalog_url)
    try:
        for number in range(20):
            await catalog_with_two.save_documents([ORIGINAL, DUPLICATE])
            new = replace(DUPLICATE, id=f"new{number}")
            handed, saved = await asyncio.gather(
                catalog_with_two.give_up(["o"]),
                other.save_documents([new]),
                return_exceptions=True,
            )
            assert not isinstance(handed, BaseException)
            if saved is None:
                assert new in handed
            else:
                assert isinstance(saved, OriginalGone)
                assert new not in handed
    finally:
        await other.close()
