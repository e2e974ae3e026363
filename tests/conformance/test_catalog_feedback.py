"""What every catalogue must do with readers' opinions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kb.errors import NotFoundError
from kb.feedback import Feedback, Rating
from kb.ports import Catalog

GOOD = Feedback(
    answer_id="chatcmpl-1",
    given_by="k1",
    collection="docs",
    question="假期有多少天？",
    answer="30 天。[1]",
    rating=Rating.UP,
    comment="",
    cited=("d1", "d2"),
    created_at=datetime(2026, 11, 1, 12, tzinfo=UTC),
)


async def test_the_last_opinion_of_a_reader_counts(catalog: Catalog) -> None:
    await catalog.ensure_collection("docs")
    bad = replace(GOOD, rating=Rating.DOWN, comment="old \0 rules", cited=())
    of_another = replace(GOOD, given_by="k2", created_at=GOOD.created_at + timedelta(days=1))
    for each in (GOOD, of_another, bad):
        await catalog.feedback.save(each)
    kept = replace(bad, comment="old \N{REPLACEMENT CHARACTER} rules")
    assert await catalog.feedback.list("docs") == [of_another, kept]
    assert await catalog.feedback.list("docs", Rating.UP) == [of_another]
    assert await catalog.feedback.list("docs", limit=1) == [of_another]
    assert await catalog.feedback.list("other") == []


async def test_it_goes_with_its_collection(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError):
        await catalog.feedback.save(GOOD)
    await catalog.ensure_collection("docs")
    await catalog.feedback.save(GOOD)
    await catalog.delete_collection("docs")
    assert await catalog.feedback.list("docs") == []
