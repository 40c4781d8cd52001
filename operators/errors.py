"""The errors of the operators. Their messages state what was expected, what came, and what to do."""


class TaskError(ValueError):
    """A task that does not fit its checkpoint."""


class ColumnSizeError(ValueError):
    """More text in one read than a string column can hold."""


class ShardError(ValueError):
    """A shard that differs from the shard in the plan."""


class SandboxError(RuntimeError):
    """A sandbox process that failed for a reason other than the rows."""


class UnitError(RuntimeError):
    """A unit that cannot be committed: rows are missing or duplicated, or its dead letters are too large."""


class TableError(ValueError):
    """A table that an operator cannot read."""
