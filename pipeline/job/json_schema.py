"""The JSON schema of a job. Editors complete and check job files with it; docs/job.schema.json is a copy."""

from typing import Any

from distilray.operators.tasks.options import OPTIONS
from distilray.pipeline.job.job import Job


def job_schema() -> dict[str, Any]:
    """Return the JSON schema of a job file.

    The schema does not contain rules between keys, such as column names that must differ. Only the parser checks these.
    """
    schema = Job.model_json_schema()
    for definition in (schema, *schema["$defs"].values()):
        # the list of options is for help(); here each option has its description
        definition["description"] = definition["description"].partition(OPTIONS)[0]
    for definition in schema["$defs"].values():
        if "task" in definition["properties"]:  # has a default in Python, but a file must contain it
            definition["required"].append("task")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
