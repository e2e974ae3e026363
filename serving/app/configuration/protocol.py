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
    origin: str = Field(alias="from")
    variable: str


class SettingList(BaseModel):
    model_config = example({"object": "list", "data": [EXAMPLE]})

    object: str = "list"
    data: list[SettingBody]


def setting_list(rows: list[tuple[str, str, str, str]]) -> SettingList:
    return SettingList(
        data=[
            SettingBody(**{"name": name, "value": value, "from": origin, "variable": variable})
            for name, value, origin, variable in rows
        ]
    )
