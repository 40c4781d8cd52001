"""The KubeRay manifests: they fit the schemas of KubeRay, and the jobs, commands and actor pools of the project."""

import gzip
import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml

from distilray.model.errors import BackendError
from distilray.model.network.attention import choose_attention
from distilray.pipeline.cli.parser import parser
from distilray.pipeline.engines.actor_pools import size_pools
from distilray.pipeline.job.job import Compute, Job, parse_job

ROOT = Path(__file__).resolve().parent.parent.parent
MANIFESTS = sorted((ROOT / "deploy/kuberay").glob("*.yaml"))
SCHEMAS = ROOT / "tests/fixtures/kuberay"
# the part of a ConfigMap that the manifests use
CONFIG_MAP = {
    "required": ["apiVersion", "kind", "metadata", "data"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "v1"},
        "kind": {"const": "ConfigMap"},
        "metadata": {"properties": {"name": {"type": "string"}}, "additionalProperties": False, "required": ["name"]},
        "data": {"additionalProperties": {"type": "string"}},
    },
}


def documents(manifest: Path) -> dict[str, Any]:
    """Return the resources of a manifest by their kind."""
    return {each["kind"]: each for each in yaml.safe_load_all(manifest.read_text())}


def ray_of(manifest: Path) -> dict[str, Any]:
    """Return the RayJob or the RayCluster."""
    found = documents(manifest)
    ray: dict[str, Any] = found.get("RayJob") or found["RayCluster"]
    return ray


def cluster_of(manifest: Path) -> dict[str, Any]:
    spec: dict[str, Any] = ray_of(manifest)["spec"]
    cluster: dict[str, Any] = spec.get("rayClusterSpec", spec)
    return cluster


def job_of(manifest: Path) -> Job:
    """Return the job in the ConfigMap that the head mounts at the path in the entrypoint."""
    found = documents(manifest)
    (file,) = [word for word in shlex.split(found["RayJob"]["spec"]["entrypoint"]) if word.endswith(".yaml")]
    head = cluster_of(manifest)["headGroupSpec"]["template"]["spec"]
    (mount,) = head["containers"][0]["volumeMounts"]
    (volume,) = head["volumes"]
    assert (mount["name"], mount["mountPath"]) == (volume["name"], str(Path(file).parent))
    assert volume["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    return parse_job(yaml.safe_load(found["ConfigMap"]["data"][Path(file).name]), manifest.name)


@cache
def validator_of(kind: str) -> jsonschema.Draft202012Validator:
    """Return the validator of a kind. It is cached, because the schemas are large."""
    if kind == "ConfigMap":
        return jsonschema.Draft202012Validator(CONFIG_MAP)
    packed = (SCHEMAS / f"kuberay-1.7.0-{kind.lower()}.schema.json.gz").read_bytes()
    return jsonschema.Draft202012Validator(json.loads(gzip.decompress(packed)))


def problems(document: dict[str, Any]) -> list[str]:
    """Return the violations of the schema by a resource."""
    return [f"{error.json_path}: {error.message}" for error in validator_of(document["kind"]).iter_errors(document)]


def groups_of(manifest: Path) -> dict[str, dict[str, Any]]:
    return {group["groupName"]: group for group in cluster_of(manifest)["workerGroupSpecs"]}


def containers_of(manifest: Path) -> list[dict[str, Any]]:
    """Return the containers of the head and of every group."""
    cluster = cluster_of(manifest)
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [container for pod in pods for container in pod["template"]["spec"]["containers"]]


def node_types(manifest: Path) -> dict[str, dict[str, Any]]:
    """Return the groups as the KubeRay autoscaler of Ray reads them."""
    from ray.autoscaler._private.kuberay import autoscaling_config as kuberay  # imported late, because it takes seconds

    about = {"name": "x", "namespace": "default"}
    read = kuberay._derive_autoscaling_config_from_ray_cr({"metadata": about, "spec": cluster_of(manifest)})
    types: dict[str, dict[str, Any]] = read["available_node_types"]
    return types


every = pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
with_a_job = pytest.mark.parametrize(
    "manifest", [each for each in MANIFESTS if each.stem.endswith("-job")], ids=lambda path: path.stem
)


@every
def test_the_schema_accepts_each_manifest(manifest: Path) -> None:
    assert len(MANIFESTS) == 3
    for document in documents(manifest).values():
        assert problems(document) == []


CLUSTER = ("spec", "rayClusterSpec")
GROUPS = (*CLUSTER, "workerGroupSpecs", 0)
POD = (*CLUSTER, "headGroupSpec", "template", "spec")


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ((*GROUPS, "minReplica"), 0, r"workerGroupSpecs\[0\]: .*'minReplica' was unexpected"),
        ((*GROUPS, "maxReplicas"), "32", r"maxReplicas: '32' is not of type 'integer'"),
        ((*GROUPS, "rayStartParams", "num-cpus"), 0, r"0 is not of type 'string'"),
        ((*POD, "containers", 0, "envfrom"), [], r"containers\[0\]: .*'envfrom' was unexpected"),
        ((*POD, "tolerations"), {}, r"tolerations: {} is not of type 'array'"),
        ((*CLUSTER, "authOptions", "mode"), "tokens", r"mode: 'tokens' is not one of"),
        (("spec", "backoffLimit"), "2", r"backoffLimit: '2' is not of type 'integer'"),
    ],
)
def test_the_schema_refuses_mistakes(path: tuple[str | int, ...], value: object, problem: str) -> None:
    job = documents(ROOT / "deploy/kuberay/gpu-job.yaml")["RayJob"]
    inner = job
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (found,) = problems(job)
    assert re.search(problem, found)


