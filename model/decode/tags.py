"""Labels split into the prefixes and types of a tag scheme."""

import re
from collections.abc import Sequence

_PREFIX = re.compile(r"([BIEMLSU])[-_](.+)", re.DOTALL)
# for IO with IOB1/IOB2, BIOES, BILOU and BMES: the prefixes of the scheme, and those of which one must occur
_SCHEMES = (("IB", "IB"), ("BIES", "IB"), ("BILU", "IB"), ("BMES", "MB"))


def split_labels(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Return the prefix and the type of each label; ("", label) for O, and for all labels without a known scheme.

    A scheme is recognized if all labels except O have a prefix. If there are B labels, other labels (such as X) may have
    no prefix.
    """
    prefix_matches = [_PREFIX.fullmatch(label) for label in labels if label != "O"]
    prefixes = {match[1] for match in prefix_matches if match}
    ended_types, begun_types = (
        {match[2] for match in prefix_matches if match and match[1] in prefixes_of} for prefixes_of in ("EL", "B")
    )
    is_known_scheme = any(prefixes <= set(scheme) and prefixes & set(required) for scheme, required in _SCHEMES)
    # E-MAIL without B-MAIL is a whole label
    has_prefixes = is_known_scheme and ended_types <= begun_types and (all(prefix_matches) or bool(begun_types))
    matches = [_PREFIX.fullmatch(label) if has_prefixes and label != "O" else None for label in labels]
    return [(match[1], match[2]) if match else ("", label) for match, label in zip(matches, labels, strict=True)]
