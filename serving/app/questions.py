"""Questions in the log, for whoever switches that on."""

import structlog

from kb.settings import LogSettings

log = structlog.get_logger(__name__)


def log_question(text: str, settings: LogSettings) -> None:
    if settings.questions:
        log.info("question", text=text)
