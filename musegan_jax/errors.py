"""The exception for errors that the user can fix."""


class UserError(Exception):
    """An error that the user can fix: the message says what, where, and what to do.

    The command line prints it on one line, without a traceback, and exits with status 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of another library's error, or its type if the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
