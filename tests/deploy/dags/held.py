"""DAGs with one task each, which waits for its job in the worker or in the triggerer."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, AssetAlias

from distilray.deploy.airflow import DistilrayOperator

JOB = {
    "source": {"uri": "{{ params.corpus }}"},
    "tasks": [{"task": "token-classification", "model": "{{ params.model }}"}],
    "sink": {"uri": "{{ params.answers }}"},
    "compute": {"engine": "local"},
}
PLACES = {"corpus": "/corpus", "model": "/model", "answers": "/answers"}

for name, deferrable in (("in_worker", False), ("in_triggerer", True), ("failed_by_hand", True)):
    with DAG(name, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), params=PLACES):
        DistilrayOperator(
            task_id="run",
            job=JOB,
            deferrable=deferrable,
            poll_interval=1,
            retries=2,
            retry_delay=timedelta(seconds=1),
            outlets=[AssetAlias("held")],
        )
