"""Errors of submitting a job and of following it."""


class SubmitError(ValueError):
    """A job or a cluster that cannot be used as given. The message has what was expected, what came, and what to do."""


class UnreachableError(RuntimeError):
    """A cluster that did not answer for too long. The job may still be running there."""
