"""Loading of settings: the file, `${NAME}`, the environment, and secrets in files."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.config import SettingsError, default_path, load
from tests.component.config.settings_files import SMALLEST, WEBHOOK_SECRET, SettingsFiles, with_crew, with_settings

ENVIRON = {
    "ORDERS_TOKEN": "orders-token",
    "RESEARCH_TOKEN": "research-token",
    "TRIAGE_TOKEN": "triage-token",
    "GITHUB_SECRET": "github-secret",
    "CALLBACK_SECRET": WEBHOOK_SECRET,
}

EXAMPLE = """
public_url: https://bridge.example.com    # where the crew API can reach this bridge; without it the bridge only polls
http:
  host: 127.0.0.1
  port: 8080
  ops_port: 8081                          # health, metrics, documents, console; absent: on `port`
  console: true
  max_body: 1MiB
  clients:                                # none: the API is open, and then only a loopback host is accepted
    - name: orders
      token: ${ORDERS_TOKEN}
      roles: [submit, read]               # submit, read, operate
      crews: [research]                   # default: all
amqp:                                     # absent: no RabbitMQ
  url: amqp://guest:guest@127.0.0.1:5672/
  requests: kickoff.requests              # topic exchange and quorum queue of that name, bound with '#'
  results: kickoff.results                # topic exchange
  dead: kickoff.dead                      # queue for messages that cannot be accepted
  prefetch: 50
  max_message: 1MiB
  reply_to: ["amq.gen-*", "amq.rabbitmq.reply-to.*", "reply.*"]   # reply queues that a message may name
  declare: true                           # false: check that they exist, create nothing
  event_mode: structured                  # or binary (CloudEvents)
store:
  url: sqlite:///kickoff-bridge.db        # or postgresql://user:secret@host/db
  retention: 14d
