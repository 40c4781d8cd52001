"""The modes of progress output."""

from typing import Literal, get_args

Mode = Literal["auto", "live", "lines", "json", "none"]
MODES: tuple[str, ...] = get_args(Mode)
