"""The manifests render with kustomize, and the result is valid for Kubernetes, the Prometheus operator, and KEDA."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus
from pydantic import BaseModel

from bridge import __version__

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
CUSTOM: dict[str, type[BaseModel]] = {
    "ScaledObject": keda.ScaledObject,
    "TriggerAuthentication": keda.TriggerAuthentication,
    "ServiceMonitor": prometheus.ServiceMonitor,
}
VERSIONS = ("1.29", "1.37")


def render(folder: Path) -> list[Any]:
    """Every object that `kubectl apply -k` would send."""
    for command in (("kustomize", "build"), ("kubectl", "kustomize")):
        if shutil.which(command[0]):
            done = subprocess.run((*command, str(folder)), capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")
            return list(yaml.safe_load_all(done.stdout))
    pytest.skip("needs kustomize or kubectl")


@pytest.fixture
def complete(tmp_path: Path) -> Path:
    """A copy of the example with every component."""
    shutil.copytree(KUBERNETES, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "example" / "kustomization.yaml"
    tree = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(tree | {"components": ["../prometheus", "../keda"]}))
    return file.parent


def validate(document: Any) -> None:
    """Raise if the object has a field of a wrong type, or one that does not exist."""
    if model := CUSTOM.get(document["kind"]):
        known = model.model_validate(document).model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert known == document
    else:
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_base_is_valid_as_it_is() -> None:
    documents = render(KUBERNETES / "base")

    for document in documents:
        validate(document)
    assert {one["metadata"]["labels"]["app.kubernetes.io/name"] for one in documents} == {"kickoff-bridge"}


def test_the_example_is_valid_with_every_component(complete: Path) -> None:
    documents = {one["kind"]: one for one in render(complete)}

    for document in documents.values():
        validate(document)
    assert documents.keys() >= {*CUSTOM, "ConfigMap", "Job"}
    assert {one["metadata"]["namespace"] for one in documents.values()} == {"kickoff-bridge"}
    assert "replicas" not in documents["Deployment"]["spec"]


def test_every_pod_gets_the_settings_and_the_image_of_the_example() -> None:
    documents = {one["kind"]: one for one in render(KUBERNETES / "example")}

    for kind in ("Deployment", "Job"):
        spec = documents[kind]["spec"]["template"]["spec"]
        settings = {volume["name"]: volume for volume in spec["volumes"]}["settings"]
        assert settings["configMap"]["name"] == documents["ConfigMap"]["metadata"]["name"]
        assert [one["image"] for one in spec["containers"]] == [f"registry.example.com/kickoff-bridge:{__version__}"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"selecter": {"a": "b"}}},
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "ServiceMonitor",
            "metadata": {"name": "a"},
            "spec": {"selector": {}, "endpoints": [{"prt": "ops"}]},
        },
    ],
    ids=["kubernetes", "custom"],
)
def test_the_validation_notices_a_misspelled_field(wrong: Any) -> None:
    with pytest.raises((AssertionError, kubernetes_validate.ValidationError, ValueError)):
        validate(wrong)
