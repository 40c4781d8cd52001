"""The trigger that waits for a job in Airflow's triggerer and copies the job's log to the task's log."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from distilray.deploy.airflow.hook import RayJobsHook
from distilray.deploy.errors import SubmitError, UnreachableError
from distilray.deploy.follow import Tail


class DistilrayTrigger(BaseTrigger):
    """A trigger that fires once, when the job has ended.

    poll_interval: the seconds between two requests. deadline: the time at which the job is stopped, in seconds since
    1970. The event is plain data: status (one of Ray's, TIMEOUT or LOST), exit_code, message, result.
    """

    def __init__(self, conn_id: str, job_id: str, poll_interval: float, deadline: float | None = None):
        super().__init__()
        self.conn_id, self.job_id, self.poll_interval, self.deadline = conn_id, job_id, poll_interval, deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {name: getattr(self, name) for name in ("conn_id", "job_id", "poll_interval", "deadline")}
        return "distilray.deploy.airflow.trigger.DistilrayTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent(await self._wait())

    async def on_kill(self) -> None:
        """Stop the job after a user has ended the task."""
        cluster = await RayJobsHook(self.conn_id).aget_conn()
        await asyncio.to_thread(cluster.stop, self.job_id)

    async def _wait(self) -> dict[str, Any]:
        """Log the job's output until the job ends, and return the event."""
        tail = Tail(await RayJobsHook(self.conn_id).aget_conn(), self.job_id, self.poll_interval)
        while True:
            try:
                text, job = await asyncio.to_thread(tail.read)
            except (UnreachableError, SubmitError) as error:
                return {"status": "LOST", "exit_code": 1, "message": str(error), "result": None}
            if text:
                self.log.info("%s", text.rstrip("\n"))
            if job:
                return {"status": job.status, "exit_code": job.exit_code, "message": job.message, "result": tail.result}
            if self.deadline and time.time() > self.deadline:
                await self.on_kill()
                message = "the job was stopped, because it ran longer than the task's execution_timeout"
                return {"status": "TIMEOUT", "exit_code": 1, "message": message, "result": None}
            await asyncio.sleep(tail.pause)
