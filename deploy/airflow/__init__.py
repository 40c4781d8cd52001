"""The Airflow 3 integration: an operator that needs neither Ray nor torch on the Airflow worker.

>>> from distilray.deploy.airflow import DistilrayOperator
"""

from distilray.deploy.airflow.hook import RayJobsHook
from distilray.deploy.airflow.operator import DistilrayOperator, RayDashboardLink
from distilray.deploy.airflow.trigger import DistilrayTrigger

__all__ = ["DistilrayOperator", "DistilrayTrigger", "RayDashboardLink", "RayJobsHook"]
