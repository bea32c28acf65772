"""The files in deploy/ are consistent: settings are accepted, names resolve, and shutdown has enough time."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.adapters.crew_api import LIMITS
from bridge.config import Settings, load
from bridge.supervisor import GRACE

DEPLOY = Path(__file__).parents[2] / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
KEDA = DEPLOY / "kubernetes" / "keda"
LABELS = {"app.kubernetes.io/name": "kickoff-bridge"}
OWNER_URL = "postgresql://bridge_owner:secret@db.example.com/bridge"
SECRETS = {
    "store-url": "postgresql://bridge_app:secret@db.example.com/bridge",
    "amqp-url": "amqps://bridge:secret@mq.example.com/",
    "orders-token": "a-token",
    "research-token": "another-token",
    "callback-secret": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
}


def documents(folder: Path) -> dict[str, Any]:
    """Every document that the kustomization of this folder lists, by kind."""
    [kustomization] = read(folder / "kustomization.yaml")
    files = [name for name in kustomization["resources"] if name.endswith(".yaml")]
    return {document["kind"]: document for name in files for document in read(folder / name)}


def read(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def pod() -> Any:
    return documents(BASE)["Deployment"]["spec"]["template"]["spec"]


def containers() -> list[Any]:
    return [*pod()["initContainers"], *pod()["containers"]]


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """The folder that replaces /run/secrets, with both Secrets as the kustomization describes them."""
    comment = (BASE / "kustomization.yaml").read_text(encoding="utf-8").partition("apiVersion")[0]
    for secret, arguments in re.findall(r"create secret generic (\S+)((?:[\s\\#]+--from-file=\S+)+)", comment):
        (tmp_path / secret).mkdir()
        for key in re.findall(r"--from-file=(\S+)", arguments):
            text = OWNER_URL if secret.endswith("migration") else SECRETS[key]
            (tmp_path / secret / key).write_text(text)
    return tmp_path


def load_settings(container: Mapping[str, Any], mounted: Path) -> Settings:
    """The settings from the file and the environment of this container, with the secrets in another folder."""
    moved = mounted / "bridge.yaml"
    text = (BASE / "bridge.yaml").read_text(encoding="utf-8")
    moved.write_text(text.replace("/run/secrets", str(mounted)))
    environ = {one["name"]: one["value"].replace("/run/secrets", str(mounted)) for one in container.get("env", ())}
    return load(moved, environ)


def test_the_settings_of_the_pods_are_accepted_and_each_container_has_its_role(mounted: Path) -> None:
    [migrate], [bridge] = pod()["initContainers"], pod()["containers"]

    assert load_settings(migrate, mounted).store.url.get_secret_value() == OWNER_URL
    assert load_settings(bridge, mounted).store.url.get_secret_value() == SECRETS["store-url"]
    assert (migrate["args"], bridge["args"]) == (["migrate"], ["run", "--no-migrate"])


def test_every_file_of_a_secret_is_mounted_where_it_is_read() -> None:
    named = set(re.findall(r"/run/secrets/\S+", (BASE / "bridge.yaml").read_text(encoding="utf-8")))
    volumes = {volume["name"] for volume in pod()["volumes"]}

    assert {path.rpartition("/")[2] for path in named} == set(SECRETS)
    for container in containers():
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        wanted = named | {one["value"] for one in container.get("env", ())}
        assert {path.rpartition("/")[0] for path in wanted} <= mounts
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert "migration" not in {mount["name"] for mount in pod()["containers"][0]["volumeMounts"]}


def test_all_manifests_are_listed_and_refer_to_the_same_pods() -> None:
    found = documents(BASE)

    assert set(found) == {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    [kustomization] = read(BASE / "kustomization.yaml")
    others = {"kustomization.yaml", *kustomization["configMapGenerator"][0]["files"]}
    assert {path.name for path in BASE.iterdir()} == {*kustomization["resources"], *others}
    deployment = found["Deployment"]["spec"]
    assert deployment["replicas"] == 2
    assert deployment["template"]["metadata"]["labels"] == LABELS
    assert deployment["selector"]["matchLabels"] == LABELS
    assert found["Service"]["spec"]["selector"] == LABELS
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == LABELS
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == LABELS


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
    assert [port["targetPort"] for port in documents(BASE)["Service"]["spec"]["ports"]] == ["http"]
    ingress = documents(BASE)["NetworkPolicy"]["spec"]["ingress"]
    assert [port["port"] for rule in ingress for port in rule["ports"]] == ["http", "ops"]


def test_the_shutdown_timeout_exceeds_that_of_a_post() -> None:
    wait = int(pod()["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])

    assert LIMITS.kickoff < GRACE
    assert pod()["terminationGracePeriodSeconds"] > wait + GRACE
    for name in ("compose.yaml", "compose.scale.yaml"):
        [compose] = read(DEPLOY / name)
        assert int(compose["services"]["bridge"]["stop_grace_period"].removesuffix("s")) > GRACE


def test_pods_have_minimal_rights() -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (DEPLOY.parent / "Dockerfile").read_text(), re.MULTILINE)

    assert user is not None
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["enableServiceLinks"] is False
    context = pod()["securityContext"]
    assert context["runAsNonRoot"] is True
    assert (context["runAsUser"], context["runAsGroup"]) == tuple(map(int, user.groups()))
    for container in containers():
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

    assert "../base" in kustomization["resources"]
    [patch] = kustomization["patches"]
    assert patch["target"] == {"kind": "Deployment", "name": documents(BASE)["Deployment"]["metadata"]["name"]}
    assert yaml.safe_load(patch["patch"]) == [{"op": "remove", "path": "/spec/replicas"}]
    assert found["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == patch["target"]["name"]
    assert settings.amqp is not None
    assert (trigger["type"], trigger["metadata"]["queueName"]) == ("rabbitmq", settings.amqp.requests)
    assert trigger["authenticationRef"]["name"] == found["TriggerAuthentication"]["metadata"]["name"]
    [reference] = found["TriggerAuthentication"]["spec"]["secretTargetRef"]
    assert (mounted / reference["name"] / reference["key"]).exists()


@pytest.mark.parametrize("service", ["bridge", "migrate"])
def test_the_settings_of_the_composed_bridges_are_accepted(service: str) -> None:
    [compose] = read(DEPLOY / "compose.scale.yaml")
    values = dict.fromkeys(variables(compose), SECRETS["callback-secret"]) | {"RESEARCH_URL": "https://c.example.com"}
    environment = compose["services"][service]["environment"]
    settings = load(DEPLOY / "bridge.example.yaml", {name: filled(text, values) for name, text in environment.items()})

    assert settings.http.host == "0.0.0.0"
    role = {"bridge": "bridge_app", "migrate": "bridge_owner"}[service]
    assert f"//{role}:" in settings.store.url.get_secret_value()
    assert settings.store.location == "postgres:5432/bridge"


def test_health_checks_use_the_configured_port() -> None:
    assert "HEALTHCHECK" not in (DEPLOY.parent / "Dockerfile").read_text()
    example = yaml.safe_load((DEPLOY / "bridge.example.yaml").read_text())["http"]
    for name in ("compose.yaml", "compose.scale.yaml"):
        [compose] = read(DEPLOY / name)
        bridge = compose["services"]["bridge"]
        [port] = {published.rpartition(":")[2] for published in bridge["ports"]}
        assert f"http://127.0.0.1:{port}/healthz" in bridge["healthcheck"]["test"][-1]
        assert (example["port"], "ops_port" in example) == (int(port), False)


def test_composed_services_refer_to_each_other_by_name() -> None:
    [compose] = read(DEPLOY / "compose.scale.yaml")
    services = compose["services"]
    nodes = re.findall(r"= rabbit@(\S+)", (DEPLOY / "scale" / "rabbitmq.conf").read_text())

    assert services["bridge"]["deploy"]["replicas"] == 2
    assert nodes == [services[name]["hostname"] for name in services if name.startswith("rabbitmq-")]
    assert len(nodes) == 3
    for service in services.values():
        assert set(service.get("depends_on", ())) <= services.keys()
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            user_made = source == "./bridge.yaml"
            assert user_made or source in compose["volumes"] or (DEPLOY / source).is_file(), source
    roles = (DEPLOY / "scale" / "roles.sh").read_text()
    assert set(re.findall(r"\$(BRIDGE_\w+)", roles)) <= services["postgres"]["environment"].keys()


def variables(tree: Any) -> Iterator[str]:
    """Every variable that a compose file takes from the environment."""
    yield from re.findall(r"\$\{(\w+)", yaml.safe_dump(tree))


def filled(text: str, values: Mapping[str, str]) -> str:
    """A text as compose passes it to a container."""
    return re.sub(r"\$\{(\w+)[^}]*\}", lambda found: values[found[1]], text)
