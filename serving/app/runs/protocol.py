"""Bodies of /v1/runs and /v1/admin/runs."""

from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from kb.types import Run, RunStatus

RUN_EXAMPLE: Final[dict[str, Any]] = {
    "id": "9b1d0c6f4a1e4c0f8f3f6c1a2b3c4d5e",
    "object": "run",
    "collection": "handbook",
    "source_id": "5f2c7e9a1b3d4f60",
    "document_id": None,
    "kind": "incremental",
    "status": "running",
    "queued_at": "2026-11-25T09:30:00Z",
    "started_at": "2026-11-25T09:30:01Z",
    "updated_at": "2026-11-25T09:30:07Z",
    "finished_at": None,
    "cancel_requested": False,
    "counts": {"found": 120, "unchanged": 80, "indexed": 31, "failed": 1},
    "error": None,
}


class RunBody(BaseModel):
    """A run. It waits (`queued`), goes on (`running`: `counts` grow, `updated_at` moves every second),
    and ends as `done`, `failed`, `cancelled` or `interrupted`; `error` says why.

    `kind`: `upload`, `retry_document`, a sync (`incremental`, `full`, `retry`), `repair`, `reindex`,
    `evaluation` or `backup`. `collection` is null for what concerns all. `queued_at` is null for what did
    not go through the queue, `started_at` while it waits. `document_id` is that of an upload, or of a
    document read again.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [RUN_EXAMPLE]})

    id: str
    object: str = "run"
    collection: str | None
    source_id: str | None
    document_id: str | None
    kind: str
    status: RunStatus
    queued_at: datetime | None
    started_at: datetime | None
    updated_at: datetime | None
    finished_at: datetime | None
    cancel_requested: bool
    counts: dict[str, int]
    error: str | None


class RunList(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"object": "list", "data": [RUN_EXAMPLE]}]}
    )

    object: str = "list"
    data: list[RunBody]


def run_body(run: Run) -> RunBody:
    return RunBody(
        id=run.id,
        collection=run.collection,
        source_id=run.source_id,
        document_id=run.request.get("document_id"),
        kind=run.kind,
        status=run.status,
        queued_at=run.queued_at,
        started_at=None if run.status is RunStatus.QUEUED else run.started_at,
        updated_at=run.beat_at,
        finished_at=run.finished_at,
        cancel_requested=run.cancel_requested,
        counts=dict(run.counts),
        error=run.error,
    )


def run_list(runs: list[Run]) -> RunList:
    return RunList(data=[run_body(run) for run in runs])
