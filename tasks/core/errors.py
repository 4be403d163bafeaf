"""What a user's mistake looks like: one message that says what, where and what to do, and an exit code."""

import re

EXIT_USER_ERROR = 2
"""Exit code of a stage or flow stopped by a mistake in parameters, input or environment."""

EXIT_INTERRUPTED = 75
"""Exit code of a stage stopped by a signal (EX_TEMPFAIL of sysexits.h): nothing is finished, starting again continues."""


CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Controls of terminals, and those that turn the direction of text; not tab and line feed."""
LOGIN = re.compile(r"(\w://)[^\s/?#]*@")


def printable(text: str) -> str:
    """`text` with its control characters written out, which in names and headers of others would steer the terminal, and
    without the logins of addresses in it, such as that of MLFLOW_TRACKING_URI.
    """
    text = LOGIN.sub(r"\1***@", text)
    return CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


class UserError(Exception):
    """A mistake that its maker can mend. Printed without a traceback.

    The message says what is wrong, where (file, record, key) and what to do.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def missing_package(error: ImportError) -> str:
    """The message for a package that is not installed, or not as the project needs it.

    Raises:
        ImportError: it is the project's own module that lacks something: a defect.
    """
    if (error.name or "").partition(".")[0] in ("tasks", "flows"):
        raise error
    return f"{error}. Install what the project needs: make install"


class Interrupted(BaseException):
    """SIGTERM or SIGINT arrived. A `BaseException`, so that no `except Exception` takes it for a failure of the work."""


class WorkerLost(Exception):
    """The process that worked on a shard ended without an answer, twice."""
