"""The commands: one module for each, and the modules account and compute that they share. They print nothing.

Other folders import the function and the result class of each command. They also import `execute` and `RunStart` from
`run`, and `find_cluster` from `submit`.
"""
