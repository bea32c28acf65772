"""A private RabbitMQ node: its own folder, ports, and epmd, on loopback only.

It is started with the scripts of the installed program instead of the distribution's wrapper, which would switch the
user and use the machine's settings. Only processes started here are signalled, by their ids.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from tests.certificates import Files
from tests.patience import PATIENCE

_CHOSEN = [place] if (place := os.environ.get("TEST_RABBITMQ")) else []  # the programs of another version
PLACES = ":".join([*_CHOSEN, "/usr/lib/rabbitmq/bin", os.environ["PATH"], "/usr/local/sbin", "/opt/homebrew/sbin"])
PORTS_PER_WORKER = 5000
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
_PORTS = (10_000 + _WORKER * PORTS_PER_WORKER + number % PORTS_PER_WORKER for number in count(os.getpid()))
MAX_MESSAGE = 134_217_728  # bytes; the default of RabbitMQ 3, for every version
UNREACHABLE = "amqp://guest:guest@127.0.0.1:1/"
ERLANG = (
    "-kernel inet_dist_use_interface {127,0,0,1} "  # the distribution port listens on all interfaces otherwise
    "-start_epmd false +S 2:2 +sbwt none"
)


class Broker:
    """One node; its data folder survives `stop`, `kill`, and the next `start`, and is deleted by `remove`."""

    def __init__(self, tls: Files | None = None, peer: "Broker | None" = None) -> None:
        """With `tls`, it also requires a client certificate on another port, and has the user `bridge` only.

        With a running `peer`, it joins the cluster of that node.
        """
        self._peer = peer
        self.tls_port = free_ports(1)[0] if tls else None
        self._tls = tls
        self.name = f"bridge-{uuid.uuid4().hex[:12]}@localhost"
        self.port, self._dist_port, epmd_port = free_ports(3)
        self.epmd_port: int = peer.epmd_port if peer else epmd_port
        self.cookie: str = peer.cookie if peer else uuid.uuid4().hex
        self._folder = Path(tempfile.mkdtemp(prefix="bridge-broker-"))
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._configure()

    @property
    def url(self) -> str:
        return self.url_for("guest", "guest")

    def url_for(self, user: str, password: str, vhost: str = "") -> str:
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{vhost}"

    @property
    def pid(self) -> int:
        assert self._node is not None, "it is not running"
        return self._node.pid

    def start(self) -> None:
        """Return when the node accepts connections."""
        if self._epmd is None and self._peer is None:
            self._epmd = self._spawn("epmd", "-address", "127.0.0.1", "-port", str(self.epmd_port))
            self._wait_for_port(self.epmd_port, self._epmd)
        self._node = self._spawn("rabbitmq-server")
        self._wait_for_port(self.port, self._node)
        if self.tls_port is not None:
            self._wait_for_port(self.tls_port, self._node)

    def start_again(self) -> None:
        """Start the node if it is not running."""
        if self._node is None:
            self.start()

    def stop(self) -> None:
        """Stop the node in order: queues are closed, clients are notified."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the node like a power cut."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Suspend the node: it stays connected and sends nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop the node and delete its data."""
        if self._node is not None:
            self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add_vhosts(self, names: Sequence[str]) -> None:
        """One call for all of them, because each one starts a virtual machine."""
        users = [{"user": "guest", "vhost": name, "configure": ".*", "write": ".*", "read": ".*"} for name in names]
        definitions = self._file("definitions.json")
        definitions.write_text(json.dumps({"vhosts": [{"name": name} for name in names], "permissions": users}))
        self.ctl("import_definitions", str(definitions))

    def ctl(self, *args: str) -> str:
        """The output of `rabbitmqctl` about this node (a call takes about a second)."""
        command = ["rabbitmqctl", "--quiet", "--node", self.name, *args]
        done = subprocess.run(
            command,
            executable=find("rabbitmqctl"),
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"rabbitmqctl {args}: {done.stdout} {done.stderr}"
        return done.stdout

    def _configure(self) -> None:
        self._file("rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\n"
            "log.file.level = info\n"
            "disk_free_limit.absolute = 50MB\n"
            f"max_message_size = {MAX_MESSAGE}\n"
            "raft.wal_max_size_bytes = 16777216\n"  # the log is written in full at every stop
        )
        if self._tls:
            self._configure_tls(self._tls)
        if self._peer:
            with self._file("rabbitmq.conf").open("a") as settings:
                settings.write(
                    "cluster_formation.peer_discovery_backend = classic_config\n"
                    f"cluster_formation.classic_config.nodes.1 = {self._peer.name}\n"
                    f"cluster_formation.classic_config.nodes.2 = {self.name}\n"
                )
        self._file("enabled_plugins").write_text("[rabbitmq_auth_mechanism_ssl].\n" if self._tls else "[].\n")
        self._file("rabbitmq-env.conf").write_text("")
        cookie = self._file(".erlang.cookie")
        cookie.write_text(self.cookie)
        cookie.chmod(0o400)

    def _configure_tls(self, tls: Files) -> None:
        with self._file("rabbitmq.conf").open("a") as settings:
            settings.write(
                f"listeners.ssl.default = 127.0.0.1:{self.tls_port}\n"
                f"ssl_options.cacertfile = {tls.ca}\n"
                f"ssl_options.certfile = {tls.path('localhost.pem')}\n"
                f"ssl_options.keyfile = {tls.path('localhost.key')}\n"
                "ssl_options.verify = verify_peer\n"
                "ssl_options.fail_if_no_peer_cert = true\n"
                "ssl_cert_login_from = common_name\n"
                "auth_mechanisms.1 = EXTERNAL\n"
                "auth_mechanisms.2 = PLAIN\n"
                "default_user = bridge\n"
            )

    def _file(self, name: str) -> Path:
        return self._folder / name

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return own | {
            "HOME": str(self._folder),
            "PATH": PLACES,
            "ERL_EPMD_PORT": str(self.epmd_port),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONF_ENV_FILE": str(self._file("rabbitmq-env.conf")),
            "RABBITMQ_CONFIG_FILE": str(self._file("rabbitmq.conf")),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._file("enabled_plugins")),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self._file("config")),
            "RABBITMQ_SCHEMA_DIR": str(self._file("schema")),
            "RABBITMQ_MNESIA_BASE": str(self._file("data")),
            "RABBITMQ_LOG_BASE": str(self._file("log")),
            "RABBITMQ_PID_FILE": str(self._file("pid")),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
            "RABBITMQ_CTL_ERL_ARGS": "-start_epmd false +S 1:1",
            "RUNNING_UNDER_SYSTEMD": "1",  # the script becomes the node, so that the process id is that of the node
        }

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with self._file(f"{command[0]}.out").open("ab") as out:
            return subprocess.Popen(
                command,
                executable=find(command[0]),
                env=self._environment(),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _wait_for_port(self, port: int, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not is_open(port):
            assert process.poll() is None, f"the broker ended at once: {self._output()}"
            assert time.monotonic() < deadline, f"the broker did not start: {self._output()}"
            time.sleep(0.02)

    def _output(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in self._folder.glob("*.out"))

    def _signal(self, number: signal.Signals) -> None:
        assert self._node is not None, "the node is not running"
        os.killpg(self._node.pid, number)  # a session of its own: the group is the node and its helpers

    def _end(self, number: signal.Signals) -> None:
        self._signal(number)
        assert self._node is not None
        self._node.wait(PATIENCE)
        self._node = None


@contextmanager
def running_broker(tls: Files | None = None) -> Iterator[Broker]:
    """A private node, removed at the end."""
    broker = Broker(tls)
    try:
        broker.start()
        yield broker
    finally:
        broker.remove()


def find(program: str) -> str:
    path = shutil.which(program, path=PLACES)
    if path is None:
        raise FileNotFoundError(
            f"the tests need {program}: install rabbitmq-server (Debian: apt-get install rabbitmq-server, "
            "macOS: brew install rabbitmq)"
        )
    return path


def free_ports(count: int) -> Sequence[int]:
    """Return unused ports, each at most once, from a range that parallel workers do not share.

    The range lies below those that the system assigns to clients and to servers on port 0, so that no process takes a
    port between this call and the server's start.
    """
    found: list[int] = []
    while len(found) < count:
        port = next(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
