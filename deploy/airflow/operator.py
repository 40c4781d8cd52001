"""A distilray job as an Airflow task."""

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

_WRONG_AS_WRITTEN = 2  # exit code of distilray


class RayDashboardLink(BaseOperatorLink):
    """To the job's page in Ray's dashboard."""

    name = "Ray dashboard"
    key = "ray_dashboard"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002  Airflow's signature
        """Empty before the job was submitted."""
        return XCom.get_value(ti_key=ti_key, key=self.key) or ""


class DistilrayOperator(BaseOperator):
    """Runs a job on a Ray cluster, or attaches to the attempt of it that runs already; waits in the triggerer.

    job: plain data, YAML, or the name of a .yaml file beside the DAG; templated. command: `run`, or `verify` for the output
    of the job. conn_id: an HTTP connection (see RayJobsHook). poll_interval: seconds. deferrable: False waits in the worker.
    `execution_timeout` stops the job.

    Returns the figures of the run (`None` for verify), and adds them to the events of its outlets; an AssetAlias among
    them gets the sink as its asset. Killed or cleared by a person, it stops the job.
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
        try:
            cluster = RayJobsHook(self.conn_id).get_conn()
            submission = prepare(self.job, self.command)
            started = start(cluster, submission)
        except SubmitError as error:
            raise AirflowFailException(str(error)) from None
        self._running = (cluster, started.job_id)
        if self._killed:  # while it was being submitted
            self.on_kill()
            raise AirflowFailException(f"{started.job_id} was stopped: the task was ended while it was submitted")
        self.log.info("%s %s", "attached to" if started.attached else "submitted", started.job_id)
        page = f"{cluster.address}/#/jobs/{started.job_id}"
        context["ti"].xcom_push(key=RayDashboardLink.key, value=page)
        context["ti"].xcom_push(
            key=RayDashboardLink().xcom_key, value=page
        )  # the page shows it while the task is deferred
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
        """The figures of the run. Raises AirflowException; AirflowFailException, which ends the retries, for a job that can
        never run as it is written."""
        if event["status"] != "SUCCEEDED":
            kind = AirflowFailException if event["exit_code"] == _WRONG_AS_WRITTEN else AirflowException
            raise kind(f"{event['status']}, exit code {event['exit_code']}: {event['message']}")
        figures: dict[str, Any] | None = event["result"]
        for outlet in self.outlets:
            said = context["outlet_events"][outlet]
            if isinstance(outlet, AssetAlias):
                sink = sink_of(self.job)
                said.add(Asset(sink if "://" in sink else f"file://{sink}"), extra=figures or {})
            elif isinstance(outlet, Asset):
                said.extra = figures or {}
        return figures

    def on_kill(self) -> None:
        """Stops the job, if it was submitted; a worker that dies at once does not come here, and its job runs on."""
        self._killed = True
        if self._running:
            cluster, job_id = self._running
            cluster.stop(job_id)
