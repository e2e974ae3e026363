"""Bodies with an example in /openapi.json."""

from typing import Any

from pydantic import ConfigDict


def example(body: dict[str, Any]) -> ConfigDict:
    """For `model_config` of what is answered."""
    return ConfigDict(json_schema_extra={"examples": [body]})


def asked(body: dict[str, Any]) -> ConfigDict:
    """For `model_config` of what is asked: a mistyped name is refused, not ignored."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [body]})
