"""Bodies of /v1/admin/runs."""

from datetime import datetime

from pydantic import BaseModel

from kb.types import Run, RunStatus


class RunBody(BaseModel):
    """A run; while it is running `counts` grow and `updated_at` moves every second."""

    id: str
    object: str = "run"
    collection: str
    source_id: str | None
    kind: str
    status: RunStatus
    started_at: datetime
    updated_at: datetime | None
    finished_at: datetime | None
    cancel_requested: bool
    counts: dict[str, int]
    error: str | None


class RunList(BaseModel):
    object: str = "list"
    data: list[RunBody]


def run_body(run: Run) -> RunBody:
    return RunBody(
        id=run.id,
        collection=run.collection,
        source_id=run.source_id,
        kind=run.kind,
        status=run.status,
        started_at=run.started_at,
        updated_at=run.beat_at,
        finished_at=run.finished_at,
        cancel_requested=run.cancel_requested,
        counts=dict(run.counts),
        error=run.error,
    )
