"""Bounds and combinations of settings; all problems are reported at once."""

import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.composition.crews import SHOWN_SETTINGS
from bridge.config import Settings
from bridge.config.model import Crew
from bridge.config.types import read_duration, read_size
from tests.component.config.settings_files import SMALLEST, WEBHOOK_SECRET, SettingsFiles, with_crew, with_settings

STRIPE = {"scheme": "stripe", "secret": "s"}
NOT_SHOWN = {"token", "callback_url", "callback_secret", "tls", "insecure"}
"""Settings of a crew that the HTTP API does not show: secrets, what may contain one, and paths of key files."""
CRM = {"url": "https://crm.example.com/events"}
SLOW_HMAC = {"scheme": "hmac", "secret": "s", "header": "X-Sign", "timestamp_header": "X-Time", "tolerance": "31m"}


@pytest.fixture
def files(tmp_path: Path) -> SettingsFiles:
    return SettingsFiles(tmp_path)


def test_every_setting_of_a_crew_is_shown_or_known_to_be_hidden() -> None:
    assert set(SHOWN_SETTINGS) | NOT_SHOWN == set(Crew.model_fields)
    assert not set(SHOWN_SETTINGS) & NOT_SHOWN


class TestUnits:
    FACTORS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}  # noqa: RUF012

    @given(st.integers(1, 3650), st.sampled_from(sorted(FACTORS)))
    def test_a_duration_is_its_number_times_its_unit(self, number: int, unit: str) -> None:
        assert math.isclose(read_duration(f"{number}{unit}"), number * self.FACTORS[unit])

    @given(st.integers(1, 10**6), st.sampled_from([("", 1), ("B", 1), ("KiB", 2**10), ("MiB", 2**20), ("GiB", 2**30)]))
    def test_a_size_is_its_number_times_its_unit(self, number: int, unit: tuple[str, int]) -> None:
        assert read_size(f"{number}{unit[0]}") == number * unit[1]

    def test_a_size_can_be_a_plain_number_of_bytes(self) -> None:
        assert read_size(512) == 512

    @pytest.mark.parametrize(
        "value", [30, "30", "0s", "-1s", "1 h", "1w", "", "9999999d", "9" * 400 + "d", True, None, []]
    )
    def test_an_invalid_duration_is_refused(self, value: object) -> None:
        with pytest.raises(ValueError, match=r"^must be "):
            read_duration(value)

    @pytest.mark.parametrize("value", [0, -1, 1.5, "1.5MiB", "1MB", "1kb", "", "9" * 400, True, None, []])
    def test_an_invalid_size_is_refused(self, value: object) -> None:
        with pytest.raises(ValueError, match=r"^must be a size"):
            read_size(value)


