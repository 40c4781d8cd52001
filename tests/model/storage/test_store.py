"""Tests of stores that need an optional package: the error names it."""

import pytest

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.errors import CheckpointError, PackageError
from distilray.model.storage.store import open_store


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [
        ("gs://b/x", "gcsfs", "gcs"),
        ("az://c/x", "adlfs", "azure"),
        ("abfss://c@a.dfs.core.windows.net/x", "adlfs", "azure"),
        ("simplecache::gcs://b/x", "gcsfs", "gcs"),
    ],
)
def test_a_missing_package_is_an_error_with_the_install_command(uri: str, package: str, extra: str) -> None:
    with pytest.raises(
        PackageError, match=rf"^\w+:// needs the package {package}: pip install 'distilray\[{extra}\]'$"
    ):
        open_store(uri, {})
    with pytest.raises(CheckpointError, match=rf"cannot read .*/config.json: \w+:// needs the package {package}"):
        _ = Checkpoint(uri).config
