"""Strangers' text made harmless for a screen: it must neither command a terminal nor turn the order of what stands beside it."""

import re

# what is not seen and acts: control characters, marks and embeddings of direction, separators, what has no width, tags;
# joiners stay, for scripts and emoji are written with them
_ACTING = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
_ACTS = re.compile(f"[{_ACTING}]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def escape_invisible(text: str) -> str:
    """The text with the number of each character that acts without being seen; tabs and line feeds stay."""
    return _ACTS.sub(lambda found: f"\u27e8U+{ord(found[0]):04X}\u27e9", text.replace("\r\n", "\n"))


def escape_line(text: str) -> str:
    """The same without line ends and without control characters."""
    return escape_invisible(_CONTROLS.sub(" ", text))
