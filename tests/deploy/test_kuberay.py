"""The manifests are what KubeRay's schemas allow, and fit the project: its jobs, its commands, its pools."""

import copy
import gzip
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from distilray.pipeline.cli import parser
from distilray.pipeline.job import Compute, Job, parse_job
from distilray.pipeline.pools import size_pools

ROOT = Path(__file__).resolve().parent.parent.parent
MANIFESTS = sorted((ROOT / "deploy/kuberay").glob("*.yaml"))
SCHEMAS = ROOT / "tests/fixtures/kuberay"
# all of a ConfigMap that is used here
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
    """The resources of a manifest by their kind."""
    return {each["kind"]: each for each in yaml.safe_load_all(manifest.read_text())}


def ray_of(manifest: Path) -> dict[str, Any]:
    """The RayJob or the RayCluster."""
    found = documents(manifest)
    ray: dict[str, Any] = found.get("RayJob") or found["RayCluster"]
    return ray


def cluster_of(manifest: Path) -> dict[str, Any]:
    spec: dict[str, Any] = ray_of(manifest)["spec"]
    cluster: dict[str, Any] = spec.get("rayClusterSpec", spec)
    return cluster


def job_of(manifest: Path) -> Job:
    """The job in the ConfigMap that the head mounts where the entrypoint looks for it."""
    found = documents(manifest)
    (file,) = [word for word in shlex.split(found["RayJob"]["spec"]["entrypoint"]) if word.endswith(".yaml")]
    head = cluster_of(manifest)["headGroupSpec"]["template"]["spec"]
    (mount,) = head["containers"][0]["volumeMounts"]
    (volume,) = head["volumes"]
    assert (mount["name"], mount["mountPath"]) == (volume["name"], str(Path(file).parent))
    assert volume["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    return parse_job(yaml.safe_load(found["ConfigMap"]["data"][Path(file).name]), manifest.name)


def schema_of(kind: str) -> dict[str, Any]:
    if kind == "ConfigMap":
        return CONFIG_MAP
    schema: dict[str, Any] = json.loads(
        gzip.decompress((SCHEMAS / f"kuberay-1.7.0-{kind.lower()}.schema.json.gz").read_bytes())
    )
    return schema


def groups_of(manifest: Path) -> dict[str, dict[str, Any]]:
    return {group["groupName"]: group for group in cluster_of(manifest)["workerGroupSpecs"]}


def containers_of(manifest: Path) -> list[dict[str, Any]]:
    """Those of the head and of every group."""
    cluster = cluster_of(manifest)
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [container for pod in pods for container in pod["template"]["spec"]["containers"]]


def cpus_of(group: dict[str, Any]) -> float:
    """What Ray counts on a pod of the group."""
    (container,) = group["template"]["spec"]["containers"]
    return float(group["rayStartParams"].get("num-cpus", container["resources"]["limits"]["cpu"]))


every = pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
with_a_job = pytest.mark.parametrize(
    "manifest", [each for each in MANIFESTS if each.stem.endswith("-job")], ids=lambda path: path.stem
)


@every
def test_the_schema_allows_it(manifest: Path) -> None:
    assert len(MANIFESTS) == 3
    for kind, document in documents(manifest).items():
        jsonschema.validate(document, schema_of(kind))


def wrong_key(job: dict[str, Any]) -> None:
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["minReplica"] = 0


def wrong_key_of_the_pod(job: dict[str, Any]) -> None:
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["envfrom"] = []


def wrong_type(job: dict[str, Any]) -> None:
    job["spec"]["backoffLimit"] = "2"


def number_for_a_string(job: dict[str, Any]) -> None:
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0


def missing_key(job: dict[str, Any]) -> None:
    del job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["groupName"]


def unknown_value(job: dict[str, Any]) -> None:
    job["spec"]["rayClusterSpec"]["authOptions"]["mode"] = "tokens"


@pytest.mark.parametrize(
    "wrong", [wrong_key, wrong_key_of_the_pod, wrong_type, number_for_a_string, missing_key, unknown_value]
)
def test_the_schema_refuses_what_is_wrong(wrong: Callable[[dict[str, Any]], None]) -> None:
    job = copy.deepcopy(documents(ROOT / "deploy/kuberay/gpu-job.yaml")["RayJob"])
    wrong(job)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, schema_of("RayJob"))