def test_the_schema_requires_group_names() -> None:
    job = documents(ROOT / "deploy/kuberay/gpu-job.yaml")["RayJob"]
    del job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["groupName"]
    assert problems(job) == ["$.spec.rayClusterSpec.workerGroupSpecs[0]: 'groupName' is a required property"]


@with_a_job
def test_the_job_and_its_command_are_valid(manifest: Path) -> None:
    program, *arguments = shlex.split(ray_of(manifest)["spec"]["entrypoint"])
    assert program == "distilray"
    assert parser().parse_args(arguments).command == "run"
    assert job_of(manifest).compute.engine == "ray"


@every
def test_the_pools_fit_the_groups(manifest: Path) -> None:
    """All work without a GPU fits the group cpu at its initial size. Each GPU has one predict worker."""
    types = node_types(manifest)
    cpu, gpu = types["cpu"], types.get("gpu")
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert groups_of(manifest)["cpu"]["replicas"] == cpu["min_workers"] == cpu["max_workers"]
    cpus = cpu["min_workers"] * cpu["resources"]["CPU"]
    gpus = gpu["max_workers"] if gpu else 0
    compute = job_of(manifest).compute if "job" in manifest.stem else Compute(gpus=gpus)
    assert (compute.gpus or 0) == gpus
    pools = size_pools(compute, cpus, gpus, remaining_cpus=cpus - cpu["resources"]["CPU"])
    assert pools.predict.max == (gpus or pools.predict.max)
    if gpu:
        assert (groups_of(manifest)["gpu"]["replicas"], gpu["min_workers"]) == (0, 0)
        assert gpu["resources"]["GPU"] == pools.predict.num_gpus
        assert gpu["resources"]["CPU"] >= pools.predict.num_cpus
        if "job" in manifest.stem:
            with pytest.raises(BackendError):  # the job must not run on CPUs by mistake
                choose_attention(compute.attention, torch.device("cpu"), torch.float32, head_dim=64)
        assert pools.tokenize.max == 3 * gpus  # the CPUs suffice for all tokenizers
        assert "3.5 CPUs per GPU plus one" in manifest.read_text()
        assert cpus >= 3.5 * gpus + 1


@every
def test_manifests_pass_the_validation_of_the_operator(manifest: Path) -> None:
    """The test covers the rules that concern these manifests."""
    ray, cluster = ray_of(manifest), cluster_of(manifest)
    assert cluster["rayVersion"]  # the token requires it
    assert bool(cluster.get("enableInTreeAutoscaling")) == ("gpu" in groups_of(manifest))
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert {pod["template"]["spec"].get("restartPolicy", "Never") for pod in pods} == {
        "Never"
    }  # required by autoscaler v2
    assert len(ray["metadata"]["name"]) <= 47
    if ray["kind"] == "RayJob":
        assert ray["spec"]["shutdownAfterJobFinishes"]  # required by ttlSecondsAfterFinished
        assert ray["spec"]["activeDeadlineSeconds"] > ray["spec"]["preRunningDeadlineSeconds"] > 0


@every
def test_pods_have_the_secret_and_no_privileges(manifest: Path) -> None:
    text = manifest.read_text()
    assert "AWS_" not in text
    for container in containers_of(manifest):
        assert container["envFrom"] == [{"secretRef": {"name": "distilray-s3"}}]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert container["resources"]["requests"] == container["resources"]["limits"]  # Ray reads the limits
    for pod in [cluster_of(manifest)["headGroupSpec"], *cluster_of(manifest)["workerGroupSpecs"]]:
        assert pod["template"]["spec"]["securityContext"]["runAsNonRoot"]


@every
def test_versions_equal_those_of_the_project(manifest: Path) -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
    assert cluster_of(manifest)["rayVersion"] == pins["ray"]
    (image,) = {container["image"] for container in containers_of(manifest)}
    _, _, tag = image.rpartition(":")
    target = tag.rpartition("-")[2]
    assert target == ("cuda" if "gpu" in groups_of(manifest) else "cpu")
    assert image in (ROOT / "docs/kubernetes.md").read_text()