crews:
  research:
    url: https://research-0a1b2c.crewai.com
    token: ${RESEARCH_TOKEN}              # Bearer Token or User Bearer Token
    kind: crew                            # or flow
    max_running: 16
    requests_per_second: 20               # all calls to this crew: kickoff, status, resume
    deadline: 1h
    in_doubt: hold                        # hold | retry | fail
    in_doubt_after: 15m                   # how long evidence is waited for before run.in_doubt and the policy
    human_input: false                    # true: NOT FOUND may mean "waiting for a human"
    human: {deadline: 3d, default: null}  # no answer in time: this answer, or none and the run's deadline decides
    budget: {runs: 500, per: 1d}          # beyond it runs wait
    events: []                            # extra events: started, progress
    callback_url: https://orders.example.com/done   # a destination for every run of this crew
    poll: {per_run: 5, min_interval: 1s, max_interval: 60s}
  triage: {url: https://triage-0a1b2c.crewai.com, token: ${TRIAGE_TOKEN}}
hooks:                                    # inbound webhooks of other systems
  github-issues:
    crew: triage
    verify: {scheme: github, secret: ${GITHUB_SECRET}}
    when: "action == 'opened'"            # JMESPath on {body, headers, query}
    inputs: {title: body.issue.title, text: body.issue.body}
    idempotency_key: headers."x-github-delivery"
callbacks:
  secret: ${CALLBACK_SECRET}              # whsec_…, Standard Webhooks; a list while a secret is being changed
  allow: ["https://*.example.com"]        # absent: any public https address
  allow_private: false                    # true only for tests and closed networks
  max_event_bytes: 256KiB                 # a larger result is linked (`dataref`), not carried
log: {level: info, format: auto}          # auto | json | console
"""


@pytest.fixture
def files(tmp_path: Path) -> SettingsFiles:
    return SettingsFiles(tmp_path)


class TestTheFile:
    def test_the_documented_example_loads(self, files: SettingsFiles) -> None:
        settings = files.load(EXAMPLE, ENVIRON)

        crew = settings.crews["research"]
        assert settings.amqp is not None
        assert crew.token.get_secret_value() == "research-token"
        assert (crew.deadline, crew.in_doubt_after, crew.poll.max_interval) == (3600, 900, 60)
        assert (settings.http.ops_port, settings.http.max_body, settings.amqp.location) == (
            8081,
            2**20,
            "127.0.0.1:5672/",
        )
        assert (settings.store.retention, settings.store.location) == (14 * 86400, "kickoff-bridge.db")
        assert settings.http.clients[0].roles == {"submit", "read"}
        assert [secret.get_secret_value() for secret in settings.hooks["github-issues"].verify.secret] == [
            "github-secret"
        ]

    def test_the_example_shows_the_defaults(self, files: SettingsFiles) -> None:
        shown = files.load(EXAMPLE, ENVIRON)
        left_out = files.load({**SMALLEST, "amqp": {}})

        assert left_out.amqp == shown.amqp
        assert left_out.store == shown.store
        assert left_out.log == shown.log
        same = {"human", "budget", "callback_url", "token", "url"}
        assert left_out.crews["research"].model_dump(exclude=same) == shown.crews["research"].model_dump(exclude=same)

    def test_without_an_amqp_section_rabbitmq_is_off(self, files: SettingsFiles) -> None:
        assert files.load(SMALLEST).amqp is None

    def test_an_empty_value_counts_as_omitted(self, files: SettingsFiles) -> None:
        assert files.load(with_settings(http={"ops_port": None}, amqp=None)).http.ops_port is None

    def test_settings_are_immutable(self, files: SettingsFiles) -> None:
        with pytest.raises(ValueError, match="frozen"):
            files.load(SMALLEST).http.port = 1

    def test_a_missing_file_is_reported_with_its_path_and_a_remedy(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError) as caught:
            load(tmp_path / "none.yaml", {})

        assert str(tmp_path / "none.yaml") in str(caught.value)
        assert "--config" in str(caught.value)
        assert "$BRIDGE_CONFIG" in str(caught.value)

    def test_a_folder_is_not_a_settings_file(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="cannot be read"):
            load(tmp_path, {})

    def test_a_file_that_is_not_text_is_reported(self, tmp_path: Path) -> None:
        (tmp_path / "bridge.yaml").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(SettingsError, match="not UTF-8"):
            load(tmp_path / "bridge.yaml", {})

    def test_invalid_yaml_is_reported_by_line_without_its_text(self, files: SettingsFiles) -> None:
        (problem,) = files.problems("crews:\n  research:\n    token: *canary-7f3a9\n")
        assert "line 3, column 12: is not valid YAML" in problem
        assert "canary" not in problem

    def test_a_character_that_yaml_forbids_is_reported(self, files: SettingsFiles) -> None:
        (problem,) = files.problems("crews: \x00")
        assert problem.endswith("is not valid YAML")

    def test_an_invalid_date_is_reported(self, files: SettingsFiles) -> None:
        (problem,) = files.problems("crews: 2026-99-99")
        assert problem.endswith("is not valid YAML")

    def test_a_duplicate_name_is_reported(self, files: SettingsFiles) -> None:
        (problem,) = files.problems("crews:\n  a: {}\n  a: {}\n")
        assert "line 3: a is defined twice" in problem

    @pytest.mark.parametrize("name", ["no", "007", "1.5", "null", "2026-11-30"])
    def test_a_name_that_yaml_does_not_read_as_text_is_reported(self, files: SettingsFiles, name: str) -> None:
        """YAML would read crews named False and 7."""
        (problem,) = files.problems(f"crews:\n  {name}: {{}}\n")
        assert problem.endswith(f'line 2: {name} is not text in YAML; write it in quotes: "{name}"')

    @pytest.mark.parametrize("number", ["010", "-07", "0_7", "1:30", "1:30.5"])
    def test_a_number_that_yaml_reads_in_another_base_is_reported(self, files: SettingsFiles, number: str) -> None:
        """The port 010 was 8, and 1:30 was 90. The number is not shown, because it may be a secret."""
        (problem,) = files.problems(f"http:\n  port: {number}\n")
        assert "line 2: a number is not decimal in YAML" in problem
        assert number not in problem

    @pytest.mark.parametrize("number", ["0", "10", "0x10", "1_000", "'010'", "1.05"])
    def test_other_numbers_are_left_to_the_setting(self, files: SettingsFiles, number: str) -> None:
        assert not any("YAML" in problem for problem in files.problems(f"http: {{port: {number}}}\n"))

    def test_a_tab_is_reported_with_the_reason_of_the_parser(self, files: SettingsFiles) -> None:
        (problem,) = files.problems("crews:\n\tresearch: {}\n")
        assert "line 2, column 1: is not valid YAML: found character tab that cannot start any token" in problem

    def test_a_name_that_is_a_list_is_reported(self, files: SettingsFiles) -> None:
        (problem,) = files.problems("? [a]\n: 1\n")
        assert "is not valid YAML" in problem

    def test_a_section_that_contains_itself_is_reported(self, files: SettingsFiles) -> None:
        assert "crews: is nested more than 16 levels deep" in files.problems("crews: &a {b: *a}")

    @pytest.mark.parametrize("text", ["- a\n- b\n", "just words"])
    def test_a_file_must_contain_a_mapping(self, files: SettingsFiles, text: str) -> None:
        (problem,) = files.problems(text)
        assert "must contain settings" in problem

    def test_an_empty_file_lacks_crews(self, files: SettingsFiles) -> None:
        assert files.problems("") == ["crews: is required"]

    def test_the_default_path_can_be_set_in_the_environment(self) -> None:
        assert default_path({}) == Path("bridge.yaml")
        assert default_path({"BRIDGE_CONFIG": "/etc/b.yaml"}) == Path("/etc/b.yaml")

    def test_the_process_environment_is_the_default(
        self, files: SettingsFiles, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BRIDGE_HTTP__PORT", "9999")
        assert load(Path(files.file("b.yaml", yaml.safe_dump(SMALLEST)))).http.port == 9999


class TestExpansion:
    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("${NAME}", "value"),
            ("a${NAME}b${NAME}", "avaluebvalue"),
            ("${NONE:-other}", "other"),
            ("${EMPTY:-other}", "other"),
            ("${NAME:-other}", "value"),
            ("$${NAME}", "${NAME}"),
            ("pa$$word", "pa$word"),
            ("pa$word", "pa$word"),
            ("${REFERENCE}", "${NAME}"),
        ],
    )
    def test_a_reference_is_replaced_by_the_value_of_the_variable(
        self, files: SettingsFiles, written: str, read: str
    ) -> None:
        environ = {"NAME": "value", "EMPTY": "", "REFERENCE": "${NAME}"}
        assert files.load(with_crew(token=written), environ).crews["research"].token.get_secret_value() == read

    def test_an_unset_variable_is_reported_once_by_name_and_setting(self, files: SettingsFiles) -> None:
        assert files.problems(with_crew(token="${NOT_SET}")) == [
            "crews.research.token: the environment variable NOT_SET is not set"
        ]

    @pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A", "${A-b}"])
    def test_a_malformed_reference_is_reported(self, files: SettingsFiles, text: str) -> None:
        (problem,) = files.problems(with_crew(token=text), {"A": "x"})
        assert problem.startswith("crews.research.token: contains a ${ that is not")

    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("${NAME}", "value"),
            ("a${NAME}b${NONE:-}c", "avaluebc"),
            ("${NONE:-a,b?[{c]}", "a,b?[{c]"),
            ("'${NAME}'", "value"),
            ('"${NONE:-{\\x41,}"', "{A,"),
        ],
    )
    def test_a_reference_may_be_inside_braces_and_brackets(self, files: SettingsFiles, written: str, read: str) -> None:
        settings = files.load(
            f"callbacks: {{allow: [https://${{HOST}}, 'https://b.c']}}\n"
            f"crews: {{research: {{token: {written}, url: 'https://a.b'}}}}\n",
            {"NAME": "value", "HOST": "a.b"},
        )

        assert settings.crews["research"].token.get_secret_value() == read
        assert settings.callbacks.allow == ("https://a.b", "https://b.c")

    def test_an_error_after_a_reference_is_reported_at_its_column(self, files: SettingsFiles) -> None:
        (problem,) = files.problems('crews: {a: {token: "${NAME:-x,y}", url: ${NAME}, kind: *none}}', {"NAME": "x"})
        assert "line 1, column 56: is not valid YAML" in problem

    @pytest.mark.parametrize("comment", ["# ${NONE}", "# ${", "# ${NONE:-"])
    def test_a_reference_in_a_comment_is_ignored(self, files: SettingsFiles, comment: str) -> None:
        crew = "{url: https://a.b, token: ${NAME}}"
        settings = files.load(f"{comment}\nhttp: {{port: 1}}  {comment}\ncrews:\n  a: {crew}\n", {"NAME": "x"})
        assert settings.http.port == 1

    @pytest.mark.parametrize("text", ["x, max_running: 1", "x}", "[x]", "{x: 1}", "# x", "&x y"])
    def test_the_value_of_a_variable_is_one_text_inside_braces(self, files: SettingsFiles, text: str) -> None:
        tree = "crews: {a: {url: https://a.b, token: t, callback_secret: [], human: {deadline: 1h, default: ${NAME}}}}"
        crew = files.load(tree, {"NAME": text}).crews["a"]

        assert crew.human is not None
        assert (crew.human.default, crew.max_running) == (text, 16)

    def test_a_variable_may_hold_a_number_or_a_boolean(self, files: SettingsFiles) -> None:
        tree = with_settings(http={"port": "${PORT}"}, amqp={"declare": "${DECLARE}"})
        settings = files.load(tree, {"PORT": "9000", "DECLARE": "false"})

        assert settings.amqp is not None
        assert (settings.http.port, settings.amqp.declare) == (9000, False)

    def test_the_value_of_a_variable_cannot_add_settings(self, files: SettingsFiles) -> None:
        settings = files.load(with_settings(http={"host": "${HOST}"}), {"HOST": "localhost"})
        assert settings.http.host == "localhost"
        (problem,) = files.problems(with_settings(http={"port": "${PORT}"}), {"PORT": "1\n  host: 0.0.0.0"})
        assert problem == "http.port: must be a whole number"


class TestTheEnvironment:
    def test_a_variable_takes_precedence_over_the_file(self, files: SettingsFiles) -> None:
        settings = files.load(with_crew(deadline="1h"), {"BRIDGE_CREWS__research__DEADLINE": "2h"})
        assert settings.crews["research"].deadline == 7200

    def test_a_variable_can_create_a_section(self, files: SettingsFiles) -> None:
        settings = files.load(SMALLEST, {"BRIDGE_AMQP__URL": "amqps://u:p%40@broker/v"})
        assert settings.amqp is not None
        assert settings.amqp.location == "broker:5671/v"

    @pytest.mark.parametrize("written", ["My-Crew", "MY_CREW", "my_crew"])
    def test_a_variable_names_a_crew_with_the_characters_that_a_shell_permits(
        self, files: SettingsFiles, written: str
    ) -> None:
        tree = {"crews": {"My-Crew": SMALLEST["crews"]["research"]}}
        settings = files.load(tree, {f"BRIDGE_CREWS__{written}__TOKEN": "new"})
        assert settings.crews["My-Crew"].token.get_secret_value() == "new"

    def test_an_exact_name_is_preferred(self, files: SettingsFiles) -> None:
        crew = SMALLEST["crews"]["research"]
        settings = files.load({"crews": {"A": crew, "a": crew}}, {"BRIDGE_CREWS__a__TOKEN": "new"})
        assert [crew.token.get_secret_value() for crew in settings.crews.values()] == ["t", "new"]

    def test_an_unknown_crew_is_added_under_the_name_of_the_variable(self, files: SettingsFiles) -> None:
        environ = {"BRIDGE_CREWS__Triage__URL": "https://t.crewai.com", "BRIDGE_CREWS__Triage__TOKEN": "t"}
        assert set(files.load(SMALLEST, environ).crews) == {"research", "Triage"}

    @pytest.mark.parametrize("text", ["a.*,b.*", '["a.*", "b.*"]', "a.* b.*"])
    def test_a_list_is_json_or_comma_separated(self, files: SettingsFiles, text: str) -> None:
        settings = files.load(SMALLEST, {"BRIDGE_AMQP__REPLY_TO": text})
        assert settings.amqp is not None
        assert settings.amqp.reply_to == ("a.*", "b.*")

    def test_a_list_of_sections_is_json(self, files: SettingsFiles) -> None:
        clients = json.dumps([{"name": "orders", "token": "o"}])
        assert files.load(SMALLEST, {"BRIDGE_HTTP__CLIENTS": clients}).http.clients[0].name == "orders"

    def test_one_item_of_a_list_can_be_set_by_its_index(self, files: SettingsFiles) -> None:
        tree = with_settings(http={"clients": [{"name": "a", "token": "a"}, {"name": "b", "token": "b"}]})
        clients = files.load(tree, {"BRIDGE_HTTP__CLIENTS__1__TOKEN": "new"}).http.clients
        assert [client.token.get_secret_value() for client in clients] == ["a", "new"]

    def test_invalid_json_is_reported_without_its_text(self, files: SettingsFiles) -> None:
        (problem,) = files.problems(SMALLEST, {"BRIDGE_HTTP__CLIENTS": '[{"token": "canary-7f3a9"'})
        assert problem == (
            "http.clients: must be a list, as JSON or as words separated by commas (from BRIDGE_HTTP__CLIENTS)"
        )

    def test_an_unknown_variable_is_reported_by_name(self, files: SettingsFiles) -> None:
        assert files.problems(SMALLEST, {"BRIDGE_HTTP__PROT": "1", "BRIDGE_SELF": "1", "BRIDGE_": "1"}) == [
            "http.prot: unknown setting; did you mean port? (from BRIDGE_HTTP__PROT)",
            "?: unknown setting (from BRIDGE_)",
            "self: unknown setting (from BRIDGE_SELF)",
        ]

    def test_variables_in_an_unknown_section_are_reported_by_name(self, files: SettingsFiles) -> None:
        environ = {"BRIDGE_NOPE__DEEP": "1", "BRIDGE_NOPE__DEEPER__STILL": "1", "BRIDGE_LOG__MORE__OF_IT": "1"}
        assert files.problems({**SMALLEST, "noper": {}}, environ) == [
            "log.more: unknown setting (from BRIDGE_LOG__MORE__OF_IT)",
            "noper: unknown setting",
            "nope: unknown setting (from BRIDGE_NOPE__DEEP, BRIDGE_NOPE__DEEPER__STILL)",
        ]

    @pytest.mark.parametrize("service", ["BRIDGE", "BRIDGE_POSTGRES", "BRIDGE_2"])
    @pytest.mark.parametrize("ip", ["10.96.0.7", "fd00::7"])
    def test_variables_that_kubernetes_sets_for_a_service_are_ignored(
        self, files: SettingsFiles, service: str, ip: str
    ) -> None:
        """A service named `bridge` made every pod fail at its next start."""
        host = f"[{ip}]" if ":" in ip else ip
        environ = {
            f"{service}_SERVICE_HOST": ip,
            f"{service}_SERVICE_PORT": "8080",
            f"{service}_SERVICE_PORT_HTTP": "8080",
            f"{service}_SERVICE_PORT_HTTP_METRICS": "8081",
            f"{service}_PORT": f"tcp://{host}:8080",
        }
        for protocol in ("TCP", "UDP", "SCTP"):
            link = f"{service}_PORT_8080_{protocol}"
            environ[link] = f"{protocol.lower()}://{host}:8080"
            environ |= {f"{link}_PROTO": protocol.lower(), f"{link}_PORT": "8080", f"{link}_ADDR": ip}
        assert files.load(SMALLEST, environ).http.port == 8080

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("BRIDGE_PORT", "8080"),
            ("BRIDGE_HTTP_PORT", "8080"),
            ("BRIDGE_HTTP__PORTS", "tcp://10.96.0.7:8080"),
            ("BRIDGE_HTTP__SERVICE_HOST", "10.96.0.7"),
            ("BRIDGE_PORT", "http://10.96.0.7:8080"),
            ("BRIDGE_SERVICE", "10.96.0.7"),
            ("BRIDGE_PUBLIC_ULR", "https://bridge.example.com"),
            ("BRIDGE_AMQP_URL", "amqp://localhost"),
        ],
    )
    def test_a_misspelled_setting_is_an_error(self, files: SettingsFiles, variable: str, value: str) -> None:
        (problem,) = files.problems(SMALLEST, {variable: value})
        assert variable in problem
        assert "unknown setting" in problem

    def test_variables_of_the_command_line_are_not_settings(self, files: SettingsFiles) -> None:
        environ = {"BRIDGE_CONFIG": "x", "BRIDGE_URL": "x", "BRIDGE_TOKEN": "x", "BRIDGEHEAD": "x", "HOME": "x"}
        assert set(files.load(SMALLEST, environ).crews) == {"research"}

    def test_dollar_signs_in_a_variable_are_literal(self, files: SettingsFiles) -> None:
        settings = files.load(SMALLEST, {"BRIDGE_CREWS__research__TOKEN": "a$$b${C}"})
        assert settings.crews["research"].token.get_secret_value() == "a$$b${C}"

    def test_a_reference_that_a_variable_overrides_may_be_unset(self, files: SettingsFiles) -> None:
        settings = files.load(with_crew(token="${NOT_SET}"), {"BRIDGE_CREWS__research__TOKEN": "new"})
        assert settings.crews["research"].token.get_secret_value() == "new"

    def test_a_variable_changes_only_one_of_two_crews_that_share_a_yaml_anchor(self, files: SettingsFiles) -> None:
        tree = "crews:\n  a: &a {url: https://a.example.com, token: t}\n  b: *a\n"
        crews = files.load(tree, {"BRIDGE_CREWS__a__TOKEN": "new"}).crews
        assert (crews["a"].token.get_secret_value(), crews["b"].token.get_secret_value()) == ("new", "t")


class TestSecretFiles:
    def test_every_secret_can_come_from_a_file(self, files: SettingsFiles) -> None:
        tree = {
            "http": {"clients": [{"name": "a", "token_file": files.file("client", "client-token\n")}]},
            "amqp": {"url_file": files.file("amqp", "amqp://u:p@broker/\n")},
            "store": {"url_file": files.file("store", "sqlite:////var/lib/b.db")},
            "crews": {"r": {"url": "https://r.crewai.com", "token_file": files.file("crew", "crew-token\r\n")}},
            "callbacks": {"secret_file": files.file("callback", f"{WEBHOOK_SECRET}\n{WEBHOOK_SECRET}\n")},
        }
        settings = files.load(tree)

        assert settings.amqp is not None
        assert settings.http.clients[0].token.get_secret_value() == "client-token"
        assert [url.get_secret_value() for url in settings.amqp.url] == ["amqp://u:p@broker/"]
        assert settings.store.location == "/var/lib/b.db"
        assert settings.crews["r"].token.get_secret_value() == "crew-token"
        assert len(settings.callbacks.secret) == 2

    def test_only_one_trailing_newline_is_removed(self, files: SettingsFiles) -> None:
        (problem,) = files.problems(crew_with_files(files.file("token", "crew-token\n\n")))
        assert problem.startswith("crews.r.token: must be printable ASCII")

    def test_a_missing_file_is_reported_by_the_name_of_the_setting_only(self, files: SettingsFiles) -> None:
        assert files.problems(crew_with_files("/nowhere/canary-7f3a9")) == [
            "crews.r.token_file: the file cannot be read (No such file or directory)"
        ]

    @pytest.mark.parametrize(
        ("content", "fault"), [(b"", "is empty"), (b"\n", "is empty"), (b"\xff", "is not UTF-8 text")]
    )
    def test_a_file_without_a_secret_is_reported(self, files: SettingsFiles, content: bytes, fault: str) -> None:
        (files.folder / "token").write_bytes(content)
        assert files.problems(crew_with_files(str(files.folder / "token"))) == [f"crews.r.token_file: the file {fault}"]

    def test_a_secret_and_its_file_conflict(self, files: SettingsFiles) -> None:
        (problem,) = files.problems(with_crew(token_file=files.file("token", "x")))
        assert problem == "crews.research.token_file: conflicts with token; keep only one of them"

    def test_a_path_that_is_not_text_is_reported(self, files: SettingsFiles) -> None:
        assert files.problems(crew_with_files(7)) == ["crews.r.token_file: must be the path of a file"]

    def test_an_unset_variable_in_a_path_is_reported_once(self, files: SettingsFiles) -> None:
        assert files.problems(crew_with_files("${NOT_SET}")) == [
            "crews.r.token_file: the environment variable NOT_SET is not set"
        ]

    def test_a_file_named_in_the_environment_takes_precedence_over_the_secret_in_the_file(
        self, files: SettingsFiles
    ) -> None:
        environ = {"BRIDGE_CREWS__research__TOKEN_FILE": files.file("token", "new")}
        assert files.load(SMALLEST, environ).crews["research"].token.get_secret_value() == "new"

    def test_a_secret_and_its_file_in_the_environment_conflict(self, files: SettingsFiles) -> None:
        environ = {"BRIDGE_CREWS__research__TOKEN_FILE": files.file("t", "x"), "BRIDGE_CREWS__research__TOKEN": "y"}
        (problem,) = files.problems(SMALLEST, environ)
        assert problem.startswith("crews.research.token_file: conflicts with token")

    def test_settings_that_are_not_secrets_have_no_file_form(self, files: SettingsFiles) -> None:
        (problem,) = files.problems(with_crew(kind_file="x"))
        assert problem.startswith("crews.research.kind_file: unknown setting")


def crew_with_files(path: object) -> dict[str, Any]:
    return {"crews": {"r": {"url": "https://r.crewai.com", "token_file": path}}}
