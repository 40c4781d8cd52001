"""The exit codes of the command line; 0 means that the command has done what it was asked for."""

UNFINISHED = 1  # it stopped in the middle: run it again
USER_ERROR = 2  # it cannot be done as asked
INTERRUPTED = 130
