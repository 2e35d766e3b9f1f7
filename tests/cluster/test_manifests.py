"""The manifests of containers: valid for their readers, encrypted, and true to each other."""

import json
import os
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")

PLACES = Path(__file__).parents[2] / "cluster"
KUBERNETES = PLACES / "kubernetes"
COMPOSE_SCHEMAS = (
    os.environ.get("COMPOSE_SCHEMA", ""),
    "/usr/lib/python3/dist-packages/compose/config/compose_spec.json",  # of Debian's docker-compose
)
CERTIFICATES = ["--tls-ca-file=/tls/ca.pem", "--tls-cert=/tls/cert.pem", "--tls-key=/tls/key.pem"]


def manifests():
    paths = sorted(KUBERNETES.glob("*.yaml"))
    found = [one for path in paths for one in yaml.safe_load_all(path.read_text())]
    return {one["kind"]: one for one in found}


@pytest.fixture
def pods():
    job = manifests()["DaskJob"]["spec"]
    cluster = job["cluster"]["spec"]
    return {
        "job-runner": job["job"]["spec"],
        "scheduler": cluster["scheduler"]["spec"],
        "worker": cluster["worker"]["spec"],
    }


@pytest.mark.skipif(find_spec("dask_kubernetes") is None, reason="dask-kubernetes is not installed")
def test_the_job_is_valid_for_the_operator():
    [root] = find_spec("dask_kubernetes").submodule_search_locations
    definition = yaml.safe_load(next(Path(root).rglob("crds/daskjob.yaml")).read_text())
    [version] = definition["spec"]["versions"]
    job = manifests()["DaskJob"]
    assert job["apiVersion"] == f"{definition['spec']['group']}/{version['name']}"
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    jsonschema.validate(job["spec"], strict(schema))


def strict(schema):
    """The schema, where what it does not name is an error, as for `kubectl apply --validate`."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if "properties" in found and found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    if found.pop("x-kubernetes-int-or-string", False):
        found = {"type": ["integer", "string"]}
    return found


def test_what_the_pods_mount_is_there(pods):
    claim = manifests()["PersistentVolumeClaim"]["metadata"]["name"]
    for pod in pods.values():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounted = {one["name"] for one in pod["containers"][0]["volumeMounts"]}
        assert mounted == volumes.keys()
        assert volumes["tls"]["secret"]["secretName"] == "dsoftmax-tls"
    runs = {volume["name"]: volume for volume in pods["job-runner"]["volumes"]}["runs"]
    assert runs["persistentVolumeClaim"]["claimName"] == claim


def test_every_process_is_encrypted_and_uses_one_image(pods):
    for pod in pods.values():
        assert set(CERTIFICATES) <= set(pod["containers"][0]["command"])
        assert pod["securityContext"]["runAsNonRoot"]
    assert len({pod["containers"][0]["image"] for pod in pods.values()}) == 1


def test_the_network_policy_and_the_budget_select_the_pods_of_the_job(pods):
    found = manifests()
    name = found["DaskJob"]["metadata"]["name"]
    label = {"dask.org/cluster-name": name}
    service = found["DaskJob"]["spec"]["cluster"]["spec"]["scheduler"]["service"]
    budget = found["PodDisruptionBudget"]["spec"]
    policy = found["NetworkPolicy"]["spec"]
    assert service["selector"].items() >= label.items()
    assert service["type"] == "ClusterIP"
    assert policy["podSelector"]["matchLabels"] == label
    assert policy["ingress"][0]["from"] == [{"podSelector": {"matchLabels": label}}]
    assert budget["selector"]["matchLabels"] == label
    [kept] = budget["selector"]["matchExpressions"]
    assert set(kept["values"]) == pods.keys() - {"worker"}
    assert budget["minAvailable"] == len(kept["values"])
    ports = {str(rule["port"]) for rule in policy["ingress"][0]["ports"]}
    words = [word for pod in pods.values() for word in pod["containers"][0]["command"]]
    assert ports == {
        port for word in words for port in re.findall(r"^--(?:\w+-)?port=(\d+)$", word)
    }
    assert f"tls://{name}-scheduler:8786" in pods["worker"]["containers"][0]["command"]
    assert (
        f"--scheduler=tls://{name}-scheduler:8786" in pods["job-runner"]["containers"][0]["command"]
    )


@pytest.fixture
def compose():
    return yaml.safe_load((PLACES / "compose" / "compose.yaml").read_text())


def test_compose_publishes_no_port_and_is_encrypted(compose):
    assert compose["services"].keys() == {"scheduler", "worker", "train"}
    for service in compose["services"].values():
        assert "ports" not in service
        assert service["networks"] == ["inside"]
        assert set(CERTIFICATES) <= set(service["command"])
    assert compose["networks"]["inside"]["internal"]


def test_compose_is_valid(compose):
    files = [file for file in COMPOSE_SCHEMAS if Path(file).is_file()]
    if not files:
        pytest.skip("docker-compose is not installed, and COMPOSE_SCHEMA names no schema")
    jsonschema.Draft7Validator(json.loads(Path(files[0]).read_text())).validate(compose)


def test_the_image_is_built_from_files_that_exist():
    build = yaml.safe_load((PLACES / "compose" / "compose.yaml").read_text())["x-image"]["build"]
    context = (PLACES / "compose" / build["context"]).resolve()
    dockerfile = (context / build["dockerfile"]).read_text()
    copied = [line.split()[1:-1] for line in dockerfile.splitlines() if line.startswith("COPY")]
    assert not [file for files in copied for file in files if not (context / file).exists()]


def test_every_package_of_the_image_is_locked_with_hashes():
    locked = (PLACES / "image" / "requirements.txt").read_text()
    packages = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", locked).strip())
    assert len(packages) > 10
    assert not [one for one in packages if "==" not in one or "--hash=sha256:" not in one]


def test_every_dependency_is_locked():
    project = tomllib.loads((PLACES.parent / "pyproject.toml").read_text())["project"]
    extras = ("fast", "remote", "parquet", "hdf5")
    wanted = project["dependencies"] + [
        one for extra in extras for one in project["optional-dependencies"][extra]
    ]
    locked = (PLACES / "image" / "requirements.txt").read_text()
    names = {re.split(r"[<>=;\[ ]", one)[0].lower() for one in [*wanted, "hatchling"]}
    assert names <= set(re.findall(r"^([\w.-]+)(?:\[\w+\])?==", locked, re.MULTILINE))
