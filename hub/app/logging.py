"""How log lines look: one JSON object a line on stderr, or readable ones on a terminal."""

from __future__ import annotations

import asyncio
import logging
import sys

import structlog


def set_up_logging(*, level: int = logging.INFO) -> None:
    """Send structured lines to stderr. Other libraries are heard from WARNING on, without their arguments."""
    renderer = structlog.dev.ConsoleRenderer(colors=False) if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s", stream=sys.stderr, force=True)
    logging.getLogger("apscheduler.executors.default").addFilter(_is_no_cancelled_job)


def _is_no_cancelled_job(record: logging.LogRecord) -> bool:
    """A job that a stopping process cancels is no error."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
