"""How many rows may die before a run stops."""

from distilray.operators.objects.stats import Stats
from distilray.operators.rows.reasons import FAILURES
from distilray.operators.tasks.options import Limit, limit_of
from distilray.pipeline.errors import DeadLettersError

_FAILURES = 10, "1%"  # that many, or that share of the rows if it is more: what fails oftener is no fault of rows


def check_max_dead(stats: Stats, planned: int, max_dead: Limit | None) -> None:
    """Raises DeadLettersError if more of the `planned` rows died than `max_dead`.

    Without it any number of bad inputs may, but rows that failed (see FAILURES) may not be many.
    """
    if max_dead is None:
        dead = {reason: count for reason, count in stats.dead.items() if reason in FAILURES}
        most, rule = max(_FAILURES[0], limit_of(_FAILURES[1], planned)), "rows may fail"
    else:
        dead, most, rule = dict(stats.dead), limit_of(max_dead, planned), f"may die by max_dead: {max_dead}"
    if sum(dead.values()) > most:
        said = ", ".join(f"{count:,} {reason}" for reason, count in sorted(dead.items(), key=lambda item: -item[1]))
        raise DeadLettersError(
            f"{sum(dead.values()):,} of {planned:,} rows are dead letters ({said}), {most:,} {rule}; their messages are in "
            "dead/ of the sink: mend what they say, or set max_dead, and run the job again"
        )
