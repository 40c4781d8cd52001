"""Isolation of rows that make a step fail, so that only these rows become dead letters.

`bisect` finds rows that raise; `sandbox` finds rows that end their process; `watchdog` ends a process without progress.
`attempts` marks attempts at units. `isolated_call` combines these modules for the call of a step.

Import any name without an underscore from these modules. `memory` is internal.
"""