RULES = [
    # numbers
    (with_settings(http={"port": 70000}), "http.port: must be at most 65535"),
    (with_settings(http={"port": True}), "http.port: must be a number"),
    (with_settings(http={"port": 8.5}), "http.port: must be a whole number"),
    (with_crew(max_running=0), "crews.research.max_running: must be at least 1"),
    (with_crew(requests_per_second=0), "crews.research.requests_per_second: must be more than 0"),
    (with_crew(requests_per_second=math.nan), "crews.research.requests_per_second: must be more than 0"),
    (with_crew(requests_per_second=math.inf), "crews.research.requests_per_second: must be a finite number"),
    (with_crew(requests_per_second="fast"), "crews.research.requests_per_second: must be a number"),
    (with_crew(budget={"runs": 0, "per": "1d"}), "crews.research.budget.runs: must be at least 1"),
    (with_crew(budget={"runs": 1}), "crews.research.budget.per: is required"),
    (
        {**with_crew(budget={"runs": 1, "per": "15d"}), "store": {"retention": "14d"}},
        "crews: must not have a budget period longer than store.retention; shorten that of crews.research",
    ),
    (
        {**with_crew(), "http": {"clients": [{"name": "a", "token": "t", "budget": {"runs": 1, "per": "15d"}}]}},
        "crews: must not have a budget period longer than store.retention; shorten that of http.clients a",
    ),
    (with_crew(deadline=30), "crews.research.deadline: must be a duration"),
    (
        with_settings(store={"retention": "9m"}, hooks={"pay": {"crew": "research", "verify": STRIPE}}),
        "hooks: must be protected from replays: set store.retention to at least twice the tolerance of pay",
    ),
    (
        with_settings(store={"retention": "1h"}, hooks={"any": {"crew": "research", "verify": SLOW_HMAC}}),
        "hooks: must be protected from replays: set store.retention to at least twice the tolerance of any",
    ),
    (with_settings(store={"retention": "0d"}), "store.retention: must be longer"),
    (with_settings(http={"max_body": "1MB"}), "http.max_body: must be a size"),
    # words
    (with_crew(kind="team"), "crews.research.kind: must be crew or flow"),
    (with_crew(in_doubt="maybe"), "crews.research.in_doubt: must be hold, retry, or fail"),
    (with_crew(events=["finished"]), "crews.research.events.0: must be started or progress"),
    (with_crew(human_input="perhaps"), "crews.research.human_input: must be true or false"),
    (with_settings(amqp={"event_mode": "x"}), "amqp.event_mode: must be structured or binary"),
    (with_settings(log={"level": "loud"}), "log.level: must be debug, info, warning, or error"),
    (with_settings(log={"format": 1}), "log.format: must be auto, json, or console"),
    (
        with_crew(callback_url="HTTP://shop.example/done"),
        "callbacks: must set allow_private, because crews.research.callback_url is plain http",
    ),
    (
        with_settings(destinations={"crm": {"url": "http://crm.example.com"}}),
        "callbacks: must set allow_private, because destinations.crm.url is plain http",
    ),
    (with_settings(destinations={"crm": {}}), "destinations.crm.url: is required"),
    (with_settings(destinations={"a.b": CRM}), "destinations.a.b: a destination's name is"),
    (with_settings(destinations={"crm": {**CRM, "secret": "x"}}), "destinations.crm.secret.0: must be whsec_"),
    (with_settings(destinations={"crm": {**CRM, "crews": ["none"]}}), "destinations.crm.crews: must name only crews"),
    (with_settings(destinations={"crm": {**CRM, "crews": []}}), "destinations.crm.crews: must not be empty"),
    (with_settings(destinations={"crm": {**CRM, "events": []}}), "destinations.crm.events: must not be empty"),
    (
        with_settings(destinations={"crm": {**CRM, "events": ["ended"]}}),
        "destinations.crm.events.0: must be started, progress,",
    ),
    (
        with_settings(destinations={"crm": {**CRM, "secret": WEBHOOK_SECRET}, "again": CRM}),
        "destinations: must not sign one URL with different secrets; correct",
    ),
    # types
    (with_settings(http=[]), "http: must be a section of settings"),
    (with_settings(crews=[]), "crews: must be a section of settings"),
    (with_settings(crews={}), "crews: must not be empty"),
    (with_settings(amqp={"reply_to": 5}), "amqp.reply_to: must be a list"),
    ({"crews": {"a.b": SMALLEST["crews"]["research"]}}, "crews.a.b: a crew's name is"),
    ({"crews": {"a": None}}, "crews.a: must be a section of settings"),
    ({"crews": {"a": {"url": "https://a.crewai.com"}}}, "crews.a.token: is required (or token_file)"),
    ({"crews": {"a": {"token": "t"}}}, "crews.a.url: is required"),
    (with_crew(token=5), "crews.research.token: must be a string"),
    (with_crew(token="a b"), "crews.research.token: must be printable ASCII without spaces"),
    (with_settings(tokn=None), "tokn: unknown setting"),
    (with_settings(log={"levle": "info"}), "log.levle: unknown setting; did you mean level?"),
    (with_settings(**{"what is this": 1}), "?: unknown setting"),
    # addresses
    (with_crew(url="research"), "crews.research.url: must be an absolute URL"),
    (with_crew(url="https://u:p@r.crewai.com"), "crews.research.url: must not contain a user name or password"),
    (with_crew(url="https://r.crewai.com?x=1"), "crews.research.url: must not contain a query"),
    (with_crew(url="https://r.crewai.com:port"), "crews.research.url: is not a URL"),
    (with_crew(url="https://…"), "crews.research.url: must be ASCII"),
    (with_crew(url="http://r.crewai.com"), "crews.research.url: must be https"),
    (with_settings(public_url="http://bridge.example.com"), "public_url: must be https"),
    (with_crew(callback_url="ftp://x"), "crews.research.callback_url: must be an absolute URL"),
    (
        with_crew(callback_url="https://10.0.0.1/"),
        "callbacks: never permit crews.research.callback_url: the address may not be called",
    ),
    (
        with_settings(destinations={"crm": {"url": "https://127.1/"}}),
        "callbacks: never permit destinations.crm.url: the host must be a name or an address in its usual form",
    ),
    (with_settings(amqp={"url": "http://broker"}), "amqp.url.0: must look like amqp://"),
    (with_settings(amqp={"url": "amqps://b/?no_verify_ssl=1"}), "amqp.url.0: must not disable"),
    (with_settings(amqp={"url": "amqps://b/?verify=verify_none"}), "amqp.url.0: must not disable"),
    (
        with_settings(amqp={"url": "amqps://b/?cacertfile=/ca.pem"}),
        "amqp.url.0: accepts only the options auth, cafile, certfile, heartbeat, keyfile; did you mean cafile?",
    ),
    (
        with_settings(amqp={"url": "amqps://b/?cert_file=/c&keyfile=/k"}),
        "amqp.url.0: accepts only the options auth, cafile, certfile, heartbeat, keyfile; did you mean certfile?",
    ),
    (with_settings(amqp={"url": "amqp://b/?cafile=/ca.pem"}), "amqp.url.0: must begin with amqps://"),
    (with_settings(amqp={"url": "amqps://b/?certfile=/c.pem"}), "amqp.url.0: must have both certfile and keyfile"),
    (with_settings(amqp={"url": "amqps://b/?auth=EXTERNAL"}), "amqp.url.0: must have certfile and keyfile with auth"),
    (with_settings(amqp={"url": "amqps://b/?auth=x"}), "amqp.url.0: auth must be PLAIN or EXTERNAL"),
    (
        with_settings(amqp={"url": "amqps://b/?cafile=/nowhere"}),
        "amqp.url: cafile: the file cannot be read (No such file or directory)",
    ),
    (with_settings(amqp={"url": "amqp://u:p/w@b/"}), "amqp.url.0: is not a URL"),
    (with_settings(amqp={"url": []}), "amqp.url: must not be empty"),
    (with_settings(amqp={"url": ["amqp://a", "http://b"]}), "amqp.url.1: must look like amqp://"),
    (with_settings(amqp={"url": "amqp://u:p@h1,u:p@h2/"}), "amqp.url.0: must name one host; give several as a list"),
    (with_settings(amqp={"url": "amqp://u:p@h1,h2"}), "amqp.url.0: must name one host; give several as a list"),
    (with_settings(amqp={"url": "amqp://h1:5672,h2:5672/"}), "amqp.url.0: must name one host; give several as a list"),
    (with_settings(amqp={"url": "amqp://u:p@h1;u:p@h2/"}), "amqp.url.0: must name one host; give several as a list"),
    (with_settings(amqp={"url": "amqp://h1/;amqp://h2/"}), "amqp.url.0: must name one host; give several as a list"),
    (with_settings(amqp={"url": "amqps://b/?cafile="}), "amqp.url.0: cafile must not be empty"),
    (with_settings(amqp={"dead": ""}), "amqp.dead: must be printable"),
    (with_settings(amqp={"bind": [{"exchange": "e", "key": "é" * 128}]}), "amqp.bind.0.key: must be printable"),
    (with_settings(amqp={"routing_key": "é" * 128}), "amqp.routing_key: must be at most 255 bytes long"),
    (with_settings(amqp={"results": "kickoff.requests"}), "amqp.results: must differ"),
    (with_settings(callbacks={"allow": ["https://a.example.com/path"]}), "callbacks.allow.0: must look like"),
    (with_settings(callbacks={"allow": ["*.example.com"]}), "callbacks.allow.0: must look like"),
    # secrets
    (with_settings(callbacks={"secret": "whsec_c2hvcnQ="}), "callbacks.secret.0: must be whsec_"),
    (
        with_settings(callbacks={"secret": "whsk_c2hvcnQ="}),
        "callbacks.secret.0: must be whsk_ followed by the base64 of 32",
    ),
    (with_settings(callbacks={"secret": f"whpk_{WEBHOOK_SECRET[6:]}"}), "callbacks.secret.0: must be whsec_"),
    (with_crew(callback_secret="x"), "crews.research.callback_secret.0: must be whsec_"),
    (with_settings(callbacks={"secret": WEBHOOK_SECRET[6:]}), "callbacks.secret.0: must be whsec_"),
    (with_settings(callbacks={"secret": [WEBHOOK_SECRET, "whsec_!"]}), "callbacks.secret.1: must be whsec_"),
    # combinations
    (with_settings(http={"host": "0.0.0.0"}), "http.clients: must name at least one client"),
    (with_settings(http={"port": 80, "ops_port": 80}), "http.ops_port: must differ from http.port"),
    (with_settings(proxy="socks5://proxy:1080"), "proxy: must be an HTTP proxy"),
    (with_settings(proxy="proxy:3128"), "proxy: must be `env` or the URL of an HTTP proxy"),
    (with_settings(callbacks={"proxy": "http://proxy/path"}), "callbacks.proxy: must be `env` or the URL"),
    (with_settings(http={"trusted_proxies": ["10.0.0.0/8", "proxy"]}), "http.trusted_proxies.1: must be a network"),
    (with_settings(http={"trusted_proxies": ["0.0.0.0/0"]}), "http.trusted_proxies.0: must not be every address"),
    (
        with_crew(poll={"min_interval": "90s"}),
        "crews.research.poll.max_interval: must not be shorter than min_interval",
    ),
    (with_crew(poll={"min_interval": "99ms"}), "crews.research.poll.min_interval: must be at least 100ms"),
    (
        with_crew(poll={"max_interval": "900ms"}),
        "crews.research.poll.max_interval: must not be shorter than min_interval",
    ),
    (
        with_settings(http={"clients": [{"name": "a", "token": "1x"}, {"name": "a", "token": "2x"}]}),
        "http.clients: must not use one name twice",
    ),
    (
        with_settings(http={"clients": [{"name": "a", "token": "1x"}, {"name": "b", "token": "1x"}]}),
        "http.clients: must not use one token for two clients",
    ),
    (
        with_settings(http={"clients": [{"name": "a", "token": "1x", "crews": ["none"]}]}),
        "http.clients.0.crews: must name only crews that are configured",
    ),
    (
        with_settings(http={"clients": [{"name": "a", "token": "1x", "roles": ["boss"]}]}),
        "http.clients.0.roles.0: must be submit, read, or operate",
    ),
    # reserved names
    (with_settings(store={"url": "postgresql://u:p@db"}), "store.url: must name a database"),
    (with_settings(store={"url": "postgresql:///x"}), "store.url: must name a host"),
    (with_settings(store={"url": "postgresql://u:p@db/x?options=-c"}), "store.url: accepts only the options"),
    (with_settings(store={"url": "postgresql://u:p@db/x?sslmode="}), "store.url: sslmode must not be empty"),
    (with_settings(store={"url": "postgresql://u:p@db/x?sslcert=/c"}), "store.url: must have both sslcert and sslkey"),
    (with_settings(store={"url": "postgresql://u:p@h1,u:p@h2/x"}), "store.url: must name user and password once"),
    (with_settings(store={"url": "sqlite:///x.db\n"}), "store.url: must be sqlite:///"),
    (with_settings(store={"url": "postgresql://u:p@db/x?sslmode=maybe"}), "store.url: sslmode must be one of"),
    (with_settings(store={"url": "postgresql://h1,:5432/x"}), "store.url: the host must be"),
    (with_settings(store={"url": "postgresql://h1,h2:x/x"}), "store.url: is not a URL"),
    (
        with_settings(store={"url": "postgresql://h1,h2/x?target_session_attrs=standby"}),
        "store.url: target_session_attrs must be one of any, read-write, primary",
    ),
    (with_settings(store={"url": "sqlite:///:memory:"}), "store.url: must be sqlite:///"),
    (with_settings(callbacks={"max_event_bytes": "0KiB"}), "callbacks.max_event_bytes: must be a size"),
]


