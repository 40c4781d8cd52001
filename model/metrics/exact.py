"""Sums of float64 without any rounding, as whole numbers that add up in any order.

A total is {unit: n}, which stands for the sum of n * 2 ** (64 * unit); units are strings, so that it is JSON.
"""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from distilray.model.errors import MetricError
from distilray.model.metrics.counts import merge

Total = dict[str, int]
Floats = npt.NDArray[np.floating]
_Ints = npt.NDArray[np.int64]

_HALF = 27  # bits of the lower part of a float64's 53


def exact_sum(values: Floats) -> Total:
    """The sum of all values. Raises MetricError for NaN and infinity."""
    return _add_up(*_parts(values))


def exact_dot(a: Floats, b: Floats) -> Total:
    """The sum of all products a * b, as if each had all its digits. Raises MetricError for NaN and infinity."""
    (m, i), (n, j) = _parts(a), _parts(b)
    (mh, ml), (nh, nl) = (divmod(x, 1 << _HALF) for x in (m, n))
    high, middle, low = mh * nh, mh * nl + ml * nh, ml * nl  # 53 + 1 bits at most
    at = i + j
    total: Total = merge(_add_up(high, at + 2 * _HALF), merge(_add_up(middle, at + _HALF), _add_up(low, at)))
    return total


def exact_value(total: Total) -> Fraction:
    """What a total stands for."""
    return sum((n * Fraction(2) ** (64 * int(unit)) for unit, n in total.items()), Fraction(0))


def rounded(value: Fraction) -> float | None:
    """The nearest float64; None past its range."""
    try:
        return float(value)
    except OverflowError:
        return None


def _parts(values: Floats) -> tuple[_Ints, _Ints]:
    """Whole numbers n and exponents e with values = n * 2 ** e."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    bad = np.flatnonzero(~np.isfinite(flat))
    if len(bad):
        raise MetricError(
            f"{len(bad)} of {len(flat)} values are not finite (the first: value {bad[0]} is {flat[bad[0]]}); "
            "are the logits or the gold values NaN, or out of float16's range?"
        )
    mantissa, exponent = np.frexp(flat)
    return np.ldexp(mantissa, 53).astype(np.int64), exponent.astype(np.int64) - 53


def _add_up(numbers: _Ints, exponents: _Ints) -> Total:
    if not len(numbers):
        return {}
    lowest = int(exponents.min())
    sums = np.zeros((2, int(exponents.max()) - lowest + 1), dtype=np.int64)
    for half, part in zip(sums, divmod(numbers, 1 << 32), strict=True):  # no int64 overflows before 2 ** 31 values
        np.add.at(half, exponents - lowest, part)
    total: Total = {}
    for i in np.flatnonzero(sums.any(axis=0)).tolist():  # a few exponents, not the values
        unit, shift = divmod(lowest + i, 64)
        number = (int(sums[0, i]) << 32) + int(sums[1, i])
        total[str(unit)] = total.get(str(unit), 0) + (number << shift)
    return total
