"""The description of a job: frozen, validated models.

A job file, Python code and the command line give the same models. docs/jobs.md describes the keys.
"""

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
from distilray.pipeline.job.fingerprint import fingerprint_of
from distilray.pipeline.job.job_file import read_job_file
from distilray.pipeline.job.overrides import override_key

_Model = TypeVar("_Model", bound=Frozen)


class Source(Frozen):
    """The corpus: Parquet files, and the columns to read from them."""

    uri: Location | Annotated[list[Location], Field(min_length=1)] = Field(
        description="A folder, a glob, a file, or a list of them. "
        "Each is a local path or an fsspec URI such as s3://bucket/news/."
    )
    text: str = Field(
        default="text", description="The column to read. Its type is string, binary, or a dictionary of either."
    )
    keep: list[str] = Field(default=[], description="The columns that are copied with each row into the output.")
    storage_options: StorageOptions = Field(
        default_factory=dict,
        description="Arguments of the file system of the corpus, such as endpoint_url, key, secret or anon.",
    )

    @property
    def uris(self) -> list[str]:
        """The value of `uri` as a list."""
        return [self.uri] if isinstance(self.uri, str) else self.uri


class Sink(Frozen):
    """The folder that receives the output: the plan, data/, dead/ and the manifest."""

    uri: Location = Field(
        description="The folder of the output. It is a local path or an fsspec URI, and it must not lie in the source."
    )
    dead_text: bool = Field(default=False, description="Whether dead letters contain the text of their row.")
    storage_options: StorageOptions = Field(
        default_factory=dict,
        description="Arguments of the file system of the sink, such as endpoint_url, key, secret or anon.",
    )


class Pool(Frozen):
    """The limits on the number of workers of a stage on Ray."""

    min: Positive = Field(default=1, description="The smallest number of workers.")
    max: Positive | None = Field(
        default=None, description="The largest number of workers. null: as many as fit the cluster."
    )

    @model_validator(mode="after")
    def _min_is_at_most_max(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"expected max of at least min ({self.min}), got {self.max}")
        return self


class Parity(Frozen):
    """A comparison of a sample of rows with a float32 reference, computed during the run."""

    rows: Positive = Field(default=200, description="About how many rows of the run are compared.")
    max_label_flips: Share = Field(
        default=0.001,
        description="The share of the decisions of each task that may differ from the reference, such as 0.1%. "
        "A run with more differences does not succeed.",
    )


class Compute(Frozen):
    """How to compute the answers. Of these keys, only dtype changes the answers and is part of the fingerprint."""

    engine: Literal["ray", "local"] = Field(
        default="ray",
        description="Where units are computed. ray: on a Ray cluster. local: one after another in this process.",
    )
    tokenize: Pool = Field(default=Pool(), description="The limits on the number of tokenizers on Ray.")
    predict: Pool = Field(
        default=Pool(), description="The limits on the number of workers that hold the models on Ray."
    )
    gpus: Positive | None = Field(
        default=None,
        description="The number of GPUs of the cluster after its autoscaler has added all nodes. "
        "null: the GPUs that the cluster has at the start of the run.",
    )
    tokens_per_pack: Annotated[int, Field(ge=512)] | None = Field(
        default=None,
        description="The token budget of a forward pass. "
        "null: calibrated for a large corpus, else 8192 on a CPU and 65536 on a GPU.",
    )
    unit_bytes: Positive | None = Field(
        default=None,
        description="The bytes of text in a unit. "
        "null: 1 MiB on CPUs and 32 MiB on GPUs, less for a small corpus on many workers.",
    )
    threads: Positive | None = Field(
        default=None,
        description="The CPU threads of a forward pass. null: on Ray, a share of the CPUs for each predict worker; "
        "in the local engine, torch's default.",
    )
    deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="The seconds without progress after which a worker ends itself. "
        "null: 300 on Ray; a local worker has no deadline.",
    )
    dtype: DtypeName = Field(
        default="auto",
        description="The dtype of the forward pass. auto: float16 on a GPU, bfloat16 on a CPU with AMX or AVX512-BF16, "
        "else float32.",
    )
    attention: AttentionName = Field(
        default="auto",
        description="The attention kernel. auto: on a GPU, flash_attn if it is installed, "
        "else the variable-length kernel of torch; on a CPU, sdpa.",
    )
    stall: Positive | None = Field(
        default=None,
        description="The seconds after which a run on Ray stops if no stage took or returned a unit. "
        "null: 1800, or six times the deadline if that is more.",
    )
    price: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="The price of a device-hour in any currency. If it is set, plan and run show the cost.",
    )
    parity: Parity | None = Field(
        default=None,
        description="The comparison of a sample of rows with a float32 reference. null: no comparison.",
    )


