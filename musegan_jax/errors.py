"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user can mend: the message says what, where, and what to do.

    The command line prints it on one line, without a traceback, and exits with status 2.
    """
