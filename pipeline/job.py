"""The job: a frozen, validated description; the same from Python, YAML and the command line."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from distilray.model.attention import AttentionName
from distilray.model.checkpoint import Checkpoint
from distilray.model.decode.token_classification import Aggregation
from distilray.model.device import DtypeName
from distilray.operators.schema import RESERVED
from distilray.operators.task import TaskSpec
from distilray.pipeline.errors import JobError


def _location(uri: str) -> str:
    """A URI, or a local path made absolute: workers have another working directory."""
    if not uri:
        raise ValueError("expected a path or a URI, got an empty string")
    if "://" not in uri:
        return os.path.abspath(os.path.expanduser(uri))
    if urlsplit(uri).password is not None:
        raise ValueError("a URI must hold no password; put credentials into storage_options or the environment")
    return uri


Location = Annotated[str, AfterValidator(_location)]
# s3fs and other fsspec arguments: endpoint_url, key, secret, ...; never part of a log, a manifest or a fingerprint
StorageOptions = Annotated[dict[str, Any], Field(default_factory=dict, repr=False, exclude=True)]
Score = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Source(_Frozen):
    """Parquet files: `uri` is a folder, a glob, a file, or a list of them."""

    uri: Location | Annotated[list[Location], Field(min_length=1)]
    text: str = "text"
    keep: list[str] = []
    storage_options: StorageOptions

    @property
    def uris(self) -> list[str]:
        return [self.uri] if isinstance(self.uri, str) else self.uri


class TokenClassification(_Frozen):
    """Entities with a token classification checkpoint.

    aggregation: how tokens become words and spans. compat "hf": exactly Transformers' rules, which cut texts longer
    than the model unless `overlap` (their "stride") is given. overlap: tokens that neighbouring windows share.
    threshold, thresholds: least score of an entity, for all labels and by label.
    """

    task: Literal["token-classification"] = "token-classification"
    model: Location
    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")] = "entities"
    aggregation: Aggregation = "first"
    compat: Literal["hf"] | None = None
    overlap: Annotated[int, Field(ge=0)] | None = None
    threshold: Score = 0.0
    thresholds: dict[str, Score] = {}
    storage_options: StorageOptions

    @model_validator(mode="after")
    def _hf_rules(self) -> Self:
        if self.compat == "hf" and self.aggregation == "none" and self.overlap is not None:
            raise ValueError("compat hf has no overlap with aggregation none; choose another aggregation")
        return self

    def spec(self) -> TaskSpec:
        """What the workers get."""
        return TaskSpec(
            name=self.name,
            checkpoint=Checkpoint(self.model, self.storage_options),
            aggregation=self.aggregation,
            hf=self.compat == "hf",
            overlap=self.overlap,
            threshold=self.threshold,
            thresholds=self.thresholds,
        )


class Sink(_Frozen):
    """The folder that gets data/, dead/ and the manifest."""

    uri: Location
    storage_options: StorageOptions


class Pool(_Frozen):
    """Least and most workers of a stage."""

    min: Positive = 1
    max: Positive | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max} is less than min {self.min}")
        return self


class Compute(_Frozen):
    """How to compute; nothing here changes the answers but dtype."""

    engine: Literal["ray", "local"] = "ray"
    tokenize: Pool = Pool()
    predict: Pool = Pool()
    tokens_per_pack: Annotated[int, Field(ge=512)] | None = None
    unit_bytes: Positive | None = None
    threads: Positive | None = None
    dtype: DtypeName = "auto"
    attention: AttentionName = "auto"


class Job(_Frozen):
    """One pass over a corpus."""

    source: Source
    tasks: Annotated[list[TokenClassification], Field(min_length=1, max_length=1)]
    sink: Sink
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _columns_are_distinct(self) -> Self:
        names = [*RESERVED, *self.source.keep, *(task.name for task in self.tasks)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"column names must differ in the output: {', '.join(twice)} (reserved: {', '.join(RESERVED)})"
            )
        if hidden := [name for name in self.source.keep if name.startswith("_")]:
            raise ValueError(f"kept columns must not start with an underscore: {', '.join(hidden)}")
        return self

    @model_validator(mode="after")
    def _sink_is_outside(self) -> Self:
        inside = [uri for uri in self.source.uris if f"{self.sink.uri.rstrip('/')}/".startswith(f"{uri.rstrip('/')}/")]
        if inside:
            raise ValueError(f"the sink must not lie in the source {inside[0]}: the next run would read its answers")
        return self

    @property
    def task(self) -> TokenClassification:
        return self.tasks[0]

    def description(self) -> dict[str, Any]:
        """The job as plain data, without secrets."""
        return self.model_dump(mode="json")

    def fingerprint(self, model_digest: str) -> str:
        """Equal for two jobs that give the same answers: where they run and how fast is not part of it."""
        said = self.description()
        answers = [said["source"], said["tasks"], said["compute"]["dtype"], model_digest]
        return hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()


def load_job(path: str | Path, overrides: Iterable[str] = ()) -> Job:
    """The job in a YAML file, with `a.b=c` overrides. Raises JobError with every problem in it."""
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:  # its text would quote the line, which may hold a secret
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise JobError(f"cannot read job {path}: line {line}: {error.problem}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise JobError(f"cannot read job {path}: {type(error).__name__}") from None
    if not isinstance(raw, dict):
        raise JobError(f"{path}: expected keys source, tasks, sink, compute; got {type(raw).__name__}")
    for override in overrides:
        _override(raw, override)
    return parse_job(raw, str(path))


def parse_job(raw: dict[str, Any], where: str) -> Job:
    """A job from plain data. Raises JobError naming each wrong key, what was expected, and `where`."""
    try:
        return Job.model_validate(raw)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        says = {"extra_forbidden": "unknown key", "missing": "this key is required"}
        lines = [f"{_key(p['loc'])}: {says.get(p['type'], p['msg'])}" for p in problems]
        raise JobError("\n  ".join([f"{where}:", *lines])) from None


def _key(loc: tuple[int | str, ...]) -> str:
    """A place in the job; what pydantic adds for the members of a union is no key."""
    return ".".join(str(part) for part in loc if not {"[", "("} & set(str(part))) or "job"


def _override(raw: dict[str, Any], override: str) -> None:
    """Sets one key; a number in the path counts into a list."""
    path, equals, value = override.partition("=")
    if not equals or not path:
        raise JobError(f"--set expects a.b=value, got {override.split('=', maxsplit=1)[0]!r}")
    *parents, last = path.split(".")
    node: Any = raw
    try:
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        node[int(last) if isinstance(node, list) else last] = yaml.safe_load(value)
    except (ValueError, IndexError, AttributeError, TypeError, yaml.YAMLError):
        raise JobError(f"--set {path}: there is no such place in the job") from None
