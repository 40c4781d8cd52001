"""What keeps a job from being submitted, or from being watched."""


class SubmitError(ValueError):
    """A job or a cluster that cannot be used as it was given: what was expected, what came, and what to do."""


class UnreachableError(RuntimeError):
    """A cluster that did not answer for too long; what runs there may run on."""
