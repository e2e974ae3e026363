"""Catalogues on both databases, empty and filled."""

from collections.abc import AsyncIterator

import pytest

from kb.db.catalog import SQLCatalog
from kb.db.migrate import migrate
from kb.ports import Catalog
from tests.conformance.catalogued import DOCUMENT, SOURCE


@pytest.fixture
async def catalog(catalog_url: str) -> AsyncIterator[Catalog]:
    await migrate(catalog_url)
    opened = await SQLCatalog.open(catalog_url)
    yield opened
    await opened.close()


@pytest.fixture
async def filled(catalog: Catalog) -> Catalog:
    """With one collection, one source and one document."""
    await catalog.ensure_collection("docs")
    await catalog.ensure_source(SOURCE)
    await catalog.save_documents([DOCUMENT])
    return catalog
