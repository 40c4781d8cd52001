"""The tables and arrays that travel between the steps: units, columns, schemas, batches, reasons and timing.

`schema` defines every column; `columns`, `ragged` and `batch` convert between Arrow columns and flat arrays.
Import any name without an underscore from these modules; `schema` is imported as `s`.
"""
