"""Fixtures that several folders of these tests share."""

from collections.abc import Iterator

import pytest

from tests.s3 import S3Server, s3_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server without buckets."""
    with s3_server(tmp_path_factory.mktemp("s3") / "data") as server:
        yield server
