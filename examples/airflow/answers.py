"""Each day: wait for the day's partition of a corpus, answer it on a Ray cluster, verify the answers, publish them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, ObjectStoragePath, dag, task

from distilray.deploy.airflow import DistilrayOperator

ANSWERS = Asset(name="answers", uri="s3://lake/answers")  # what other DAGs are scheduled on
JOB = "answers.yaml"
PLACES = {"corpus": "s3://lake/corpus", "model": "s3://lake/models/ner", "answers": "s3://lake/answers"}


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params=PLACES,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
)
def answers() -> None:
    """The connection ray_default names the cluster."""

    @task.sensor(poke_interval=60, mode="reschedule")
    def wait(params: dict[str, Any], ds: str) -> bool:
        """Whoever writes a partition puts _SUCCESS last."""
        return (ObjectStoragePath(params["corpus"]) / f"day={ds}" / "_SUCCESS").exists()

    @task(outlets=[ANSWERS])
    def publish(figures: dict[str, Any], *, outlet_events: Any) -> None:
        """Those that are scheduled on the asset start now, and see what is in it."""
        outlet_events[ANSWERS].extra = figures

    run = DistilrayOperator(task_id="run", job=JOB)
    verify = DistilrayOperator(task_id="verify", job=JOB, command="verify")
    wait() >> run >> verify >> publish(run.output)


answers()
