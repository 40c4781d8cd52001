"""The commands: one module for each, and the modules account and compute that they share. They print nothing.

Other folders import the function of each command and its result, and execute and RunStart of run.
"""
