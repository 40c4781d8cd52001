"""Random victims at random moments, until enough have died; every job's output is then compared with the undisturbed one."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

from tests.chaos.cluster import VICTIMS, Nodes, end
from tests.chaos.stage import PATIENCE, Stage
from tests.proxy import Rule

# how often each dies, if it is there
_WEIGHTS = {**dict.fromkeys(VICTIMS, 5), "driver": 3, "server": 2, "node": 1}
_KILLS_OF_A_JOB = 20
_PACE = Rule(["delay"], method="GET", path="corpus/", rate=0.5, seconds=0.15)  # so that there is something to kill
_STEPS = ("_plan.parquet", "_runs/", "dead/", "dead/", *["data/"] * 6, "_manifest.json", "_SUCCESS")
_CALM = 5  # runs without a kill, that a job has to come to its end
_LONGEST = 2.5  # seconds between two kills of one run


@dataclass
class Soak:
    """killed: by victim and where; ended: what became of the runs; wrong: by output."""

    stage: Stage
    nodes: Nodes
    draw: random.Random
    say: Callable[[str], None] = print
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
        """Job after job; the verdict as plain data."""
        jobs = 0
        while self.kills < kills:
            jobs += 1
            engine = "local" if jobs % 3 == 0 else "ray"
            self._job(f"{engine}-{jobs}", engine, min(kills, self.kills + _KILLS_OF_A_JOB))
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

    def _job(self, out: str, engine: str, until: int) -> None:
        """One job to its end, in as many runs as it takes; the last are left in peace."""
        finished, calm = False, 0
        while not finished and calm < _CALM:
            calm += self.kills >= until
            driver = self.stage.start(out, engine, {"RAY_ADDRESS": self.nodes.address})
            if self.kills < until:
                self._harass(driver, engine, until, out)
            self.stage.proxy.rules(_PACE)
            finished = self._ended(driver, out)
        self.stage.proxy.rules()
        wrong = self.stage.judge(out) if finished else {"ends": "never"}
        if wrong:
            self.wrong[out] = wrong
        self._tell(f"{out} is {wrong or 'right'}")

    def _harass(self, driver: BaseProcess, engine: str, until: int, out: str) -> None:
        """Kills one after another, as long as the driver lives."""
        while self.kills < until:
            moment = self._moment(driver, out)
            if not driver.is_alive():
                break
            victim, kill = self._victim(driver, engine)
            kill()
            self.killed[victim] += 1
            self.moments[moment] += 1
            self._tell(f"{out}: {victim} killed {moment}")
            self.stage.proxy.release(go=self.draw.random() < 0.5)
            self._mend(victim)
        self.stage.proxy.rules(_PACE)
        self.stage.proxy.release()

    def _moment(self, driver: BaseProcess, out: str) -> str:
        """Waits: any time, or until a put of the protocol is about to be done, or done but not answered."""
        if self.draw.random() < 0.3:
            self.stage.proxy.rules(_PACE)
            driver.join(self.draw.uniform(0, _LONGEST))
            return "at any time"
        when, step = self.draw.choice(["before", "after"]), self.draw.choice(_STEPS)
        path, skip = f"/out/{out}/{step}", self.draw.randrange(4) if step == "data/" else 0
        self.stage.proxy.rules(Rule([f"hold_{when}"], method="PUT", path=path, skip=skip, times=1), _PACE)
        end = time.monotonic() + self.draw.uniform(_LONGEST, 6 * _LONGEST)
        while driver.is_alive() and time.monotonic() < end:
            driver.join(0.05)
            if self.stage.proxy.held():
                return f"{when} a put of {step.rstrip('/')}"
        self.stage.proxy.rules(_PACE)
        return "at any time"

    def _victim(self, driver: BaseProcess, engine: str) -> tuple[str, Callable[[], None]]:
        """One of those that there are now, and its end."""
        ends: dict[str, Callable[[], None]] = {"driver": driver.kill, "server": self.stage.server.kill}
        if engine == "ray":
            ends["node"] = partial(self.nodes.kill, self.draw.choice(self.nodes.working))
            for kind in VICTIMS:
                if pids := self.nodes.workers(kind):
                    ends[kind] = partial(end, self.draw.choice(pids))
        victim = self.draw.choices([*ends], [_WEIGHTS[kind] for kind in ends])[0]
        return victim, ends[victim]

    def _mend(self, victim: str) -> None:
        """What only its owner starts again, a while later."""
        if victim in ("server", "node"):
            time.sleep(self.draw.uniform(0, 2))
        if not self.stage.server.running:
            self.stage.server.start()
        while len(self.nodes.working) < 2:
            self.nodes.add()

    def _ended(self, driver: BaseProcess, out: str) -> bool:
        """Whether the driver said success; a silent hang is an error of its own."""
        driver.join(PATIENCE)
        if driver.is_alive():
            driver.kill()
            driver.join()
            self.wrong[f"{out} hangs"] = True
        code = driver.exitcode
        self.ended["killed" if code == -9 else "success" if code == 0 else "error"] += 1
        if code not in (0, -9):
            self.errors.append(_last_line(self.stage.log(out).read_text()))
            self._tell(f"{out}: {self.errors[-1]}")
        return code == 0

    def _tell(self, text: str) -> None:
        self.say(f"{time.monotonic() - self.started:6.1f} s  {self.kills:3} kills  {text}")


def _last_line(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith("distilray: what is")]
    return lines[-1][:200] if lines else ""
