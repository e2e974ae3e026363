"""Bodies of /v1/admin/backups."""

from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel

from serving.app.examples import example
from serving.backup.kept import Backup

EXAMPLE: Final[dict[str, Any]] = {
    "name": "kb-20261125-033000",
    "object": "backup",
    "created_at": "2026-11-25T03:30:00Z",
    "version": "0.1.0",
    "collections": {"handbook": 118},
    "bytes": 48_212_992,
    "snapshot": None,
}


class BackupBody(BaseModel):
    """What a backup says of itself; `collections` are indexed documents by collection.

    `snapshot` is the one of Elasticsearch that holds its indexes, where it is not the folder that does.
    """

    model_config = example(EXAMPLE)

    name: str
    object: str = "backup"
    created_at: datetime
    version: str
    collections: dict[str, int]
    bytes: int
    snapshot: str | None


class BackupList(BaseModel):
    model_config = example({"object": "list", "data": [EXAMPLE]})

    object: str = "list"
    data: list[BackupBody]


class BackupVerified(BaseModel):
    """`problem` says what is wrong where it is not `intact`."""

    model_config = example(
        {
            "name": EXAMPLE["name"],
            "object": "backup.verified",
            "intact": True,
            "problem": None,
        }
    )

    name: str
    object: str = "backup.verified"
    intact: bool
    problem: str | None


def backup_body(backup: Backup) -> BackupBody:
    return BackupBody(
        name=backup.name,
        created_at=backup.created_at,
        version=backup.version,
        collections=dict(backup.collections),
        bytes=backup.size,
        snapshot=backup.snapshot,
    )
