"""A helper for tests of CheckpointError."""

from collections.abc import Callable

import pytest

from distilray.model.errors import CheckpointError


def checkpoint_error(call: Callable[[], object]) -> str:
    """Return the message of the CheckpointError that a call raises."""
    with pytest.raises(CheckpointError) as caught:
        call()
    return str(caught.value)
