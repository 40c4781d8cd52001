"""Isolation of rows that make a step fail, so that only these rows become dead letters.

`bisect` finds rows that raise; `sandbox` finds rows that end their process; `watchdog` ends a process without progress.
Import `Isolation` and `call_bisecting` from `bisect`, `guarded` and `Sandbox` from `sandbox`, and `Watchdog`.
"""
