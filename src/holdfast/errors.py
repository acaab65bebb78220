"""The one exception that a user's mistake raises: a line that says where it is and what to do."""


class HoldfastError(Exception):
    """Something the user can mend. The command line prints its message as one line and exits with code 2.

    The message names the file, line and field where there are any, shows the offending value (shortened),
    and says what to do.
    """