class TestRules:
    @pytest.mark.parametrize(("tree", "start"), RULES, ids=[start for _, start in RULES])
    def test_an_invalid_setting_is_the_only_problem_reported(
        self, files: SettingsFiles, tree: dict[str, Any], start: str
    ) -> None:
        (problem,) = files.problems(tree)
        assert problem.startswith(start)

    @pytest.mark.parametrize(
        "url", ["http://127.0.0.1:8090", "http://localhost/", "http://[::1]:1", "https://x.example.com/"]
    )
    def test_plain_http_is_allowed_for_this_machine(self, files: SettingsFiles, url: str) -> None:
        settings = files.load({**with_crew(url=url), "public_url": url})
        assert settings.crews["research"].url == settings.public_url == url.rstrip("/")

    def test_plain_http_beyond_this_machine_can_be_allowed(self, files: SettingsFiles) -> None:
        tree = {**with_crew(url="http://crew", insecure=True), "public_url": "http://bridge", "insecure": True}
        assert files.load(tree).crews["research"].url == "http://crew"

    def test_a_reachable_host_with_clients_is_accepted(self, files: SettingsFiles) -> None:
        tree = with_settings(http={"host": "0.0.0.0", "clients": [{"name": "a", "token": "a"}]})
        assert files.load(tree).http.clients[0].crews is None

    def test_the_padding_of_a_webhook_secret_is_restored(self, files: SettingsFiles) -> None:
        (secret,) = files.load(with_settings(callbacks={"secret": WEBHOOK_SECRET.rstrip("=")})).callbacks.secret
        assert secret.get_secret_value() == WEBHOOK_SECRET

    @pytest.mark.parametrize("pattern", ["https://*.example.com", "http://10.0.0.1:8080", "https://[::1]:9"])
    def test_a_callback_pattern_consists_of_scheme_host_and_port(self, files: SettingsFiles, pattern: str) -> None:
        assert files.load(with_settings(callbacks={"allow": [pattern]})).callbacks.allow == (pattern,)

    def test_all_problems_are_reported_at_once(self, files: SettingsFiles) -> None:
        tree = {
            "http": {
                "host": "0.0.0.0",
                "port": "eighty",
                "prot": 1,
                "clients": [{"name": "a", "token": "${NOT_SET}", "crews": ["none"]}],
            },
            "amqp": {"results": "kickoff.requests", "url": "amqp://b/?no_verify_ssl=1"},
            "crews": {
                "r": {
                    "url": "http://r.crewai.com",
                    "token_file": "/nowhere",
                    "deadline": "soon",
                    "poll": {"per_run": 0, "min_interval": "5s", "max_interval": "1s"},
                }
            },
            "hooks": {"github": {"crew": "none", "verify": {"scheme": "hmac"}, "inputs": {"x": "a b"}}},
        }
        problems = files.problems(tree, {"BRIDGE_LOG__LEVEL": "loud"})

        assert {problem.split(":")[0] for problem in problems} == {
            "http.port",
            "http.prot",
            "http.clients.0.token",
            "http.clients.0.crews",
            "amqp.results",
            "amqp.url.0",
            "crews.r.url",
            "crews.r.token_file",
            "crews.r.deadline",
            "crews.r.poll.per_run",
            "crews.r.poll.max_interval",
            "hooks.github.crew",
            "hooks.github.verify.secret",
            "hooks.github.verify.header",
            "hooks.github.inputs.x",
            "log.level",
        }
        assert len(problems) == 16

    @pytest.mark.parametrize("word", ["none", "None", "NONE"])
    def test_no_results_exchange_is_the_word_none_in_any_case(self, files: SettingsFiles, word: str) -> None:
        """Python's `None` was the name of an exchange."""
        amqp = files.load(with_settings(amqp={"results": word})).amqp
        assert amqp is not None
        assert amqp.results is None


