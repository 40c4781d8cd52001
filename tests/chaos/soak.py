"""The soak test: it kills random victims at random moments until it has reached a number of kills.

It compares the output of each job with the output of an uninterrupted run.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

from tests.chaos.cluster import VICTIMS, Nodes, kill_process
from tests.chaos.job_on_s3 import TIMEOUT, JobOnS3
from tests.proxy import Rule

# the relative frequency of kills of each victim that is running
_WEIGHTS = {**dict.fromkeys(VICTIMS, 5), "driver": 3, "server": 2, "node": 1}
_KILLS_PER_JOB = 20
_SLOW = Rule(["delay"], method="GET", path="corpus/", rate=0.5, seconds=0.15)  # a slow run has more moments for kills
_STEPS = ("_plan.parquet", "_runs/", "dead/", "dead/", *["data/"] * 6, "_manifest.json", "_SUCCESS")
_UNDISTURBED = 5  # runs without kills in which a job must finish
_MAX_PAUSE = 2.5  # seconds between two kills of one run


@dataclass
class Soak:
    """A soak test over many jobs.

    killed: the number of kills by victim. moments: the number of kills by moment. ended: the number of runs by their
    end. errors: the last lines of the logs of failed runs. wrong: the differences by output.
    """

    job: JobOnS3
    nodes: Nodes
    draw: random.Random
    log: Callable[[str], None] = print
    started: float = field(default_factory=time.monotonic)
    killed: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    wrong: dict[str, Any] = field(default_factory=dict)

    @property
    def kills(self) -> int:
        return sum(self.killed.values())

    def run(self, kills: int) -> dict[str, Any]:
        """Run one job after another until the number of kills is reached. Return the result as plain data."""
        jobs = 0
        while self.kills < kills:
            jobs += 1
            engine = "local" if jobs % 3 == 0 else "ray"
            self._run_job(f"{engine}-{jobs}", engine, min(kills, self.kills + _KILLS_PER_JOB))
        return {
            "kills": self.kills,
            "victims": dict(self.killed),
            "moments": dict(self.moments),
            "jobs": jobs,
            "runs": dict(self.ended),
            "errors": dict(Counter(self.errors)),
            "seconds": round(time.monotonic() - self.started),
            "wrong": self.wrong,
        }

    def _run_job(self, out: str, engine: str, until: int) -> None:
        """Run one job to its end in as many runs as necessary. The last runs are undisturbed."""
        finished, undisturbed = False, 0
        while not finished and undisturbed < _UNDISTURBED:
            undisturbed += self.kills >= until
            driver = self.job.start(out, engine, {"RAY_ADDRESS": self.nodes.address})
            if self.kills < until:
                self._kill_parts(driver, engine, until, out)
            self.job.proxy.rules(_SLOW)
            finished = self._wait_for_end(driver, out)
        self.job.proxy.rules()
        wrong = self.job.differences(out) if finished else {"ends": "never"}
        if wrong:
            self.wrong[out] = wrong
        self._log(f"{out} is {wrong or 'right'}")

    def _kill_parts(self, driver: BaseProcess, engine: str, until: int, out: str) -> None:
        """Kill one victim after another while the driver runs."""
        while self.kills < until:
            moment = self._wait_for_moment(driver, out)
            if not driver.is_alive():
                break
            victim, kill = self._choose_victim(driver, engine)
            kill()
            self.killed[victim] += 1
            self.moments[moment] += 1
            self._log(f"{out}: {victim} killed {moment}")
            self.job.proxy.release(go=self.draw.random() < 0.5)
            self._restart(victim)
        self.job.proxy.rules(_SLOW)
        self.job.proxy.release()

    def _wait_for_moment(self, driver: BaseProcess, out: str) -> str:
        """Wait for a random time, or until the proxy holds an object write of the protocol. Return the moment in words.

        The proxy holds a write before it forwards the request, or before it forwards the answer.
        """
        if self.draw.random() < 0.3:
            self.job.proxy.rules(_SLOW)
            driver.join(self.draw.uniform(0, _MAX_PAUSE))
            return "at any time"
        when, step = self.draw.choice(["before", "after"]), self.draw.choice(_STEPS)
        path, skip = f"/out/{out}/{step}", self.draw.randrange(4) if step == "data/" else 0
        self.job.proxy.rules(Rule([f"hold_{when}"], method="PUT", path=path, skip=skip, times=1), _SLOW)
        deadline = time.monotonic() + self.draw.uniform(_MAX_PAUSE, 6 * _MAX_PAUSE)
        while driver.is_alive() and time.monotonic() < deadline:
            driver.join(0.05)
            if self.job.proxy.held():
                return f"{when} a write of {step.rstrip('/')}"
        self.job.proxy.rules(_SLOW)
        return "at any time"

    def _choose_victim(self, driver: BaseProcess, engine: str) -> tuple[str, Callable[[], None]]:
        """Choose a running victim. Return its kind and the function that kills it."""
        kills: dict[str, Callable[[], None]] = {"driver": driver.kill, "server": self.job.server.kill}
        if engine == "ray":
            kills["node"] = partial(self.nodes.kill, self.draw.choice(self.nodes.worker_nodes))
            for kind in VICTIMS:
                if pids := self.nodes.workers(kind):
                    kills[kind] = partial(kill_process, self.draw.choice(pids))
        victim = self.draw.choices([*kills], [_WEIGHTS[kind] for kind in kills])[0]
        return victim, kills[victim]

    def _restart(self, victim: str) -> None:
        """Start the server or a node again after a random pause. Nothing else restarts them."""
        if victim in ("server", "node"):
            time.sleep(self.draw.uniform(0, 2))
        if not self.job.server.running:
            self.job.server.start()
        while len(self.nodes.worker_nodes) < 2:
            self.nodes.add()

    def _wait_for_end(self, driver: BaseProcess, out: str) -> bool:
        """Wait for the end of the driver. Return whether it succeeded. Record a driver that hangs as wrong."""
        driver.join(TIMEOUT)
        if driver.is_alive():
            driver.kill()
            driver.join()
            self.wrong[f"{out} hangs"] = True
        code = driver.exitcode
        self.ended["killed" if code == -9 else "success" if code == 0 else "error"] += 1
        if code not in (0, -9):
            self.errors.append(_last_line(self.job.log(out).read_text()))
            self._log(f"{out}: {self.errors[-1]}")
        return code == 0

    def _log(self, text: str) -> None:
        self.log(f"{time.monotonic() - self.started:6.1f} s  {self.kills:3} kills  {text}")


def _last_line(log: str) -> str:
    lines = [
        line for line in log.splitlines() if line.strip() and not line.startswith("distilray: committed units are kept")
    ]
    return lines[-1][:200] if lines else ""
