"""The log of a long-running command: one line an event on stderr, without secrets; stdout stays for results."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

from exchange.cli.frame.output import clean


def log_to_stderr() -> None:
    """Send structured events to stderr as logfmt, from INFO on."""
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            clean_fields,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def clean_fields(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what would steer a terminal: much of what is logged was written by others."""
    return {name: cleaned(value) for name, value in event.items()}


def cleaned(value: Any) -> Any:
    """A field's value as it may be shown; numbers and truth stay what they are."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return "\n".join(clean(line) for line in str(value).split("\n"))
