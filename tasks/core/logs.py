"""What a process logs: lines with the time, and nothing in them by which what was read could steer a terminal."""

import logging

from tasks.core.errors import printable


class Printable(logging.Formatter):
    """A line whose control characters are written out."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def start_log(level: int) -> None:
    """Log what is at least of this level to the standard error, unless somebody has set that up before."""
    handler = logging.StreamHandler()
    handler.setFormatter(Printable("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])