_TASKS: tuple[type[Task], ...] = tuple(getattr(tasks, name) for name in tasks.MODULES)
if TYPE_CHECKING:
    AnyTask = Task
else:
    AnyTask = Annotated[Union[_TASKS], Field(discriminator="task")]  # noqa: UP007  the members are in a tuple


class Job(Frozen):
    """One pass over a corpus: what to read, the tasks to answer, where to write, and how to compute."""

    source: Source = Field(description="The corpus to read.")
    tasks: Annotated[list[AnyTask], Field(min_length=1)] = Field(
        description="One or more tasks. Each adds its column to the output."
    )
    sink: Sink = Field(description="The folder that receives the output.")
    compute: Compute = Field(
        default=Compute(), description="How to compute the answers. Of its keys, only dtype changes the answers."
    )
    max_dead: Limit | None = Field(
        default=None,
        description="The number of dead letters that a run may have, or their share of all rows, such as 0.1%. "
        "null: the rules for failing rows in docs/concepts.md.",
    )

    @model_validator(mode="after")
    def _columns_are_distinct(self) -> Self:
        names = [*s.RESERVED, *self.source.keep, *self.answer_columns]
        if duplicates := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"column names must differ in the output: {', '.join(duplicates)} (reserved: {', '.join(s.RESERVED)}); "
                "set the name of a task, or leave the columns out of source.keep"
            )
        if hidden := [name for name in self.source.keep if name.startswith("_")]:
            raise ValueError(f"the names of kept columns must not start with an underscore: {', '.join(hidden)}")
        return self

    @model_validator(mode="after")
    def _sink_is_outside(self) -> Self:
        if enclosing := [uri for uri in self.source.uris if _covers(uri, f"{self.sink.uri.rstrip('/')}/data")]:
            raise ValueError(
                f"the sink must not lie in the source {enclosing[0]}: the next run would read the answers as shards; "
                "choose a sink outside"
            )
        return self

    @model_validator(mode="after")
    def _columns_can_be_read(self) -> Self:
        gold = [task.gold for task in self.tasks if isinstance(task, EvaluatedTask) and task.gold]
        columns = [self.source.text, *self.inputs.names, *gold]
        if hidden := sorted({name for name in columns if name.startswith("_")}):
            raise ValueError(f"columns whose names start with an underscore cannot be read: {', '.join(hidden)}")
        if taken := sorted(set(gold) & set(s.RESERVED)):
            raise ValueError(
                f"gold: the output reserves the column names {', '.join(s.RESERVED)}, got {', '.join(taken)}; "
                "rename the column"
            )
        return self

    @property
    def answer_columns(self) -> list[str]:
        """The names of the columns that the tasks add to the output."""
        truncated = [task.truncated_column for task in self.tasks if task.truncates]
        return [*(task.name for task in self.tasks), *truncated]

    @property
    def inputs(self) -> pa.Schema:
        """The columns that the tasks read in addition to the text."""
        return inputs_schema(self.tasks)

    def description(self) -> dict[str, Any]:
        """Return the job as plain data, without storage options, which may hold secrets, and without gold columns."""
        return self.model_dump(mode="json")

    def fingerprint(self, digests: Sequence[str]) -> str:
        """Return a hash over the keys that decide the answers: the source, the tasks and the dtype.

        Two jobs with the same fingerprint have the same answers. digests: the digests of the checkpoints, one for each
        task.
        """
        return fingerprint_of(self.description(), digests)


