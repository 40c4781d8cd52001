"""Labels as the prefixes and types of a tag scheme."""

import re
from collections.abc import Sequence

_PREFIX = re.compile(r"([BIEMLSU])[-_](.+)", re.DOTALL)
# the letters of IO, IOB1/IOB2, BIOES, BILOU, BMES; each must hold one of the letters after the bar
_SCHEMES = (("IB", "IB"), ("BIES", "IB"), ("BILU", "IB"), ("BMES", "MB"))


def split_labels(labels: Sequence[str]) -> list[tuple[str, str]]:
    """The prefix and the type of each label; ("", label) for O, and for all labels if they are of no known scheme.

    All labels but O must carry a prefix; where there are B labels, others (such as X) may stand among them as they are.
    """
    parts = [_PREFIX.fullmatch(label) for label in labels if label != "O"]
    letters = {part[1] for part in parts if part}
    ended, begun = ({part[2] for part in parts if part and part[1] in which} for which in ("EL", "B"))
    known = any(letters <= set(scheme) and letters & set(some) for scheme, some in _SCHEMES)
    prefixed = known and ended <= begun and (all(parts) or bool(begun))  # E-MAIL without B-MAIL ends nothing
    matches = [_PREFIX.fullmatch(label) if prefixed and label != "O" else None for label in labels]
    return [(match[1], match[2]) if match else ("", label) for match, label in zip(matches, labels, strict=True)]
