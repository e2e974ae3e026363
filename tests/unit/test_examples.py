"""The examples in the API's description are bodies that it would send or take."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from serving.app import application


def described(kind: type[BaseModel] = BaseModel) -> Iterator[type[BaseModel]]:
    for model in kind.__subclasses__():
        if model.__module__.startswith(application.__package__ or ""):
            yield model
        yield from described(model)


CASES = [
    (model, body)
    for model in sorted(set(described()), key=lambda model: model.__qualname__)
    for body in (model.model_config.get("json_schema_extra") or {}).get("examples", ())  # type: ignore[union-attr]
]


def test_there_are_examples() -> None:
    assert len(CASES) > 25


@pytest.mark.parametrize(("model", "body"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_an_example_is_what_it_stands_for(model: type[BaseModel], body: dict[str, Any]) -> None:
    said = model.model_validate(body).model_dump(mode="json", by_alias=True)
    assert body.items() <= said.items()
    if model.model_config.get("extra") != "forbid":
        assert body.keys() == said.keys()
