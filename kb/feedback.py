"""What readers think of answers: kept for evaluation, see docs/evaluation.md."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Rating(StrEnum):
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Feedback:
    """One reader's rating of one answer. `given_by` is the id of a key, empty while there are none.

    `cited` are ids of documents, best first: with a good answer, those that hold it.
    """

    answer_id: str
    given_by: str
    collection: str
    question: str
    answer: str
    rating: Rating
    comment: str
    cited: tuple[str, ...]
    created_at: datetime


class FeedbackStore(Protocol):
    """Raises CatalogUnavailable when the database fails."""

    async def save(self, feedback: Feedback) -> None:
        """In place of what the same reader said of the same answer before. Raises NotFoundError."""
        ...

    async def list(
        self, collection: str, rating: Rating | None = None, limit: int = 100
    ) -> list[Feedback]:
        """Newest first."""
        ...
