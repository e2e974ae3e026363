"""Bodies of /v1/admin/doctor."""

from typing import Any, Final

from pydantic import BaseModel, Field

from serving.app.examples import asked, example
from serving.health import Finding

EXAMPLE: Final[dict[str, Any]] = {
    "part": "collection handbook",
    "detail": "118 documents, 1903 chunks in index kb-handbook.2",
    "problem": None,
}


class RepairStart(BaseModel):
    model_config = asked({"collection": "handbook"})

    collection: str | None = Field(default=None, description="only this one; else all")


class FindingBody(BaseModel):
    """One thing looked at; `problem` is null where it is as it should be, else says what to do."""

    model_config = example(EXAMPLE)

    part: str
    detail: str
    problem: str | None


class Examined(BaseModel):
    model_config = example({"object": "health", "healthy": True, "data": [EXAMPLE]})

    object: str = "health"
    healthy: bool
    data: list[FindingBody]


def examined(findings: list[Finding]) -> Examined:
    return Examined(
        healthy=not any(finding.problem for finding in findings),
        data=[FindingBody(part=f.part, detail=f.detail, problem=f.problem) for f in findings],
    )
