"""Hostile YAML values for job files."""

from random import Random


def yaml_bomb(draw: Random) -> tuple[bytes, bytes]:
    """Return a value of the job and a hostile value that replaces it."""
    old = draw.choice((b"news", b"body", b"[id, url]", b"first", b"0.5", b"2.5", b"local", b"{max: 2}"))
    laughs = "&a [x,x]"
    for i in range(draw.choice((4, 12, 30))):
        laughs = f"&b{i} [{laughs if i == 0 else f'*b{i - 1}'}" + (f", *b{i - 1}" * 9 if i else "") + "]"
    chain = ", ".join(f"&c{i} [{', '.join([f'*c{i - 1}'] * 9) if i else 'x'}]" for i in range(draw.choice((5, 10, 40))))
    depth = draw.choice((50, 900, 5000, 100_000))
    return old, draw.choice(
        (
            laughs,
            f"[{chain}]",
            "&x [*x]",
            "&x {a: *x}",
            "[" * depth,
            "[" * depth + "]" * depth,
            "{a: " * depth + "}" * depth,
            "- " * depth,
            "9" * depth,
            "-0x" + "f" * depth,
            "0b" + "1" * depth,
            "1:" * depth + "0",
            "1e" + "9" * depth,
            "{a: 1, a: 2}",
            "{[1]: 2}",
            "{? {a: b} : c}",
            "!!python/object/apply:os.system [exit]",
            "!!binary " + "A" * depth,
            "!!timestamp 99999-99-99",
            "2024-13-45",
            "!!float x",
            "!!int x",
            "!!set {a, b}",
            "!!omap [a: 1]",
            "!!null x",
            "!!bool x",
            "!foo x",
            "{<<: [{a: 1}]}",
            "{<<: 5}",
            "*undefined",
            "\x00",
            "\x85\u2028",
            ".nan",
            "-.inf",
            "'" + "a" * depth + "'",
            "%TAG ! x",
            "--- a\n--- b",
        )
    ).encode()
