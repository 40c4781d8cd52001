"""Untrusted text, escaped for a screen.

Escaped text can neither control a terminal nor change the direction of the text around it.
"""

import re

# Invisible characters with an effect: control characters, marks and embeddings of direction, separators, characters
# without width, and tags. Joiners are not among them, because some scripts and emoji need them.
_INVISIBLE = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
_INVISIBLE_PATTERN = re.compile(f"[{_INVISIBLE}]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def escape_invisible(text: str) -> str:
    """Replace each invisible character that has an effect by its code point. Tabs and line feeds are kept."""
    return _INVISIBLE_PATTERN.sub(lambda match: f"\u27e8U+{ord(match[0]):04X}\u27e9", text.replace("\r\n", "\n"))


def escape_line(text: str) -> str:
    """Escape a text for one line: as `escape_invisible`, and each run of control characters becomes a space."""
    return escape_invisible(_CONTROLS.sub(" ", text))
