"""Random texts from characters and words that are difficult for a WordPiece tokenizer."""

import random
import string
import unicodedata

from tests.support import HARD_TEXTS, SPECIAL, WORDS

WHITE_SPACE = [
    *" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000",
    "\r\n",
    "  ",
]
CONTROL = [*"\x00\x01\x08\x1b\x7f\x80\x9f\xad\u0378\u0600\u061c\u180e\u200b\u200c\u200d\u200e\u202e\u2060\ufeff\ufffd\ufffe\uffff\ue000\U000e0001\U000f0000\U0010ffff"]  # fmt: skip
MARKS = [*"\u0300\u0301\u0302\u0307\u0308\u030a\u0323\u0327\u0338\u0345\u0483\u0591\u064b\u0651\u0670\u093c\u093f\u094d\u0e31\u0e34\u1ab0\u20e3\u3099\u309a\ufe0f\U0001d165\U0001e8d0"]  # fmt: skip
PUNCTUATION = [*string.punctuation, *"\u00a1\u00a7\u00ab\u00bb\u00bf\u037e\u0589\u060c\u0964\u1400\u2013\u2014\u2018\u201c\u2026\u2030\u203f\u2e3a\u3001\u3002\u300c\uff01\uff0c\uff3f\u20ac\u2122\u2212\U00010100"]  # fmt: skip
LETTERS = [*"aAzZ09\u00e9\u00c9\u00df\u1e9e\u0130\u0131\ufb01\u01c5\u212b\u2126\u03c2\u03a3\u03c3\u0387\u0958\u1e69\u1100\u1161\u11a8\uac00\ud55c\u0915\u0e01\u0623\u05d0\u0416\u0439\u2460\u00b2\uff21\uff76\u30ac"]  # fmt: skip
CJK = [*"\u4e2d\u5317\u3400\u9fff\uf900\ufa30\u3042\u30f3\u3131\U00020000\U0002a6df\U0002f800\U0002b740"]
EMOJI = [
    "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f1e9\U0001f1ea",
    "\u2764\ufe0f",
    "1\ufe0f\u20e3",
]
_NAMES = [
    "caf\u00e9",
    "na\u00efve",
    "\u00c5ngstr\u00f6m",
    "Ti\u1ebfng Vi\u1ec7t",
    "Stra\u00dfe",
    "\u0130stanbul",
    "\uac00\ub098\ub2e4",
]
OTHERS = [
    *_NAMES,
    *(unicodedata.normalize("NFD", name) for name in _NAMES),
    *(n.upper() for n in _NAMES),
    *SPECIAL,
    "[ SEP ]",
]
LONG = [letter * n for letter in ("a", "\u00e9", "e\u0301", "\u4e2d") for n in (99, 100, 101, 130)]
KINDS = (WORDS, WHITE_SPACE, PUNCTUATION, LETTERS, MARKS, CONTROL, CJK, EMOJI, OTHERS)


def any_character(draw: random.Random) -> str:
    """Draw any Unicode character that UTF-8 can encode."""
    code = draw.randrange(draw.choice((0x80, 0x800, 0x10000, 0x110000)))
    return chr(code) if not 0xD800 <= code < 0xE000 else "\ufffd"


def hard_text(draw: random.Random) -> str:
    """Draw a text of pieces of three kinds. Most texts also have single spaces."""
    kinds = draw.choices(KINDS, k=3)
    pieces = [
        any_character(draw) if (kind := draw.random()) < 0.1 else " " if kind < 0.4 else draw.choice(draw.choice(kinds))
        for _ in range(draw.randrange(16))
    ]
    if draw.random() < 0.02:
        pieces.append(draw.choice(LONG) if draw.random() < 0.8 else draw.choice(HARD_TEXTS))
    draw.shuffle(pieces)
    return "".join(pieces)


def hard_texts(count: int, seed: int) -> list[str]:
    """Draw texts. Equal arguments give equal texts."""
    draw = random.Random(seed)
    return [hard_text(draw) for _ in range(count)]
