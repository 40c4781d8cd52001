"""The operator that runs a distilray job as an Airflow task."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.bases.operatorlink import BaseOperatorLink
from airflow.sdk.definitions.asset import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.execution_time.xcom import XCom

from distilray.deploy.airflow.hook import RayJobsHook
from distilray.deploy.airflow.trigger import DistilrayTrigger
from distilray.deploy.errors import SubmitError
from distilray.deploy.follow import Tail
from distilray.deploy.jobs_api import Cluster
from distilray.deploy.submission import Command, prepare, sink_of, start

_USER_ERROR = 2  # exit code of distilray for a job that cannot run as written


class RayDashboardLink(BaseOperatorLink):
    """A link to the job's page in Ray's dashboard."""

    name = "Ray dashboard"
    key = "ray_dashboard"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002  Airflow's signature
        """Return the address of the page, or an empty string before the job is submitted."""
        return XCom.get_value(ti_key=ti_key, key=self.key) or ""


class DistilrayOperator(BaseOperator):
    """An operator that runs a job on a Ray cluster, or attaches to an attempt that is running.

    job: plain data, YAML, or the name of a .yaml file beside the DAG. It is a templated field. command: `run`, or
    `verify` to check the output of the job. conn_id: an HTTP connection (see RayJobsHook). poll_interval: the seconds
    between two requests. deferrable: whether the task waits in the triggerer. Otherwise it waits in the worker. The job
    is stopped after the task's `execution_timeout`.

    The task returns the figures of the run, or `None` for verify. It adds them to the events of its outlets. An
    AssetAlias among the outlets gets the sink as its asset. If a user ends or clears the task, the job is stopped.
    """

    template_fields: Sequence[str] = ("job", "conn_id")
    template_ext: Sequence[str] = (".yaml", ".yml")
    template_fields_renderers: ClassVar[dict[str, str]] = {"job": "yaml"}
    operator_extra_links = (RayDashboardLink(),)

    def __init__(
        self,
        *,
        job: str | Mapping[str, Any],
        command: Command = "run",
        conn_id: str = RayJobsHook.default_conn_name,
        poll_interval: float = 10,
        deferrable: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.job, self.command, self.conn_id = job, command, conn_id
        self.poll_interval, self.deferrable = poll_interval, deferrable
        self._running: tuple[Cluster, str] | None = None
        self._killed = False

    def execute(self, context: Any) -> dict[str, Any] | None:
        """Submit the job, or attach to it. Defer, or wait until it has ended."""
        try:
            cluster = RayJobsHook(self.conn_id).get_conn()
            submission = prepare(self.job, self.command)
            started = start(cluster, submission)
        except SubmitError as error:
            raise AirflowFailException(str(error)) from None
        self._running = (cluster, started.job_id)
        if self._killed:  # a user ended the task during the submission
            self.on_kill()
            raise AirflowFailException(
                f"{started.job_id} was stopped, because the task was ended during the submission"
            )
        self.log.info("%s %s", "attached to" if started.attached else "submitted", started.job_id)
        page = f"{cluster.address}/#/jobs/{started.job_id}"
        context["ti"].xcom_push(key=RayDashboardLink.key, value=page)
        # Airflow's page reads this key while the task is deferred
        context["ti"].xcom_push(key=RayDashboardLink().xcom_key, value=page)
        if self.deferrable:
            deadline = time.time() + self.execution_timeout.total_seconds() if self.execution_timeout else None
            trigger = DistilrayTrigger(self.conn_id, started.job_id, self.poll_interval, deadline)
            self.defer(trigger=trigger, method_name="execute_complete")
        tail, job = Tail(cluster, started.job_id, self.poll_interval), None
        while job is None:
            text, job = tail.read()
            if text:
                self.log.info("%s", text.rstrip("\n"))
            if job is None:
                time.sleep(tail.pause)
        event = {"status": job.status, "exit_code": job.exit_code, "message": job.message, "result": tail.result}
        return self.execute_complete(context, event)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> dict[str, Any] | None:
        """Return the figures of the run, once the job has ended.

        Raises AirflowException if the job failed. Raises AirflowFailException, which ends the retries, if the job
        cannot run as it is written.
        """
        if event["status"] != "SUCCEEDED":
            kind = AirflowFailException if event["exit_code"] == _USER_ERROR else AirflowException
            raise kind(f"{event['status']}, exit code {event['exit_code']}: {event['message']}")
        figures: dict[str, Any] | None = event["result"]
        for outlet in self.outlets:
            outlet_event = context["outlet_events"][outlet]
            if isinstance(outlet, AssetAlias):
                sink = sink_of(self.job)
                outlet_event.add(Asset(sink if "://" in sink else f"file://{sink}"), extra=figures or {})
            elif isinstance(outlet, Asset):
                outlet_event.extra = figures or {}
        return figures

    def on_kill(self) -> None:
        """Stop the job if it was submitted. A worker that is killed does not call this, and its job keeps running."""
        self._killed = True
        if self._running:
            cluster, job_id = self._running
            cluster.stop(job_id)
