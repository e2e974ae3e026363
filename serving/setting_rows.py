"""The settings in force, and where each comes from."""

import os
import tomllib
from typing import Any

from kb.settings import Settings, config_file, leaves, variable_name


def setting_rows(settings: Settings) -> list[tuple[str, str, str, str]]:
    """Name, value, origin and variable of every setting; secrets are starred."""
    in_file = _file_values()
    rows = []
    for path in leaves(Settings):
        variable = variable_name(path)
        if variable in {name.upper() for name in os.environ}:
            origin = "environment"
        elif _at(in_file, path) is not None:
            origin = str(config_file())
        else:
            origin = "default"
        value: Any = settings
        for name in path:
            value = getattr(value, name)
        rows.append((".".join(path), str(value), origin, variable))
    return rows


def _file_values() -> dict[str, Any]:
    file = config_file()
    return tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}


def _at(values: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values
