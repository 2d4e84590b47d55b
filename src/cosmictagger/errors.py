"""Errors that a user can act on."""


class UserError(Exception):
    """Bad input, said in one line: what is wrong, where, and what to do about it.

    The command line prints the message without a traceback and exits with code 2.
    """


class Interrupted(KeyboardInterrupt):
    """All ranks have agreed to end early, and do so by themselves."""
