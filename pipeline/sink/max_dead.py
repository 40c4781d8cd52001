"""The limit on dead letters, beyond which a run stops."""

from distilray.operators.objects.stats import Stats
from distilray.operators.rows.reasons import FAILURES
from distilray.operators.tasks.options import Limit, limit_of
from distilray.pipeline.errors import DeadLettersError

# the limit on failing rows: a number, or a share of all rows if that is more; beyond it, single rows are not the cause
_MAX_FAILED_ROWS, _MAX_FAILED_SHARE = 10, "1%"


def check_max_dead(stats: Stats, planned: int, max_dead: Limit | None) -> None:
    """Raise DeadLettersError if more of the `planned` rows are dead letters than `max_dead` allows.

    If `max_dead` is None, any number of bad inputs is allowed, but only a few rows may fail (see FAILURES).
    """
    if max_dead is None:
        dead = {reason: count for reason, count in stats.dead.items() if reason in FAILURES}
        limit, rule = max(_MAX_FAILED_ROWS, limit_of(_MAX_FAILED_SHARE, planned)), "may fail"
    else:
        dead, limit, rule = dict(stats.dead), limit_of(max_dead, planned), f"are allowed by max_dead: {max_dead}"
    if sum(dead.values()) > limit:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(dead.items(), key=lambda item: -item[1]))
        raise DeadLettersError(
            f"{sum(dead.values()):,} of {planned:,} rows are dead letters ({reasons}); at most {limit:,} {rule}. The "
            "messages of the dead letters are in dead/ of the sink. Fix the causes, or set max_dead, and run the job "
            "again"
        )
