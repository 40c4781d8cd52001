"""The JSON schema of a job, for the completion and the checks of editors: docs/job.schema.json."""

from typing import Any

from distilray.pipeline.job.job import Job


def job_schema() -> dict[str, Any]:
    """What a job's file may hold. How keys fit each other, such as column names, only `distilray` checks."""
    schema = Job.model_json_schema()
    for definition in schema["$defs"].values():
        if "task" in definition["properties"]:  # a default in Python; a file must say it
            definition["required"].append("task")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
