"""Runs one command's action over opened services."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kb.logs import configure_logs
from kb.settings import Settings, load_settings
from serving.bootstrap import Services, open_services

Result = TypeVar("Result")


def run(
    action: Callable[[Services], Awaitable[Result]],
    settings: Settings | None = None,
    log_level: str = "warning",
) -> Result:
    """Opens the services the settings ask for, awaits the action, closes them. Raises KBError.

    Commands are quieter than the server: their own output says what happened.
    """
    chosen = settings or load_settings()
    configure_logs(chosen.log.model_copy(update={"level": log_level}))

    async def opened() -> Result:
        async with open_services(chosen) as services:
            return await action(services)

    return asyncio.run(opened())
