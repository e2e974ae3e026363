"""The description of the API says which errors to expect, in the shape that is sent."""

from typing import Any

import pytest

from kb.settings import Settings
from serving.app.application import create_app
from serving.bootstrap import open_services


@pytest.fixture
async def description(tmp_path: Any) -> dict[str, Any]:
    async with open_services(Settings(data_dir=tmp_path)) as services:
        return create_app(services).openapi()


async def test_every_error_has_our_shape_and_keys_are_asked_for(
    description: dict[str, Any],
) -> None:
    for path, operations in description["paths"].items():
        for operation in operations.values():
            answers = operation["responses"]
            for status in (status for status in answers if status >= "400"):
                if path != "/readyz":
                    schema = answers[status]["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorBody"}
            if path not in ("/healthz", "/readyz"):
                assert {"401", "403", "404", "429", "503"} <= answers.keys(), path
                assert operation["security"] == [{"key": []}]
    assert "HTTPValidationError" not in description["components"]["schemas"]
