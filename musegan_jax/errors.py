"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user can mend: the message says what, where, and what to do.

    The command line prints it on one line, without a traceback, and exits with status 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of another library's error, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
