"""The `FeedbackStore` port on SQLite or PostgreSQL."""

from dataclasses import asdict

from sqlalchemy import select

from kb.db import tables
from kb.db.generations import lock_shared
from kb.db.session import Database
from kb.db.statements import upsert
from kb.feedback import Feedback, Rating


class SQLFeedback:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, feedback: Feedback) -> None:
        async with self._database.write() as connection:
            await lock_shared(connection, [feedback.collection])
            await upsert(connection, tables.feedback, [asdict(feedback)])

    async def list(
        self, collection: str, rating: Rating | None = None, limit: int = 100
    ) -> list[Feedback]:
        column = tables.feedback.c
        query = (
            select(tables.feedback)
            .where(column.collection == collection)
            .order_by(column.created_at.desc(), column.answer_id, column.given_by)
            .limit(limit)
        )
        if rating is not None:
            query = query.where(column.rating == rating)
        async with self._database.read() as connection:
            rows = await connection.execute(query)
            return [Feedback(**row._mapping) for row in rows]