class TestSeveralHosts:
    @pytest.mark.parametrize(
        ("tree", "environ"),
        [
            ({"url": ["amqp://h1/", "amqp://u:p,w@h2/"]}, {}),
            ({}, {"BRIDGE_AMQP__URL": "amqp://h1/,amqp://u:p,w@h2/"}),
            ({}, {"BRIDGE_AMQP__URL": "amqp://h1/ amqp://u:p,w@h2/"}),
            ({}, {"BRIDGE_AMQP__URL": '["amqp://h1/", "amqp://u:p,w@h2/"]'}),
            ({}, {"BRIDGE_AMQP__URL__0": "amqp://h1/", "BRIDGE_AMQP__URL__1": "amqp://u:p,w@h2/"}),
        ],
    )
    def test_brokers_are_a_list(self, files: SettingsFiles, tree: dict[str, Any], environ: dict[str, str]) -> None:
        amqp = files.load(with_settings(amqp=tree), environ).amqp
        assert amqp is not None
        assert [url.get_secret_value() for url in amqp.url] == ["amqp://h1/", "amqp://u:p,w@h2/"]
        assert amqp.location == "h1:5672/, h2:5672/"

    def test_the_file_of_brokers_may_have_a_line_for_each(self, files: SettingsFiles) -> None:
        tree = {"url_file": files.file("urls", "amqp://h1/\namqps://u:p@h2/v\n")}
        amqp = files.load(with_settings(amqp=tree)).amqp
        assert amqp is not None
        assert amqp.location == "h1:5672/, h2:5671/v"

    def test_a_misspelled_option_of_the_database_is_corrected(self, files: SettingsFiles) -> None:
        for wrong, right in [("sslmod", "sslmode"), ("cafile", "sslrootcert"), ("ssl_key", "sslkey")]:
            (problem,) = files.problems(with_settings(store={"url": f"postgresql://u:p@db/x?{wrong}=a"}))
            assert problem.endswith(f"; did you mean {right}?")

    def test_a_single_broker_may_have_a_comma_in_its_password(self, files: SettingsFiles) -> None:
        amqp = files.load(with_settings(amqp={"url": "amqp://u:p,w@h/"})).amqp
        assert amqp is not None
        assert amqp.location == "h:5672/"

    @pytest.mark.parametrize(
        ("url", "location"),
        [
            ("postgresql://u:p@h1:5433,h2/db?target_session_attrs=read-write", "h1:5433,h2:5432/db"),
            ("postgresql://u:p@h1/db?sslrootcert=system", "h1:5432/db"),
        ],
    )
    def test_postgresql_takes_the_form_of_libpq(self, files: SettingsFiles, url: str, location: str) -> None:
        assert files.load(with_settings(store={"url": url})).store.location == location


