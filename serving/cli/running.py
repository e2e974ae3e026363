"""Runs one command's action over opened services."""

import asyncio
import signal
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

    Commands are quieter than the server: their own output says what happened. SIGTERM stops the action
    as Ctrl-C does: what it is at is ended and recorded first.
    """
    chosen = settings or load_settings()
    configure_logs(chosen.log.model_copy(update={"level": log_level}))

    async def opened() -> Result:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with open_services(chosen) as services:
            return await action(services)

    try:
        return asyncio.run(opened())
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error
