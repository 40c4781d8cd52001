"""URIs and job files with secrets: errors and redacted texts contain no secret."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from distilray.model.storage.redact import redacted
from distilray.pipeline import JobError, load_job
from distilray.pipeline.job.job import parse_job
from tests.security.planted import planted_in


@pytest.mark.parametrize(
    "uri",
    [
        "s3://PLANTEDKEY1:PLANTED/secret+2@bucket/x",
        "s3://user:PLANTED-password-4@bucket/x",
        "https://PLANTED_token_3@host/x.parquet",
        "https://host/x.parquet?X-Amz-Signature=PLANTED_token_3",
        "https://host/x?a=1&access_token=PLANTED_token_3",
        "abfs://c@account.dfs.core.windows.net/x?sig=PLANTED_token_3",
        "simplecache::ftp://user:PLANTED-password-4@host/x",
        "http://[PLANTED_token_3:PLANTED/secret+2@host",
    ],
)
@pytest.mark.parametrize("place", ["source", "sink", "model", "option"])
def test_a_uri_with_a_secret_is_an_error_without_the_secret(uri: str, place: str) -> None:
    raw: dict[str, Any] = {
        "source": {"uri": "s3://a/"},
        "tasks": [{"task": "token-classification", "model": "s3://m/"}],
        "sink": {"uri": "s3://b/"},
    }
    if place == "option":
        raw["source"]["storage_options"] = {"endpoint_url": uri}
    elif place == "model":
        raw["tasks"][0]["model"] = uri
    else:
        raw[place]["uri"] = uri
    with pytest.raises(JobError, match="must hold no password") as error:
        parse_job(raw, "job")
    assert not planted_in(str(error.value))


@pytest.mark.parametrize(
    "uri",
    [
        "hf://org/name@main",
        "abfs://container@account.dfs.core.windows.net/x",
        "http://localhost:9000/x",
        "http://[::1]:9000/x",
        "s3://bucket/a@b",
        "https://host/x?download=true",
        "memory://x",
        "zip://a.parquet::s3://bucket/x.zip",
    ],
)
def test_a_uri_without_a_secret_is_accepted(uri: str) -> None:
    raw = {"source": {"uri": uri}, "tasks": [{"task": "embeddings", "model": uri}], "sink": {"uri": "/out"}}
    assert parse_job(raw, "job").source.uri == uri


PRINTED = st.text(st.characters(categories=("L", "M", "N", "P", "S")))  # characters that repr does not escape
PLAIN = st.sampled_from(
    [
        "s3://b",
        "s3://b/k=1/a.parquet",
        "s3://b/a@b",
        "s3://b/it's@x/",
        "http://h:9000",
        "http://10.0.0.1:80/b/a,b",
        "http://h/",
    ]
)


@given(PRINTED, PRINTED)
@example("AK", "se'cr@et/x")
@example("AK", 'se"c')
@example("me@x.com", "p/a")
@example("us/er", "9000/b")
@example("u", "'),'/@:\\")
@example("u", "abcd://efgh")
def test_redaction_leaves_no_part_of_a_password(user: str, password: str) -> None:
    assume(not re.search(r"\W\w[\w+.-]*://", f"://{user}:{password}"))  # the pattern is the start of the next URI
    uri, clean = f"s3://{user}:{password}@b/k", "s3://***@b/k"
    assert redacted(f"no route to {uri}: gone") == f"no route to {clean}: gone"
    assert redacted(repr([uri, uri])).replace('"', "'") == repr([clean, clean])


@given(st.lists(PLAIN, min_size=1, max_size=4))
@example(["http://127.0.0.1:9000/b/k", "s3://bucket/part@2024/x.parquet"])
@example(["s3://bucket/part@2024", "http://127.0.0.1:9000/b/k", "zip://a/b@c::http://h:80/x", "s3://bucket/a@b"])
def test_redaction_keeps_uris_without_secrets(uris: list[str]) -> None:
    for text in (repr(uris), "['{}']".format("','".join(uris)), ",".join(uris)):
        assert redacted(text) == text


def test_redaction_covers_uris_in_errors_of_libraries() -> None:
    text = 'Could not connect to "http://me:hunter2@10.0.0.1:9000/bucket?X-Amz-Credential=a%2Fb&x=1&X-Amz-Signature=cd"'
    clean = 'Could not connect to "http://***@10.0.0.1:9000/bucket?X-Amz-Credential=***&x=1&X-Amz-Signature=***"'
    assert redacted(text) == clean
    for secret in ("p@ss", "p'ss", "pa/ss@w", "a#b?c"):  # the environment may contain such passwords
        assert redacted(f"no route to http://me:{secret}@host:9/b") == "no route to http://***@host:9/b"
    assert redacted("https://to@ken@host/x") == "https://***@host/x"
    assert redacted("http://me:a,s3://b@host/x,s3://c/d@e") == "http://***@e"
    for plain in ("s3://bucket/a@b: gone", "at 10:30 a@b.c said x: y", "file.parquet?token"):
        assert redacted(plain) == plain


@pytest.mark.parametrize(
    "value", ["*PLANTEDKEY1", "!PLANTEDKEY1 x", "&PLANTEDKEY1 [*PLANTEDKEY1x]", '"PLANTEDKEY1', "%PLANTEDKEY1"]
)
def test_a_yaml_error_does_not_quote_a_secret(tmp_path: Path, value: str) -> None:
    (tmp_path / "job.yaml").write_text(f"source: {{uri: a, storage_options: {{\n  secret: {value}\n  }}}}\n")
    with pytest.raises(JobError) as error:
        load_job(tmp_path / "job.yaml")
    assert not planted_in(str(error.value))
