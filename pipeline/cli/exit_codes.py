"""Exit codes of the command line. 0 means that the command succeeded."""

UNFINISHED = 1  # the command stopped before its end; its message has advice on what to do
USER_ERROR = 2  # the command cannot do what its arguments or its job ask for
INTERRUPTED = 130
