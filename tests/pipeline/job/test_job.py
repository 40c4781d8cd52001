"""Jobs from YAML, JSON and Python, and the errors for each mistake."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from distilray.operators.tasks.task import open_checkpoints
from distilray.pipeline import Compute, Job, JobError, Sink, Source, TokenClassification, load_job
from distilray.pipeline.job.fingerprint import answer_keys
from distilray.pipeline.job.job import _TASK_NAMES, parse_job

GOOD = """
source: {uri: s3://corpus/news/, text: body, keep: [id, url], storage_options: {key: k, secret: hunter2}}
tasks:
  - {task: token-classification, model: s3://models/ner/, name: entities, aggregation: first}
sink: {uri: s3://out/news-ner/}
compute: {engine: local}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "job.yaml").write_text(GOOD)
    return tmp_path / "job.yaml"


def test_yaml_and_python_are_the_same_job(path: Path) -> None:
    options = {"key": "k", "secret": "hunter2"}
    assert load_job(path) == Job(
        source=Source(uri="s3://corpus/news/", text="body", keep=["id", "url"], storage_options=options),
        tasks=[TokenClassification(model="s3://models/ner/")],
        sink=Sink(uri="s3://out/news-ner/"),
        compute=Compute(engine="local"),
    )


def test_set_overrides_a_key(path: Path) -> None:
    job = load_job(path, ["compute.engine=ray", "tasks.0.aggregation=max", "compute.predict.max=3", "source.keep=[id]"])
    assert (job.compute.engine, job.tasks[0].aggregation, job.compute.predict.max) == ("ray", "max", 3)
    assert job.source.keep == ["id"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["source.txt=body"], "source.txt: unknown key"),
        (["compute.engine=spark"], "compute.engine: Input should be 'ray' or 'local'"),
        (["tasks.0.aggregation=last"], "tasks.0.aggregation: Input should be 'none'"),
        (["tasks.0.threshold=2"], "tasks.0.threshold: Input should be less than or equal to 1"),
        (["compute.predict={min: 3, max: 2}"], "compute.predict: expected max of at least min (3), got 2"),
        (["source.keep=[row]"], "column names must differ in the output: row"),
        (["tasks.0.name=9x"], "tasks.0.name: String should match pattern"),
        (["tasks.0.name=id"], "column names must differ in the output: id"),
        (["tasks=[]"], "tasks: List should have at least 1 item"),
        (["sink.uri=s3://me:hunter2@out/"], "sink.uri: a URI must hold no password"),
        (["tasks.0.compat=hf", "tasks.0.aggregation=none", "tasks.0.overlap=8"], "no overlap with aggregation none"),
        (["tasks.7.name=x"], "--set tasks.7.name: expected the path of a key"),
        (["nonsense"], "--set expects a.b=value"),
        (["sink.uri=s3://corpus/news/out"], "the sink must not lie in the source s3://corpus/news/"),
        (["source.uri=/c/*", "sink.uri=/c/out"], "the sink must not lie in the source /c/*"),
        (["source.uri=/c/*/00*-*.parquet", "sink.uri=/c"], "the sink must not lie in the source /c/*/00*-*.parquet"),
        (
            ["source.uri=s3://c/**/*.parquet", "sink.uri=s3://c/x/y"],
            "the sink must not lie in the source s3://c/**/*.par",
        ),
        (["source.uri=file:///c", "sink.uri=/c/out"], "the sink must not lie in the source file:///c"),
        (["sink=5"], "sink: Input should be a valid dictionary"),
    ],
)
def test_each_mistake_is_an_error_without_secrets(path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(JobError) as caught:
        load_job(path, overrides)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_two_stars_within_a_file_name_are_no_recursive_glob(path: Path) -> None:
    assert load_job(path, ["source.uri=/c/a**b.parquet"]).source.uris == ["/c/a**b.parquet"]


def test_a_missing_or_broken_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("source: {storage_options: {secret: hunter2\n")
    with pytest.raises(JobError, match="bad.yaml: line 2: expected") as caught:
        load_job(tmp_path / "bad.yaml")
    assert "hunter2" not in str(caught.value)
    (tmp_path / "bad.yaml").unlink()
    for content in (None, "a: [", "- a list", "\xff"):
        if content is not None:
            (tmp_path / "bad.yaml").write_bytes(content.encode("latin-1"))
        with pytest.raises(JobError, match="bad.yaml"):
            load_job(tmp_path / "bad.yaml")


def test_json_and_yaml_are_the_same_job(path: Path, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps(yaml.safe_load(GOOD), indent="\t"))  # YAML forbids tabs
    assert load_job(tmp_path / "job.json", ["source.text=title"]) == load_job(path, ["source.text=title"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"source":\n {"secret": hunter2}}', "job.json: line 2: Expecting value"),
        ('{"sink": {"uri": "hunter2", "uri": "b"}}', "job.json: a key occurs twice"),
        ('{"max_dead": NaN}', "job.json: NaN and Infinity are not JSON"),
        ('["hunter2"]', "job.json: expected a mapping with the keys source, tasks, sink, compute; got list"),
        ("[" * 100_000, "job.json: RecursionError"),
        ('{"a": "\xff"}', "job.json: UnicodeDecodeError"),
        (" " * 2**18 + "{}", "job.json: expected at most 262144 bytes"),
        ("source: {uri: x}", "job.json: line 1: Expecting value"),
    ],
)
def test_a_broken_json_file_is_an_error(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "job.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(JobError, match=message) as caught:
        load_job(tmp_path / "job.json")
    assert "hunter2" not in str(caught.value)


def test_one_error_names_all_mistakes() -> None:
    with pytest.raises(JobError) as caught:
        parse_job({"source": {"url": "x"}, "tasks": [{"task": "token-classification", "model": "m"}]}, "job")
    assert str(caught.value).splitlines() == [
        "job:",
        "  source.uri: this key is required",
        "  source.url: unknown key",
        "  sink: this key is required",
    ]


def test_descriptions_contain_no_secrets(path: Path) -> None:
    job = load_job(path)
    assert "hunter2" not in repr(job)
    assert "hunter2" not in str(job.description())
    assert "hunter2" not in repr(open_checkpoints(job.tasks))


def test_only_keys_that_decide_answers_change_the_fingerprint(path: Path) -> None:
    same = ["compute.engine=ray", "compute.threads=4", "source.storage_options.secret=other", "compute.attention=eager"]
    other = ["compute.dtype=bfloat16", "tasks.0.threshold=0.5", "source.text=title", "source.uri=s3://corpus/old/"]
    job = load_job(path)
    assert all(load_job(path, [change]).fingerprint("m") == job.fingerprint("m") for change in same)
    assert all(load_job(path, [change]).fingerprint("m") != job.fingerprint("m") for change in other)
    assert job.fingerprint("another model") != job.fingerprint("m")


def test_the_bytes_of_a_fingerprint_stay_the_same(path: Path) -> None:
    job = load_job(path)
    raw = job.model_dump(mode="json")
    hashed = json.dumps([raw["source"], raw["tasks"], raw["compute"]["dtype"], "a", "b"], sort_keys=True)
    assert job.fingerprint(["a", "b"]) == hashlib.sha256(hashed.encode()).hexdigest()
    assert list(answer_keys(job.description())) == ["source", "tasks", "compute.dtype"]


@pytest.mark.parametrize("task", _TASK_NAMES)
def test_a_task_name_must_be_an_sql_identifier(task: str) -> None:
    raw = {"source": {"uri": "x"}, "tasks": [{"task": task, "model": "m", "name": "a column"}], "sink": {"uri": "y"}}
    with pytest.raises(JobError, match="tasks.0.name: String should match pattern"):
        parse_job(raw, "job")


def test_a_task_without_a_known_kind_is_an_error() -> None:
    raw = {"source": {"uri": "x"}, "tasks": [{"model": "m"}], "sink": {"uri": "y"}}
    with pytest.raises(
        JobError, match="tasks.0: task: this key is required; expected one of token-classification, text-class"
    ):
        parse_job(raw, "job")
    with pytest.raises(JobError, match="tasks.0: task: unknown task; expected one of token-classification, text-"):
        parse_job({**raw, "tasks": [{"task": "translation", "model": "m"}]}, "job")


def test_two_tasks_cannot_read_a_column_as_texts_and_as_lists() -> None:
    pair = {"task": "text-classification", "model": "m", "text_pair": "x"}
    choice = {"task": "multiple-choice", "model": "m", "choices": "x"}
    with pytest.raises(JobError, match="one task reads x as text, another as lists of texts"):
        parse_job({"source": {"uri": "x"}, "tasks": [pair, choice], "sink": {"uri": "y"}}, "job")


def test_internal_columns_cannot_be_read() -> None:
    raw = {"source": {"uri": "x"}, "sink": {"uri": "y"}}
    with pytest.raises(JobError, match="columns whose names start with an underscore cannot be read: _text"):
        parse_job({**raw, "tasks": [{"task": "text-classification", "model": "m", "text_pair": "_text"}]}, "job")
    with pytest.raises(JobError, match="gold: the output reserves the column names shard, row, got row"):
        parse_job({**raw, "tasks": [{"task": "text-classification", "model": "m", "gold": "row"}]}, "job")


def test_a_password_anywhere_in_a_chain_of_uris_is_an_error() -> None:
    with pytest.raises(JobError, match="a URI must hold no password") as caught:
        parse_job({"source": {"uri": "simplecache::s3://key:hunter2@b/x"}, "tasks": [], "sink": {"uri": "y"}}, "job")
    assert "hunter2" not in str(caught.value)
