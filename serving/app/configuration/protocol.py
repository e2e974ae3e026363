"""Bodies of /v1/admin/configuration."""

from typing import Any, Final

from pydantic import BaseModel, Field

from serving.app.examples import example

EXAMPLE: Final[dict[str, Any]] = {
    "name": "server.port",
    "value": "8000",
    "from": "default",
    "variable": "KB_SERVER__PORT",
}


class SettingBody(BaseModel):
    """`value` as text; a secret's is stars."""

    model_config = example(EXAMPLE)

    name: str
    value: str
    origin: str = Field(serialization_alias="from")
    variable: str


class SettingList(BaseModel):
    model_config = example({"object": "list", "data": [EXAMPLE]})

    object: str = "list"
    data: list[SettingBody]


def setting_list(rows: list[tuple[str, str, str, str]]) -> SettingList:
    names = ("name", "value", "origin", "variable")
    return SettingList(data=[SettingBody(**dict(zip(names, row, strict=True))) for row in rows])
