"""The types of the options of jobs and tasks."""

import os
from decimal import Decimal
from inspect import cleandoc
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from distilray.model.storage.redact import holds_secret


def location(uri: str) -> str:
    """Return a URI unchanged and a local path as an absolute path, because workers have another working directory.

    Raises ValueError for an empty string and for a URI that holds a secret.
    """
    if not uri:
        raise ValueError("expected a path or a URI, got an empty string")
    if "://" not in uri:
        return os.path.abspath(os.path.expanduser(uri))
    if holds_secret(uri):
        raise ValueError(
            "a URI must hold no password, token or signature; put credentials into storage_options or the environment"
        )
    return uri


def _share(value: Any) -> Any:
    """Convert a percentage such as 0.1% to a share such as 0.001. Leave other values to the validation of the type."""
    if isinstance(value, str) and value.endswith("%"):
        return float(value.removesuffix("%")) / 100
    return value


def _without_passwords(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options. Raises ValueError if a URI in them holds a secret, because errors of libraries quote URIs."""
    if names := sorted(str(name) for name, value in options.items() if isinstance(value, str) and holds_secret(value)):
        raise ValueError(
            f"{', '.join(names)}: a URI must hold no password; give it as key and secret, or in the environment"
        )
    return options


Location = Annotated[str, AfterValidator(location)]
# arguments of s3fs and other fsspec stores: endpoint_url, key, secret, ...
# they are not part of a log, a manifest or a fingerprint
StorageOptions = Annotated[
    dict[str, Any], Field(default_factory=dict, repr=False, exclude=True), AfterValidator(_without_passwords)
]


def _limit(value: int | str) -> int | str:
    share = value.removesuffix("%") if isinstance(value, str) else ""
    if isinstance(value, str) and not (
        value.endswith("%") and share.replace(".", "", 1).isdecimal() and float(share) <= 100
    ):
        raise ValueError('expected a number of rows, or a share of them such as "0.1%"')
    return value


def limit_of(limit: int | str, rows: int) -> int:
    """Return the number of rows that a Limit means. rows: the number of all rows."""
    return int(rows * Decimal(limit.removesuffix("%")) / 100) if isinstance(limit, str) else limit


_Percentage = Annotated[str, WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%$"})]
Limit = Annotated[Annotated[int, Field(ge=0, strict=True)] | _Percentage, AfterValidator(_limit)]  # 100, or "0.1%"
ColumnName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
AnswerColumn = Annotated[ColumnName, Field(description="The name of the output column with the answers.")]
Score = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[Score, BeforeValidator(_share, json_schema_input_type=Score | _Percentage)]  # 0.001, or "0.1%"
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


OPTIONS = "\n\nOptions:\n"  # the heading of the options in docstrings


class Frozen(BaseModel):
    """An immutable model of plain data. An unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Add the descriptions of the options to the docstring, for `help()`."""
        super().__pydantic_init_subclass__(**options)
        described = {name: field.description for name, field in cls.model_fields.items() if field.description}
        lines = [f"    {name}: {description}" for name, description in described.items()]
        cls.__doc__ = cleandoc(cls.__doc__ or "") + OPTIONS + "\n".join(lines)
