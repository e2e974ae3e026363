"""Structured logs on standard error: readable on a terminal, JSON elsewhere.

No document text is logged, and no questions unless `log.questions` is on.
"""

import logging
import sys

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from kb import tracing
from kb.settings import LogSettings


def configure_logs(settings: LogSettings) -> None:
    """Sends structlog's and the standard library's records through one renderer. Twice is harmless."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    as_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
    renderer: list[structlog.typing.Processor] = (
        [
            # Locals would put questions and document text into the log.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
        if as_json
        else [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    logging.getLogger("alembic").setLevel(logging.WARNING)  # It greets at every start.
    # It logs every request, and each failure that the index raises as an error of ours anyway.
    logging.getLogger("elastic_transport").setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # As many, of the models' servers.
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _trace(
    _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Adds which trace a line belongs to, where there is one."""
    event.update(tracing.ids())
    return event
