"""Bodies of /v1/feedback and /v1/admin/feedback."""

from datetime import UTC, datetime
from typing import Any, Final

from pydantic import BaseModel, Field

from kb.feedback import Feedback, Rating
from serving.app.examples import asked, example
from serving.bootstrap import DEFAULT_COLLECTION

GIVEN: Final[dict[str, Any]] = {
    "answer_id": "chatcmpl-0f6d3c1b2a494d7e8c5b6a7f8e9d0c1b",
    "collection": "handbook",
    "question": "How many days of leave are there?",
    "answer": "There are 30 days of leave. [1]",
    "rating": "up",
    "comment": "",
    "cited": ["5f2c7e9a1b3d4f605f2c7e9a1b3d4f60"],
}
KEPT: Final = GIVEN | {
    "object": "feedback",
    "given_by": "3f9c0a1b2d4e",
    "created_at": "2026-11-25T09:00:00Z",
}
MOST_CITED: Final = 50


class FeedbackGiven(BaseModel):
    """`answer_id` is the id of the chat completion, `cited` the ids of the documents it names."""

    model_config = asked(GIVEN)

    answer_id: str = Field(min_length=1, max_length=200)
    collection: str = DEFAULT_COLLECTION
    question: str = Field(min_length=1, max_length=8_000)
    answer: str = Field(max_length=64_000)
    rating: Rating
    comment: str = Field(default="", max_length=4_000)
    cited: list[str] = Field(default=[], max_length=MOST_CITED)

    def feedback(self, given_by: str) -> Feedback:
        values = self.model_dump() | {"cited": tuple(self.cited)}
        return Feedback(**values, given_by=given_by, created_at=datetime.now(UTC))


class FeedbackBody(BaseModel):
    """`given_by` is the id of the key, and empty while there were none."""

    model_config = example(KEPT)

    object: str = "feedback"
    answer_id: str
    given_by: str
    collection: str
    question: str
    answer: str
    rating: Rating
    comment: str
    cited: list[str]
    created_at: datetime


class FeedbackList(BaseModel):
    model_config = example({"object": "list", "data": [KEPT]})

    object: str = "list"
    data: list[FeedbackBody]


def feedback_body(feedback: Feedback) -> FeedbackBody:
    return FeedbackBody.model_validate(feedback, from_attributes=True)
