"""The kinds of values that options of jobs and tasks have."""

import os
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from distilray.model.storage.redact import holds_secret


def location(uri: str) -> str:
    """A URI, or a local path made absolute: workers have another working directory."""
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
    """0.1% is 0.001; what is no percentage is left to the type."""
    if isinstance(value, str) and value.endswith("%"):
        return float(value.removesuffix("%")) / 100
    return value


def _without_passwords(options: dict[str, Any]) -> dict[str, Any]:
    """An endpoint or a proxy is quoted by the errors of every library."""
    if wrong := sorted(str(name) for name, value in options.items() if isinstance(value, str) and holds_secret(value)):
        raise ValueError(
            f"{', '.join(wrong)}: a URI must hold no password; give it as key and secret, or in the environment"
        )
    return options


Location = Annotated[str, AfterValidator(location)]
# s3fs and other fsspec arguments: endpoint_url, key, secret, ...; never part of a log, a manifest or a fingerprint
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
    """How many of so many rows a Limit is."""
    return int(rows * Decimal(limit.removesuffix("%")) / 100) if isinstance(limit, str) else limit


_Percentage = Annotated[str, WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%$"})]
Limit = Annotated[Annotated[int, Field(ge=0, strict=True)] | _Percentage, AfterValidator(_limit)]  # 100, or "0.1%"
ColumnName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Score = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[Score, BeforeValidator(_share, json_schema_input_type=Score | _Percentage)]  # 0.001, or "0.1%"
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class Frozen(BaseModel):
    """Plain data that cannot change; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