class TestCrewNames:
    """References to crews are checked against the settings being loaded, not against earlier ones."""

    OTHER: ClassVar[Any] = with_settings(crews={"other": SMALLEST["crews"]["research"]})
    HOOKS: ClassVar[Any] = {"shop": {"crew": "research", "verify": {"scheme": "github", "secret": "s"}}}
    CLIENTS: ClassVar[Any] = {"clients": [{"name": "a", "token": "t", "crews": ["research"]}]}
    DESTINATIONS: ClassVar[Any] = {"crm": {**CRM, "crews": ["research"]}}

    @pytest.mark.parametrize("sections", [{"hooks": HOOKS}, {"http": CLIENTS}, {"destinations": DESTINATIONS}])
    def test_crews_of_the_same_settings_can_be_named(self, files: SettingsFiles, sections: dict[str, Any]) -> None:
        files.load(self.OTHER)

        assert Settings.model_validate(with_settings(**sections)).crews.keys() == {"research"}

    @pytest.mark.parametrize("sections", [{"hooks": HOOKS}, {"http": CLIENTS}])
    def test_crews_of_earlier_settings_cannot_be_named(self, files: SettingsFiles, sections: dict[str, Any]) -> None:
        files.load(SMALLEST)

        with pytest.raises(ValidationError, match="configured under `crews`"):
            Settings.model_validate({**self.OTHER, **sections})
