"""A DAG that waits each day for a partition of a corpus, answers it on a Ray cluster, and verifies and publishes it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, ObjectStoragePath, dag, task

from distilray.deploy.airflow import DistilrayOperator

ANSWERS = Asset(name="answers", uri="s3://lake/answers")  # other DAGs are scheduled on this asset
JOB = "answers.yaml"
URIS = {"corpus": "s3://lake/corpus", "model": "s3://lake/models/ner", "answers": "s3://lake/answers"}


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params=URIS,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
)
def answers() -> None:
    """Answer the partition of a day. The connection ray_default names the cluster."""

    @task.sensor(poke_interval=60, mode="reschedule")
    def wait(params: dict[str, Any], ds: str) -> bool:
        """Wait for _SUCCESS, which the writer of a partition writes last."""
        return (ObjectStoragePath(params["corpus"]) / f"day={ds}" / "_SUCCESS").exists()

    @task(outlets=[ANSWERS])
    def publish(figures: dict[str, Any], *, outlet_events: Any) -> None:
        """Start the DAGs that are scheduled on the asset, and give them the figures of the output."""
        outlet_events[ANSWERS].extra = figures

    run = DistilrayOperator(task_id="run", job=JOB)
    verify = DistilrayOperator(task_id="verify", job=JOB, command="verify")
    wait() >> run >> verify >> publish(run.output)


answers()
