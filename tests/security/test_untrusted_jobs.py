"""Untrusted job files run no code and use little memory."""

from pathlib import Path

import pytest
import yaml

from distilray.pipeline import JobError, load_job
from distilray.pipeline.job.job_file import read_job_file


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system [touch trapped]",
        "!!python/name:os.system ''",
        "!!pairs [k: v]",
        "!!omap [k: v]",
    ],
)
def test_a_tag_of_an_object_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(f"source: {tag}\n")
    with pytest.raises(JobError, match="could not determine a constructor"):
        load_job(tmp_path / "job.yaml")
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{a: " * 5000 + "}" * 5000,
        "source: " + "9" * 5000,
        "source: 2024-13-45",
        "source: !!timestamp x",
        "source: !!bool x",
        "source: !!int x",
        "a: &a [*a]",
        "source: {uri: a, uri: b}",
        "{? [1] : 2}",
        "x: " + "a" * 2**19,
        "a0: &a0 {k: x}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40)),
    ],
)
def test_a_hostile_job_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(JobError):
        read_job_file(tmp_path / "job.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)),
        f"a: &a {{{','.join(f'k{i}' for i in range(2000))}}}\nb: {{<<: [{','.join(['*a'] * 8000)}]}}\n",
        f'a: &a "{"x" * 100_000}"\nb: [*a, *a, *a, *a, *a]\n',
    ],
)
def test_aliases_that_expand_to_a_large_job_are_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    message = r"line \d+: expected at most 524288 values and characters, counting the content of an alias at each use"
    with pytest.raises(JobError, match=message):
        read_job_file(tmp_path / "job.yaml")


def test_the_limit_is_checked_before_aliases_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging would use the memory that the limit saves."""
    monkeypatch.setattr(yaml.SafeLoader, "flatten_mapping", lambda *_: pytest.fail("merged"))
    (tmp_path / "job.yaml").write_text(f"a: &a {'x' * 1000}\nb: {{<<: {{k: [{','.join(['*a'] * 1000)}]}}}}\n")
    with pytest.raises(JobError, match="expected at most"):
        read_job_file(tmp_path / "job.yaml")


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {<<: *a}", "a: &a {k: [*a]}"])
def test_an_alias_inside_its_own_anchor_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(JobError, match="line 1: an alias refers to a node that contains it"):
        read_job_file(tmp_path / "job.yaml")


def test_a_job_may_use_aliases(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("a: &s {key: k, list: [1, 2]}\nb: *s\nc: {<<: *s, key: other}\n")
    same = {"key": "k", "list": [1, 2]}
    assert read_job_file(tmp_path / "job.yaml") == {"a": same, "b": same, "c": same | {"key": "other"}}


def test_a_job_may_merge_many_keys(tmp_path: Path) -> None:
    labels = {f"label{i}": i for i in range(120)}
    text = "base: &base {other: 1}\nthresholds:\n  <<: *base\n" + "".join(f"  {k}: {v}\n" for k, v in labels.items())
    (tmp_path / "job.yaml").write_text(text + "again: {<<: [*base, {more: 2}], other: 3}\n")
    job = read_job_file(tmp_path / "job.yaml")
    assert job["thresholds"] == {"other": 1} | labels
    assert job["again"] == {"other": 3, "more": 2}


def test_only_bytes_limit_a_job_without_aliases(tmp_path: Path) -> None:
    keys = (f"k{key:03x}" for key in range(2560))
    text = "{" + ",".join(keys)
    (tmp_path / "job.yaml").write_text(f"{text},long: {'x' * (2**18 - len(text.encode()) - 8)}}}")
    assert len(read_job_file(tmp_path / "job.yaml")) == 2561


def test_a_duplicate_key_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("source:\n  uri: a\n  uri: b\n")
    with pytest.raises(JobError, match="line 3: a key occurs twice"):
        load_job(tmp_path / "job.yaml")
