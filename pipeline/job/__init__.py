"""The description of a job: its models, its file, its JSON schema, and overrides of its keys.

Other folders import the models and parsers of job, answer_keys, job_schema, and the functions of overrides.
"""
