"""POST /v1/feedback, and GET /v1/admin/feedback."""

from typing import Annotated

from fastapi import APIRouter, Query

from kb.feedback import Rating
from kb.metrics import FEEDBACK
from serving.app.dependencies import (
    AccessDep,
    KeyDep,
    ServicesDep,
    check_collection,
    id_of,
)
from serving.app.feedback.protocol import (
    FeedbackBody,
    FeedbackGiven,
    FeedbackList,
    feedback_body,
)
from serving.bootstrap import DEFAULT_COLLECTION

router = APIRouter(prefix="/v1/feedback", tags=["feedback"])
administration = APIRouter(prefix="/v1/admin/feedback", tags=["feedback"])


@router.post("", status_code=201)
async def give_feedback(
    body: FeedbackGiven, services: ServicesDep, key: KeyDep, access: AccessDep
) -> FeedbackBody:
    """Keeps what a reader thinks of an answer, with its question, for evaluation.

    A second opinion of the same key on the same answer takes the first one's place.
    """
    await check_collection(body.collection, services, access)
    feedback = body.feedback(id_of(key) or "")
    await services.catalog.feedback.save(feedback)
    FEEDBACK.labels(feedback.rating).inc()
    return feedback_body(feedback)


@administration.get("")
async def list_feedback(
    services: ServicesDep,
    access: AccessDep,
    collection: str = DEFAULT_COLLECTION,
    rating: Rating | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> FeedbackList:
    """Of one collection, newest first."""
    await check_collection(collection, services, access)
    found = await services.catalog.feedback.list(collection, rating, limit)
    return FeedbackList(data=[feedback_body(each) for each in found])
