"""The errors of the operators."""


class TaskError(ValueError):
    """A task that cannot be done with its checkpoint: what was expected, what came, what to do."""


class ColumnSizeError(ValueError):
    """More text at once than a string column can hold."""


class ShardError(ValueError):
    """A shard that is not what the plan says it is."""


class SandboxError(RuntimeError):
    """A process that failed for a reason that is not in the rows."""


class UnitError(RuntimeError):
    """A unit that did not arrive whole at its commit."""


class TableError(ValueError):
    """A table that an operator cannot take: what was expected, what came, what to do."""
