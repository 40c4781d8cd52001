"""Where jobs run that are not run here: Ray clusters, Airflow, Kubernetes.

The modules below need neither Ray nor torch, Arrow or pydantic: they also run on an Airflow worker.
"""
