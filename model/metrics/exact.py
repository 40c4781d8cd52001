"""Sums of float64 without rounding, as integers that can be added in any order.

A total is {unit: n} and represents the sum of n * 2 ** (64 * unit). Units are strings, so that a total is JSON.
"""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from distilray.model.errors import MetricError
from distilray.model.metrics.counts import merge

Total = dict[str, int]
Floats = npt.NDArray[np.floating]
_Ints = npt.NDArray[np.int64]

_LOW_BITS = 27  # number of low bits of the 53 bits of a float64


def exact_sum(values: Floats) -> Total:
    """Return the sum of all values. Raises MetricError for NaN and infinity."""
    return _add_scaled(*_to_integers(values))


def exact_dot(a: Floats, b: Floats) -> Total:
    """Return the sum of all products a * b, each with all of its digits. Raises MetricError for NaN and infinity."""
    (m, i), (n, j) = _to_integers(a), _to_integers(b)
    (mh, ml), (nh, nl) = (divmod(x, 1 << _LOW_BITS) for x in (m, n))
    high, middle, low = mh * nh, mh * nl + ml * nh, ml * nl  # at most 53 + 1 bits
    exponents = i + j
    total: Total = merge(
        _add_scaled(high, exponents + 2 * _LOW_BITS),
        merge(_add_scaled(middle, exponents + _LOW_BITS), _add_scaled(low, exponents)),
    )
    return total


def exact_value(total: Total) -> Fraction:
    """Return the number that a total represents."""
    return sum((n * Fraction(2) ** (64 * int(unit)) for unit, n in total.items()), Fraction(0))


def rounded(value: Fraction) -> float | None:
    """Return the nearest float64, or None outside of its range."""
    try:
        return float(value)
    except OverflowError:
        return None


def _to_integers(values: Floats) -> tuple[_Ints, _Ints]:
    """Return integers n and exponents e with values = n * 2 ** e."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    not_finite = np.flatnonzero(~np.isfinite(flat))
    if len(not_finite):
        raise MetricError(
            f"expected finite values, {len(not_finite)} of {len(flat)} values are not finite (the first: value "
            f"{not_finite[0]} is {flat[not_finite[0]]}): correct the gold, or choose dtype float32 if the logits "
            "are out of float16's range"
        )
    mantissa, exponent = np.frexp(flat)
    return np.ldexp(mantissa, 53).astype(np.int64), exponent.astype(np.int64) - 53


def _add_scaled(numbers: _Ints, exponents: _Ints) -> Total:
    if not len(numbers):
        return {}
    lowest = int(exponents.min())
    sums = np.zeros((2, int(exponents.max()) - lowest + 1), dtype=np.int64)
    # int64 does not overflow below 2 ** 31 values
    for sum_row, part in zip(sums, divmod(numbers, 1 << 32), strict=True):
        np.add.at(sum_row, exponents - lowest, part)
    total: Total = {}
    for i in np.flatnonzero(sums.any(axis=0)).tolist():  # a loop over the few exponents, not over values
        unit, shift = divmod(lowest + i, 64)
        number = (int(sums[0, i]) << 32) + int(sums[1, i])
        total[str(unit)] = total.get(str(unit), 0) + (number << shift)
    return total