@with_a_job
def test_the_job_and_its_command_are_real(manifest: Path) -> None:
    program, *arguments = shlex.split(ray_of(manifest)["spec"]["entrypoint"])
    assert program == "distilray"
    assert parser().parse_args(arguments).command == "run"
    assert job_of(manifest).compute.engine == "ray"


@every
def test_the_pools_find_their_place(manifest: Path) -> None:
    """All that computes without a GPU fits the group cpu as it is when the job starts; each GPU has its predict worker."""
    groups = groups_of(manifest)
    cpu, gpu = groups["cpu"], groups.get("gpu")
    assert cpu["replicas"] == cpu["minReplicas"] == cpu["maxReplicas"]
    there, left = cpu["replicas"] * cpus_of(cpu), (cpu["replicas"] - 1) * cpus_of(cpu)
    gpus = gpu["maxReplicas"] if gpu else 0
    compute = job_of(manifest).compute if "job" in manifest.stem else Compute(gpus=gpus)
    assert (compute.gpus or 0) == gpus
    pools = size_pools(compute, there, gpus, left=left)
    assert pools.predict.max == (gpus or pools.predict.max)
    if gpu:
        assert (gpu["replicas"], gpu["minReplicas"]) == (0, 0)
        assert pools.predict.num_gpus == int(
            gpu["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
        )
        assert pools.predict.num_cpus <= cpus_of(gpu)
        assert pools.tokenize.max == 3 * gpus  # none is missing for want of CPUs
        assert "3.5 CPUs a GPU and one more" in manifest.read_text()
        assert there >= 3.5 * gpus + 1


@every
def test_what_the_operator_checks_beside_the_schema(manifest: Path) -> None:
    """The rules of its validation that these manifests touch."""
    ray, cluster = ray_of(manifest), cluster_of(manifest)
    assert cluster["rayVersion"]  # without it no token
    assert bool(cluster.get("enableInTreeAutoscaling")) == ("gpu" in groups_of(manifest))
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert {pod["template"]["spec"].get("restartPolicy", "Never") for pod in pods} == {"Never"}  # autoscaler v2
    assert len(ray["metadata"]["name"]) <= 47
    if ray["kind"] == "RayJob":
        assert ray["spec"]["shutdownAfterJobFinishes"]  # ttlSecondsAfterFinished needs it
        assert ray["spec"]["activeDeadlineSeconds"] > ray["spec"]["preRunningDeadlineSeconds"] > 0


@every
def test_pods_have_the_secret_and_no_rights(manifest: Path) -> None:
    text = manifest.read_text()
    assert "AWS_" not in text
    for container in containers_of(manifest):
        assert container["envFrom"] == [{"secretRef": {"name": "distilray-s3"}}]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert container["resources"]["requests"] == container["resources"]["limits"]  # Ray counts the limits
    for pod in [cluster_of(manifest)["headGroupSpec"], *cluster_of(manifest)["workerGroupSpecs"]]:
        assert pod["template"]["spec"]["securityContext"]["runAsNonRoot"]


@every
def test_versions_are_the_projects(manifest: Path) -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
    assert cluster_of(manifest)["rayVersion"] == pins["ray"]
    (image,) = {container["image"] for container in containers_of(manifest)}
    _, _, tag = image.rpartition(":")
    target = tag.rpartition("-")[2]
    assert target == ("cuda" if "gpu" in groups_of(manifest) else "cpu")
    assert image in (ROOT / "docs/kubernetes.md").read_text()
