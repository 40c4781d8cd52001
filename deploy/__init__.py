"""The clients that run jobs elsewhere: on Ray clusters over HTTP, from the command line or from Airflow.

The modules import neither Ray, torch, Arrow nor pydantic, so that an Airflow worker can use them.
"""
