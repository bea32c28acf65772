"""The manifests in deploy/kubernetes are consistent: settings are accepted, names resolve, shutdown has enough time."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.adapters.crew_api import LIMITS
from bridge.config import Settings, load
from bridge.supervisor import GRACE

DEPLOY = Path(__file__).parents[2] / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
EXAMPLE = DEPLOY / "kubernetes" / "example"
KEDA = DEPLOY / "kubernetes" / "keda"
PROMETHEUS = DEPLOY / "kubernetes" / "prometheus"
LABELS = {"app.kubernetes.io/name": "kickoff-bridge"}
BRIDGES = LABELS | {"app.kubernetes.io/component": "bridge"}
OWNER_URL = "postgresql://bridge_owner:secret@db.example.com/bridge"
SECRETS = {
    "store-url": "postgresql://bridge_app:secret@db.example.com/bridge",
    "amqp-url": "amqps://bridge:secret@mq.example.com/",
    "orders-token": "a-token",
    "operator-token": "a-third-token",
    "research-token": "another-token",
    "callback-secret": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
}


def documents(folder: Path) -> dict[str, Any]:
    """Every document that the kustomization of this folder lists, by kind and name (without that of the bridge)."""
    [kustomization] = read(folder / "kustomization.yaml")
    found = [document for name in kustomization["resources"] for document in read(folder / name)]
    return {one["kind"] + one["metadata"]["name"].removeprefix("kickoff-bridge"): one for one in found}


def read(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def pod(name: str = "Deployment") -> Any:
    return documents(BASE)[name]["spec"]["template"]["spec"]


def pods() -> list[Any]:
    return [pod(), pod("Job-migrate")]


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """The folder that replaces /run/secrets, with both Secrets as the kustomization describes them."""
    comment = (EXAMPLE / "kustomization.yaml").read_text(encoding="utf-8").partition("apiVersion")[0]
    for secret, arguments in re.findall(r"create secret generic (\S+)((?:[\s\\#]+--from-file=\S+)+)", comment):
        (tmp_path / secret).mkdir()
        for key in re.findall(r"--from-file=([\w-]+)", arguments):
            text = OWNER_URL if secret.endswith("migration") else SECRETS[key]
            (tmp_path / secret / key).write_text(text)
    return tmp_path


def load_settings(container: Mapping[str, Any], mounted: Path) -> Settings:
    """The settings from the file and the environment of this container, with the secrets in another folder."""
    moved = mounted / "bridge.yaml"
    text = (EXAMPLE / "bridge.yaml").read_text(encoding="utf-8")
    moved.write_text(text.replace("/run/secrets", str(mounted)))
    environ = {one["name"]: one["value"].replace("/run/secrets", str(mounted)) for one in container.get("env", ())}
    return load(moved, environ)


def test_the_settings_of_the_pods_are_accepted_and_each_container_has_its_role(mounted: Path) -> None:
    [bridge], [migrate] = (spec["containers"] for spec in pods())

    assert load_settings(migrate, mounted).store.url.get_secret_value() == OWNER_URL
    assert load_settings(bridge, mounted).store.url.get_secret_value() == SECRETS["store-url"]
    assert (migrate["args"], bridge["args"]) == (["migrate"], ["run", "--no-migrate"])


def test_every_file_of_a_secret_is_mounted_where_it_is_read() -> None:
    named = set(re.findall(r"/run/secrets/\S+", (EXAMPLE / "bridge.yaml").read_text(encoding="utf-8")))

    assert {path.rpartition("/")[2] for path in named} == set(SECRETS)
    for spec in pods():
        [container], volumes = spec["containers"], {volume["name"] for volume in spec["volumes"]}
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        wanted = named | {one["value"] for one in container.get("env", ())}
        assert {path.rpartition("/")[0] for path in wanted} <= mounts
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert "migration" not in {mount["name"] for mount in pod()["containers"][0]["volumeMounts"]}


def test_all_manifests_are_listed_and_refer_to_the_same_pods() -> None:
    found = documents(BASE)

    names = {"Deployment", "Job-migrate", "Service", "Service-ops", "PodDisruptionBudget", "NetworkPolicy"}
    assert set(found) == names
    for folder in (BASE, KEDA, PROMETHEUS):
        [kustomization] = read(folder / "kustomization.yaml")
        assert {path.name for path in folder.iterdir()} == {*kustomization["resources"], "kustomization.yaml"}
    deployment = found["Deployment"]["spec"]
    assert deployment["replicas"] == 2
    assert deployment["template"]["metadata"]["labels"] == BRIDGES
    assert deployment["selector"]["matchLabels"] == BRIDGES
    assert found["Service"]["spec"]["selector"] == found["Service-ops"]["spec"]["selector"] == BRIDGES
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == BRIDGES
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == LABELS
    job = found["Job-migrate"]["spec"]["template"]["metadata"]["labels"]
    assert LABELS.items() < job.items()
    assert not BRIDGES.items() <= job.items(), "requests are not for the migration"


def test_the_metrics_of_the_ops_service_are_scraped() -> None:
    service, monitor = documents(BASE)["Service-ops"], documents(PROMETHEUS)["ServiceMonitor"]["spec"]

    labels = service["metadata"]["labels"] | LABELS  # the kustomization adds the name
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert [endpoint["port"] for endpoint in monitor["endpoints"]] == [
        port["name"] for port in service["spec"]["ports"]
    ]


def test_ports_and_probes_match_the_bridge(mounted: Path) -> None:
    [bridge] = pod()["containers"]
    ports = {port["name"]: port["containerPort"] for port in bridge["ports"]}
    settings = load_settings(bridge, mounted)

    assert ports == {"http": settings.http.port, "ops": settings.http.ops_port}
    probes = {kind: bridge[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert probes == {
        "startup": {"path": "/healthz", "port": "ops"},
        "liveness": {"path": "/healthz", "port": "ops"},
        "readiness": {"path": "/readyz", "port": "ops"},
    }
    services = (documents(BASE)[name] for name in ("Service", "Service-ops"))
    assert [port["targetPort"] for service in services for port in service["spec"]["ports"]] == ["http", "ops"]
    ingress = documents(BASE)["NetworkPolicy"]["spec"]["ingress"]
    assert [port["port"] for rule in ingress for port in rule["ports"]] == ["http", "ops"]


def test_the_shutdown_timeout_exceeds_that_of_a_post() -> None:
    wait = int(pod()["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])

    assert LIMITS.kickoff < GRACE
    assert pod()["terminationGracePeriodSeconds"] > wait + GRACE


def test_pods_have_minimal_rights() -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (DEPLOY.parent / "Dockerfile").read_text(), re.MULTILINE)

    assert user is not None
    for spec in pods():
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        context, [container] = spec["securityContext"], spec["containers"]
        assert context["runAsNonRoot"] is True
        assert (context["runAsUser"], context["runAsGroup"]) == tuple(map(int, user.groups()))
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_overlay_scales_the_base_by_the_requests_queue(mounted: Path) -> None:
    [kustomization] = read(KEDA / "kustomization.yaml")
    found = documents(KEDA)
    [trigger] = found["ScaledObject"]["spec"]["triggers"]
    settings = load_settings(pod()["containers"][0], mounted)

    [patch] = kustomization["patches"]
    assert patch["target"] == {"kind": "Deployment", "name": documents(BASE)["Deployment"]["metadata"]["name"]}
    assert yaml.safe_load(patch["patch"]) == [{"op": "remove", "path": "/spec/replicas"}]
    assert found["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == patch["target"]["name"]
    assert settings.amqp is not None
    assert (trigger["type"], trigger["metadata"]["queueName"]) == ("rabbitmq", settings.amqp.requests)
    assert trigger["authenticationRef"]["name"] == found["TriggerAuthentication-queue"]["metadata"]["name"]
    [reference] = found["TriggerAuthentication-queue"]["spec"]["secretTargetRef"]
    assert (mounted / reference["name"] / reference["key"]).exists()
