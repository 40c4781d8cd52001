"""The job: a frozen, validated description; the same from Python, YAML and the command line."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, Union

import pyarrow as pa
from fsspec.utils import glob_translate
from pydantic import Field, ValidationError, model_validator

from distilray.model.network.names import AttentionName, DtypeName
from distilray.operators import tasks
from distilray.operators.rows import schema as s
from distilray.operators.tasks.options import Frozen, Limit, Location, Positive, Share, StorageOptions
from distilray.operators.tasks.task import EvaluatedTask, Task, inputs_schema
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.fingerprint import answer_keys
from distilray.pipeline.job.job_file import read_job_file
from distilray.pipeline.job.overrides import override_key

_Model = TypeVar("_Model", bound=Frozen)


class Source(Frozen):
    """Parquet files: `uri` is a folder, a glob, a file, or a list of them."""

    uri: Location | Annotated[list[Location], Field(min_length=1)]
    text: str = "text"
    keep: list[str] = []
    storage_options: StorageOptions

    @property
    def uris(self) -> list[str]:
        return [self.uri] if isinstance(self.uri, str) else self.uri


class Sink(Frozen):
    """The folder that gets data/, dead/ and the manifest. dead_text: dead letters have the text of their row."""

    uri: Location
    dead_text: bool = False
    storage_options: StorageOptions


class Pool(Frozen):
    """Least and most workers of a stage."""

    min: Positive = 1
    max: Positive | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max} is less than min {self.min}")
        return self


class Parity(Frozen):
    """A comparison of about `rows` rows with a float32 reference. max_label_flips: the share of their decisions that may
    differ, by task."""

    rows: Positive = 200
    max_label_flips: Share = 0.001


class Compute(Frozen):
    """How to compute; nothing here changes the answers but dtype. gpus: of the cluster, with those its autoscaler can add."""

    engine: Literal["ray", "local"] = "ray"
    tokenize: Pool = Pool()
    predict: Pool = Pool()
    gpus: Positive | None = None
    tokens_per_pack: Annotated[int, Field(ge=512)] | None = None
    unit_bytes: Positive | None = None
    threads: Positive | None = None
    deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    dtype: DtypeName = "auto"
    attention: AttentionName = "auto"
    stall: Positive | None = None
    price: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    parity: Parity | None = None


_TASKS: tuple[type[Task], ...] = tuple(getattr(tasks, name) for name in tasks.MODULES)
if TYPE_CHECKING:
    AnyTask = Task
else:
    AnyTask = Annotated[Union[_TASKS], Field(discriminator="task")]  # noqa: UP007  a union of a tuple


class Job(Frozen):
    """One pass over a corpus. max_dead: dead letters, or their share of all rows ("0.1%"), that do not stop the run."""

    source: Source
    tasks: Annotated[list[AnyTask], Field(min_length=1)]
    sink: Sink
    compute: Compute = Compute()
    max_dead: Limit | None = None

    @model_validator(mode="after")
    def _columns_are_distinct(self) -> Self:
        names = [*s.RESERVED, *self.source.keep, *self.answer_columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"column names must differ in the output: {', '.join(twice)} (reserved: {', '.join(s.RESERVED)})"
            )
        if hidden := [name for name in self.source.keep if name.startswith("_")]:
            raise ValueError(f"kept columns must not start with an underscore: {', '.join(hidden)}")
        return self

    @model_validator(mode="after")
    def _sink_is_outside(self) -> Self:
        if inside := [uri for uri in self.source.uris if _takes(uri, f"{self.sink.uri.rstrip('/')}/data")]:
            raise ValueError(f"the sink must not lie in the source {inside[0]}: the next run would read its answers")
        return self

    @model_validator(mode="after")
    def _columns_can_be_read(self) -> Self:
        gold = [task.gold for task in self.tasks if isinstance(task, EvaluatedTask) and task.gold]
        read = [self.source.text, *self.inputs.names, *gold]
        if hidden := sorted({name for name in read if name.startswith("_")}):
            raise ValueError(f"columns that start with an underscore cannot be read: {', '.join(hidden)}")
        if taken := sorted(set(gold) & set(s.RESERVED)):
            raise ValueError(
                f"gold: columns called {', '.join(s.RESERVED)} are the output's own, got {', '.join(taken)}"
            )
        return self

    @property
    def answer_columns(self) -> list[str]:
        """What the tasks add to the output."""
        truncated = [task.truncated_column for task in self.tasks if task.truncates]
        return [*(task.name for task in self.tasks), *truncated]

    @property
    def inputs(self) -> pa.Schema:
        """The columns that tasks read beside the text."""
        return inputs_schema(self.tasks)

    def description(self) -> dict[str, Any]:
        """The job as plain data, without secrets."""
        return self.model_dump(mode="json")

    def fingerprint(self, digests: Sequence[str]) -> str:
        """Equal for two jobs that give the same answers: where they run and how fast is not part of it."""
        answers = [*answer_keys(self.description()).values(), *digests]
        return hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()


_UNIT = f"{0:06d}-{0:016x}"  # as the first of a plan may be called


def _takes(uri: str, folder: str) -> bool:
    """Whether a source has the files of a folder among its own: those below it, or below what its glob matches."""
    uri, folder = (each.removeprefix("file://").rstrip("/") for each in (uri, folder))
    above = list(accumulate(f"{folder}/{_UNIT}.parquet".split("/"), "{}/{}".format))
    fixed, *glob = re.split(r"[*?[]", uri, maxsplit=1)
    if uri in above or not glob:
        return uri in above
    hidden = re.search("/[_.]", folder.removeprefix(fixed.rpartition("/")[0]))  # what a glob passes by
    try:
        takes = re.compile(glob_translate(uri)).match
    except ValueError:  # it is no glob, but may be the name of a file
        return False
    return not hidden and any(map(takes, above))


_TASK_NAMES = [str(task.model_fields["task"].default) for task in _TASKS]


def load_job(path: str | Path, overrides: Iterable[str] = ()) -> Job:
    """The job in a YAML file, or in a JSON file if it ends in .json, with `a.b=c` overrides.

    Raises JobError with every problem in it.
    """
    raw = read_job_file(Path(path))
    for override in overrides:
        override_key(raw, override)
    return parse_job(raw, str(path))


def parse_job(raw: dict[str, Any], where: str) -> Job:
    """A job from plain data. Raises JobError naming each wrong key, what was expected, and `where`."""
    return _parsed(Job, raw, where)


def parse_sink(uri: str, overrides: Iterable[str] = ()) -> Sink:
    """A sink by its address, with those of the overrides that are its storage options. Raises JobError."""
    return _place(Sink, "sink", uri, overrides)


def parse_source(uri: str, overrides: Iterable[str] = ()) -> Source:
    """The same of a source."""
    return _place(Source, "source", uri, overrides)


def _place(kind: type[_Model], name: str, uri: str, overrides: Iterable[str]) -> _Model:
    raw: dict[str, Any] = {name: {"uri": uri}}
    for override in overrides:
        if override.startswith(f"{name}.storage_options"):
            override_key(raw, override)
    return _parsed(kind, raw[name], uri)


def _parsed(kind: type[_Model], raw: dict[str, Any], where: str) -> _Model:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        says = {
            "extra_forbidden": "unknown key",
            "missing": "this key is required",
            "union_tag_invalid": f"task: there is no such task; one of {', '.join(_TASK_NAMES)}",
            "union_tag_not_found": f"task: this key is required; one of {', '.join(_TASK_NAMES)}",
        }
        texts = [says.get(p["type"], p["msg"]).removeprefix("Value error, ") for p in problems]
        lines = [f"{_key(p['loc'])}: {text}" for p, text in zip(problems, texts, strict=True)]
        raise JobError("\n  ".join([f"{where}:", *lines])) from None


def _key(loc: tuple[int | str, ...]) -> str:
    """A place in the job; what pydantic adds for the members of a union is no key."""
    return ".".join(str(part) for part in loc if not {"[", "("} & set(str(part)) and part not in _TASK_NAMES) or "job"
