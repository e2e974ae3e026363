"""Runs one command's action over opened services."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from kb.errors import ConfigError
from kb.logs import configure_logs
from kb.settings import Settings, TracingSettings, load_settings
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

    with traced(chosen.tracing):
        try:
            return asyncio.run(opened())
        except asyncio.CancelledError as error:
            raise KeyboardInterrupt from error


def traced(settings: TracingSettings) -> AbstractContextManager[None]:
    """Within it spans are sent where the settings say. Raises ConfigError, which never repeats the URL."""
    endpoint = settings.endpoint.get_secret_value()
    if not endpoint:
        return nullcontext()
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError("tracing.endpoint is no address, such as http://127.0.0.1:4318.")
    try:
        # Importing OpenTelemetry takes half a second.
        from serving.span_export import sending_spans
    except ImportError as error:
        raise ConfigError(
            "tracing.endpoint is set, but OpenTelemetry is missing. Install the extra:"
            " pip install 'kb-server[otel]'"
        ) from error
    return sending_spans(endpoint)
