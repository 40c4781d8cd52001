"""The reasons of dead letters that are failures of the computation."""

# why a row is dead that was no bad input: it raised, ended its process, took all memory, made no progress, or gave NaN
ERROR, CRASH, MEMORY, TIMEOUT, NOT_FINITE = FAILURES = ("error", "crash", "out_of_memory", "timeout", "not_finite")
