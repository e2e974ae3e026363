"""Bodies of /v1/admin/sources and /v1/admin/sync."""

from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, Field

from ingestion.planning import EngineKind, SyncMode
from kb.types import Run, SourceKind, SourceRecord, Symlinks
from serving.app.examples import asked, example
from serving.app.runs.protocol import RUN_EXAMPLE, RunBody, run_body
from serving.bootstrap import DEFAULT_COLLECTION

EXAMPLE: Final[dict[str, Any]] = {
    "id": "5f2c7e9a1b3d4f60",
    "object": "source",
    "collection": "handbook",
    "kind": "folder",
    "root": "/srv/handbook",
    "groups": ["staff"],
    "include": ["*.pdf", "*.docx"],
    "exclude": ["drafts/"],
    "max_file_mb": 50,
    "symlinks": "inside",
    "paused": False,
}
SYNC_EXAMPLE: Final = {"mode": "incremental", "confirm_deletes": False, "engine": "in-process"}

MaxFileMb = Field(
    default=None, ge=1, le=1 << 20, description="files larger than this (MiB) are left out"
)


class SourceCreate(BaseModel):
    """`path` is on the server's machine; an upload area needs none. Patterns are as in .gitignore."""

    model_config = asked(
        {
            "path": "/srv/handbook",
            "collection": "handbook",
            "include": ["*.pdf", "*.docx"],
            "exclude": ["drafts/"],
            "max_file_mb": 50,
            "groups": ["staff"],
        }
    )

    path: str | None = Field(
        default=None, description="a folder, or the file with the list of files; absolute"
    )
    kind: SourceKind = SourceKind.FOLDER
    collection: str = DEFAULT_COLLECTION
    include: list[str] = []
    exclude: list[str] = []
    max_file_mb: int | None = MaxFileMb
    symlinks: Symlinks = Symlinks.INSIDE
    groups: list[str] = []

    def place(self) -> Path | None:
        return None if self.path is None else Path(self.path)


class SourceChange(BaseModel):
    """What is left out stays as it is. `include` and `exclude` only by keys that administer everything."""

    model_config = asked({"paused": True})

    paused: bool = False
    groups: list[str] = []
    include: list[str] = []
    exclude: list[str] = []


class SourceBody(BaseModel):
    model_config = example(EXAMPLE)

    id: str
    object: str = "source"
    collection: str
    kind: SourceKind
    root: str
    groups: list[str]
    include: list[str]
    exclude: list[str]
    max_file_mb: int | None
    symlinks: Symlinks
    paused: bool


class SourceDetail(SourceBody):
    model_config = example(EXAMPLE | {"last_run": RUN_EXAMPLE})

    last_run: RunBody | None


class SourceList(BaseModel):
    model_config = example({"object": "list", "data": [EXAMPLE]})

    object: str = "list"
    data: list[SourceBody]


class SourceDeleted(BaseModel):
    model_config = example(
        {"id": EXAMPLE["id"], "object": "source.deleted", "deleted_documents": 120}
    )

    id: str
    object: str = "source.deleted"
    deleted_documents: int


class SyncStart(BaseModel):
    """`confirm_deletes` deletes what is gone, however much it is."""

    model_config = asked(SYNC_EXAMPLE)

    mode: SyncMode = SyncMode.INCREMENTAL
    confirm_deletes: bool = False
    engine: EngineKind = EngineKind.IN_PROCESS

    def asked_for(self) -> dict[str, Any]:
        """As a queued run keeps it."""
        return {"confirm_deletes": self.confirm_deletes, "engine": self.engine}


class SyncAllStart(SyncStart):
    model_config = asked(SYNC_EXAMPLE | {"collection": "handbook"})

    collection: str | None = Field(default=None, description="only this one; else all")


def source_body(record: SourceRecord) -> SourceBody:
    return SourceBody(**_fields(record))


def source_detail(record: SourceRecord, runs: list[Run]) -> SourceDetail:
    return SourceDetail(**_fields(record), last_run=run_body(runs[0]) if runs else None)


def _fields(record: SourceRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "collection": record.collection,
        "kind": record.kind,
        "root": record.root,
        "groups": list(record.groups),
        "include": list(record.include),
        "exclude": list(record.exclude),
        "max_file_mb": record.max_file_mb,
        "symlinks": record.symlinks,
        "paused": record.paused,
    }
