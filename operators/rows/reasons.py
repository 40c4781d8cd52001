"""The reasons of dead letters that are failures of the computation, not of the input."""

# the row raised, ended its process, used too much memory, made no progress, or gave NaN or infinity
ERROR, CRASH, MEMORY, TIMEOUT, NOT_FINITE = FAILURES = ("error", "crash", "out_of_memory", "timeout", "not_finite")
