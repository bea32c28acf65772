"""The compose files are consistent: settings are accepted, names resolve, and each broker keeps its data."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge import __version__
from bridge.config import load
from bridge.supervisor import GRACE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILES = ("compose.yaml", "compose.scale.yaml")
SETTINGS = "./bridge.yaml"  # next to the compose files; made by the user
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def compose_command() -> Sequence[str] | None:
    """How Compose 2 is called here, if it is installed."""
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]):
            done = subprocess.run((*command, "version", "--short"), capture_output=True, text=True, check=False)
            if done.returncode == 0 and done.stdout.lstrip("v").startswith(("2.", "3.", "4.", "5.")):
                return command
    return None


@pytest.mark.parametrize("name", FILES)
def test_compose_accepts_the_file_with_the_variables_of_the_example(name: str, tmp_path: Path) -> None:
    command = compose_command()
    if command is None:
        pytest.skip("needs Docker Compose 2")
    text = (DEPLOY / ".env.example").read_text().replace("=\n", "=a-value\n")
    (tmp_path / "env").write_text(text)
    arguments = ("--env-file", str(tmp_path / "env"), "--file", str(DEPLOY / name), "config", "--quiet")
    done = subprocess.run((*command, *arguments), capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_example_environment_names_every_variable_once() -> None:
    named = re.findall(r"^(\w+)=$", (DEPLOY / ".env.example").read_text(), re.MULTILINE)

    assert len(named) == len(set(named))
    assert set(named) == {variable for name in FILES for variable in variables(read(name))}


@pytest.mark.parametrize("name", FILES)
def test_each_broker_keeps_its_data_and_comes_back(name: str) -> None:
    """The folder of its data is named for the host: without a fixed name, a new container started empty."""
    services = read(name)["services"]

    for service in (service for key, service in services.items() if key.startswith("rabbitmq")):
        assert service["hostname"]
        assert service["restart"] == "unless-stopped"
        assert any(volume.endswith(":/var/lib/rabbitmq") for volume in service["volumes"])


@pytest.mark.parametrize("name", FILES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    ports = [port for service in read(name)["services"].values() for port in service.get("ports", ())]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_there_is_time_to_finish_a_post() -> None:
    for name in FILES:
        assert int(read(name)["services"]["bridge"]["stop_grace_period"].removesuffix("s")) > GRACE


def test_the_image_is_labelled() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', (ROOT / "Dockerfile").read_text()))

    assert labels.keys() >= {"title", "description", "version", "source", "licenses"}
    assert labels["version"] == __version__


def test_a_build_of_the_image_does_not_see_secrets() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    assert ignored.index("!deploy") < ignored.index("deploy/.env") < ignored.index("deploy/bridge.yaml")


@pytest.mark.parametrize("service", ["bridge", "migrate"])
def test_the_settings_of_the_composed_bridges_are_accepted(service: str) -> None:
    compose = read("compose.scale.yaml")
    values = dict.fromkeys(variables(compose), SECRET) | {"RESEARCH_URL": "https://c.example.com", "ORDERS_TOKEN": "a"}
    environment = compose["services"][service]["environment"]
    settings = load(DEPLOY / "bridge.example.yaml", {name: filled(text, values) for name, text in environment.items()})

    assert settings.http.host == "0.0.0.0"
    role = {"bridge": "bridge_app", "migrate": "bridge_owner"}[service]
    assert f"//{role}:" in settings.store.url.get_secret_value()
    assert settings.store.location == "postgres:5432/bridge"


def test_health_checks_use_the_configured_port() -> None:
    assert "HEALTHCHECK" not in (ROOT / "Dockerfile").read_text()
    example = yaml.safe_load((DEPLOY / "bridge.example.yaml").read_text())["http"]
    for name in FILES:
        bridge = read(name)["services"]["bridge"]
        [port] = {published.rpartition(":")[2] for published in bridge["ports"]}
        assert f"http://127.0.0.1:{port}/healthz" in bridge["healthcheck"]["test"][-1]
        assert (example["port"], "ops_port" in example) == (int(port), False)


def test_composed_services_refer_to_each_other_by_name() -> None:
    compose = read("compose.scale.yaml")
    services = compose["services"]
    nodes = re.findall(r"= rabbit@(\S+)", (DEPLOY / "scale" / "rabbitmq.conf").read_text())

    assert services["bridge"]["deploy"]["replicas"] == 2
    assert nodes == [services[name]["hostname"] for name in services if name.startswith("rabbitmq-")]
    assert len(nodes) == 3
    for service in services.values():
        assert set(service.get("depends_on", ())) <= services.keys()
        for volume in service.get("volumes", ()):
            if not isinstance(volume, str):
                assert volume["source"] == SETTINGS
                continue
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).is_file(), source
    roles = (DEPLOY / "scale" / "roles.sh").read_text()
    assert set(re.findall(r"\$(BRIDGE_\w+)", roles)) <= services["postgres"]["environment"].keys()


def variables(tree: Any) -> Iterator[str]:
    """Every variable that a compose file takes from the environment."""
    yield from re.findall(r"\$\{(\w+)", yaml.safe_dump(tree))


def filled(text: str, values: Mapping[str, str]) -> str:
    """A text as compose passes it to a container."""
    return re.sub(r"\$\{(\w+)[^}]*\}", lambda found: values[found[1]], text)