_UNIT = f"{0:06d}-{0:016x}"  # an example of a unit's name


def _covers(uri: str, folder: str) -> bool:
    """Return whether a source reads the data objects of an output.

    uri: the URI of the source. folder: the folder of the data objects. A folder covers all files below it. A glob
    covers the files that it matches and the files below the folders that it matches.
    """
    uri, folder = (path.removeprefix("file://").rstrip("/") for path in (uri, folder))
    ancestors = list(accumulate(f"{folder}/{_UNIT}.parquet".split("/"), "{}/{}".format))  # with the object itself
    fixed, *glob = re.split(r"[*?[]", uri, maxsplit=1)
    if uri in ancestors or not glob:
        return uri in ancestors
    hidden = re.search("/[_.]", folder.removeprefix(fixed.rpartition("/")[0]))  # globs skip such folders
    try:
        matches = re.compile(glob_translate(uri)).match
    except ValueError:  # not a glob, but possibly the name of a file
        return False
    return not hidden and any(map(matches, ancestors))


_TASK_NAMES = [str(task.model_fields["task"].default) for task in _TASKS]


def load_job(path: str | Path, overrides: Iterable[str] = ()) -> Job:
    """Load a job from a YAML file, or from a JSON file if its name ends in .json.

    overrides: keys of the job to set, each as `a.b=value`. Raises JobError with every problem of the job.
    """
    raw = read_job_file(Path(path))
    for override in overrides:
        override_key(raw, override)
    return parse_job(raw, str(path))


def parse_job(raw: dict[str, Any], where: str) -> Job:
    """Parse a job from plain data. where: the origin of the data, for messages.

    Raises JobError. Its message has `where`, each wrong key, and what was expected.
    """
    return _validate(Job, raw, where)


def parse_sink(uri: str, overrides: Iterable[str] = ()) -> Sink:
    """Return the sink at `uri`, with the storage options in `overrides`. Raises JobError for invalid values."""
    return _parse_place(Sink, "sink", uri, overrides)


def parse_source(uri: str, overrides: Iterable[str] = ()) -> Source:
    """Return the source at `uri`, with the storage options in `overrides`. Raises JobError for invalid values."""
    return _parse_place(Source, "source", uri, overrides)


def _parse_place(model: type[_Model], name: str, uri: str, overrides: Iterable[str]) -> _Model:
    raw: dict[str, Any] = {name: {"uri": uri}}
    for override in overrides:
        if override.startswith(f"{name}.storage_options"):
            override_key(raw, override)
    return _validate(model, raw[name], uri)


def _validate(model: type[_Model], raw: dict[str, Any], where: str) -> _Model:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        own_messages = {
            "extra_forbidden": "unknown key",
            "missing": "this key is required",
            "union_tag_invalid": f"task: unknown task; expected one of {', '.join(_TASK_NAMES)}",
            "union_tag_not_found": f"task: this key is required; expected one of {', '.join(_TASK_NAMES)}",
        }
        texts = [own_messages.get(p["type"], p["msg"]).removeprefix("Value error, ") for p in problems]
        lines = [f"{_key_path(p['loc'])}: {text}" for p, text in zip(problems, texts, strict=True)]
        raise JobError("\n  ".join([f"{where}:", *lines])) from None


def _key_path(loc: tuple[int | str, ...]) -> str:
    """Return the path of a key in the job file, without the parts that pydantic adds for the members of a union."""
    return ".".join(str(part) for part in loc if not {"[", "("} & set(str(part)) and part not in _TASK_NAMES) or "job"
