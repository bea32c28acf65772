"""The docs match the code: every public name is documented, and every link resolves.

`python -m tests.test_docs` rewrites the state diagram in docs/architecture.md.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from typer import Context
from typer.core import TyperGroup

from bridge.config import Crew, Settings, load, setting_names
from bridge.config.model import EventKind
from bridge.config.names import SECRETS
from bridge.core.crew.responses import KickoffResponse, ResumeResponse, StatusResponse
from bridge.core.delivery import events
from bridge.core.delivery.model import Channel, DeliveryState
from bridge.core.delivery.outcome import SendResult
from bridge.core.errors import RefusalCode
from bridge.core.runs import request, state_machine
from bridge.core.runs.model import FINAL_STATES, Envelope, KickoffRequest, State
from bridge.core.values import kind_name
from bridge.observability.logging import LIBRARY_EVENT
from bridge.observability.metrics import OPERATIONS, TOKEN_KINDS, VIA

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
CONFIGURE = ROOT / "docs" / "configure.md"
CLI = ROOT / "docs" / "cli.md"
OBSERVE = ROOT / "docs" / "observe.md"
REQUESTS = ROOT / "docs" / "requests.md"
EVENTS = ROOT / "docs" / "events.md"
STATES = ROOT / "docs" / "states.md"
HTTP = ROOT / "docs" / "integrate-http.md"
SANDBOX = ROOT / "docs" / "sandbox.md"
EXAMPLE = ROOT / "deploy" / "bridge.example.yaml"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/zh/*.md")])
BEGIN, END = "<!-- states:begin -->", "<!-- states:end -->"

_LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
_LOGGERS = {"log", "_log"}
_METRIC_KINDS = {"Counter": "_total", "Gauge": "", "Histogram": "", "Summary": ""}
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:work|home|Users|root|mnt|workspace)/")


class Call(NamedTuple):
    """A call in the source with a text as its first argument, and its location."""

    name: str
    text: str
    node: ast.Call
    where: str


class LogLine(NamedTuple):
    """A log call: its possible event names, and its fields."""

    where: str
    names: list[str]
    fields: set[str]


def _names_of(answer: Any) -> list[str]:
    return [kind_name(kind) for kind in get_args(answer)]


_LABEL_VALUES: dict[str, Sequence[str]] = {
    "human_inputs_total": _names_of(ResumeResponse),
    "kickoffs_total": _names_of(KickoffResponse),
    "polls_total": _names_of(StatusResponse),
    "delivery_attempts_total": [*Channel, *_names_of(SendResult)],
    "deliveries": [*Channel, DeliveryState.PENDING, DeliveryState.DEAD],
    "runs": [state for state in State if state not in FINAL_STATES],
    "requests_total": [*VIA, "accepted", "replayed"],
    "crew_request_seconds": OPERATIONS,
    "tokens_used_total": TOKEN_KINDS,
}


def test_every_setting_has_one_row_in_the_table_of_its_section() -> None:
    rows = re.findall(r"^\| `([a-z_.*]+)` \|", _text(CONFIGURE), re.MULTILINE)
    sections = sorted({name.partition(".")[0] for name in setting_names() if "." in name})

    assert sorted(rows) == sorted(setting_names())
    for section in sections:
        wanted = [name for name in setting_names() if name.startswith(f"{section}.")]
        assert sorted(re.findall(r"^\| `([a-z_.*]+)` \|", _section(CONFIGURE, section), re.MULTILINE)) == sorted(wanted)


def test_documented_defaults_are_those_of_the_settings() -> None:
    """The default column, parsed like a settings file, is the default of the setting."""
    wrong = [name for name in setting_names() if not _states_default((_row(CONFIGURE, name) or "").split("|")[2], name)]

    assert wrong == []


def test_every_secret_documents_its_file_form() -> None:
    names = [".".join((*path[:-1], f"{path[-1]}_file")) for path in SECRETS]

    assert [name for name in names if not _mentions(CONFIGURE, name)] == []


def test_every_state_is_documented() -> None:
    assert [state for state in State if not _has_row(STATES, state)] == []
    assert [state for state in DeliveryState if not _has_row(HTTP, state)] == []


def test_every_event_type_is_documented() -> None:
    assert [name for name in sorted(_event_types()) if not _has_row(EVENTS, name)] == []


def test_every_event_of_a_run_can_be_chosen_for_a_destination() -> None:
    chosen = {f"run.{kind}" for kind in get_args(EventKind)}

    assert chosen == {name for name in _event_types() if name.startswith("run.")}


def test_every_field_of_an_event_is_documented() -> None:
    run = state_machine.accept(KickoffRequest("research", {}), Envelope("test"), "an-id", 0.0)

    assert [name for name in events.run_document(run) if not _has_row(EVENTS, f"data.{name}")] == []


def test_every_field_of_a_request_is_documented() -> None:
    assert [name for name in sorted(request.FIELDS) if not _has_row(REQUESTS, name)] == []


def test_every_refusal_and_error_code_is_documented() -> None:
    codes = {*get_args(RefusalCode), *(call.text for call in _calls() if call.name == "RunError")}

    assert [code for code in sorted(codes) if not any(_has_row(page, code) for page in (REQUESTS, HTTP, STATES))] == []


def test_every_http_route_is_documented() -> None:
    routes = [call for call in _calls() if call.name in {"web.get", "web.post"} and "adapters" in call.where]
    text = "".join(map(_text, PAGES))

    assert len(routes) > 3
    assert [call.text for call in routes if call.text not in text] == []


def test_every_command_is_documented() -> None:
    from typer.main import get_command

    from bridge.cli import app

    verbs = list(_verbs(get_command(app)))
    text = _text(CLI)

    assert len(verbs) > 5
    assert [verb for verb in verbs if not re.search(rf"(`|kickoff-bridge ){verb}\b", text)] == []


def test_every_sandbox_control_is_documented() -> None:
    from typer.main import get_command

    from bridge.cli import app
    from bridge.sandbox.rules import FaultKind

    root: Any = get_command(app)
    verb = root.get_command(Context(root), "sandbox")
    options = {name for option in verb.params for name in option.opts if name != "--help"}

    assert len(options) > 30
    assert [name for name in sorted(options) if f"`{name}`" not in _text(SANDBOX)] == []
    assert [kind for kind in get_args(FaultKind) if f"`{kind}`" not in _text(SANDBOX)] == []


def test_every_exit_code_is_documented() -> None:
    from bridge.cli._errors import Exit

    text = _text(CLI)

    assert [code for code in Exit if f"| {code.value} |" not in text] == []


def test_every_metric_has_its_row_with_its_labels() -> None:
    metrics = list(_metrics())
    rows = {name: _row(OBSERVE, name) or "" for name, _ in metrics}

    assert len(metrics) > 4
    assert [name for name in rows if not rows[name]] == []
    assert [(name, label) for name, labels in metrics for label in labels if f"`{label}`" not in rows[name]] == []


def test_every_value_of_a_metrics_label_is_in_its_row() -> None:
    rows = {metric: _row(OBSERVE, f"kickoff_bridge_{metric}") or "" for metric in _LABEL_VALUES}

    assert [
        (metric, value) for metric in rows for value in _LABEL_VALUES[metric] if f"`{value}`" not in rows[metric]
    ] == []


def test_every_log_event_has_its_row() -> None:
    logged = {name for line in _log_lines() for name in line.names}

    assert len(logged) > 10
    assert [name for name in sorted(logged) if not _has_row(OBSERVE, name)] == []


def test_no_log_event_is_documented_that_is_not_logged() -> None:
    documented = re.findall(r"^\| `([a-z_.]+)` \|", _section(OBSERVE, "Logs"), re.MULTILINE)
    logged = {name for line in _log_lines() for name in line.names} | {LIBRARY_EVENT}

    assert [name for name in documented if name not in logged] == []


def test_every_field_of_a_log_event_is_in_its_row() -> None:
    fields = {(name, field) for line in _log_lines() for name in line.names for field in line.fields}

    assert len(fields) > 50
    assert [pair for pair in sorted(fields) if f"`{pair[1]}`" not in (_row(OBSERVE, pair[0]) or "")] == []


def test_log_events_are_literal_names() -> None:
    """A name composed at run time could be neither found nor documented."""
    assert [line.where for line in _log_lines() if not line.names] == []


def test_log_lines_of_a_run_have_its_fields() -> None:
    """Its crew, key, and trace id, unless the run itself is not at hand; `observe.md` names these exceptions."""
    bare = {name for line in _log_lines() for name in line.names if "run_id" in line.fields}

    assert bare == {"command_dropped", "crew_webhook_discarded", "delivery_failed", "status_too_large"}


def test_the_state_diagram_is_the_table_of_transitions() -> None:
    _, block, _ = _split(_text(ARCHITECTURE))

    assert block == state_diagram(), "run: python -m tests.test_docs"


def test_links_resolve() -> None:
    targets = [(page, link) for page in PAGES for link in _LINK.findall(_prose(page)) if not re.match(r"[a-z]+:", link)]

    assert len(targets) > 20
    assert [(page.name, link) for page, link in targets if not _leads_somewhere(page, link)] == []


def test_named_test_and_benchmark_files_exist() -> None:
    pages = [page for page in (*PAGES, ROOT / "Makefile") if page.name != "CHANGELOG.md"]
    named = [
        (page, name) for page in pages for name in re.findall(r"\b(?:tests|bench)/[\w/]+\.(?:py|sh)\b", _text(page))
    ]

    assert len(named) > 50
    assert [(page.name, name) for page, name in named if not (ROOT / name).is_file()] == []


def test_pages_contain_no_machine_specific_path() -> None:
    pages = [*PAGES, *ROOT.glob("deploy/*.yaml")]

    assert [page.name for page in pages if _MACHINE_PATH.findall(_text(page))] == []


_OWN = {
    "ORDERS_TOKEN": "a-token-of-our-own",
    "OPERATOR_TOKEN": "another-token-of-our-own",
    "RESEARCH_TOKEN": "the-token-of-the-crew",
    "CALLBACK_SECRET": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
}


def test_the_example_settings_are_valid_once_their_secrets_are_replaced() -> None:
    settings = load(EXAMPLE, environ=_OWN)

    assert settings.amqp is not None
    assert "research" in settings.crews


def test_the_example_settings_name_every_setting() -> None:
    lines = _text(EXAMPLE)
    last_steps = {name.rpartition(".")[2] for name in setting_names()}

    assert [step for step in sorted(last_steps) if not re.search(rf"\b{step}:", lines)] == []


def test_the_example_settings_show_the_defaults() -> None:
    """The example sets only what has no default: an address, a secret, a client."""
    shown, plain = load(EXAMPLE, environ=_OWN), Settings.model_validate({"crews": _BARE_CREW})
    theirs = {"url", "token", "clients", "secret", "amqp", "crews"}

    for section in ("http", "store", "callbacks", "log"):
        for name in type(getattr(shown, section)).model_fields.keys() - theirs:
            assert getattr(getattr(shown, section), name) == getattr(getattr(plain, section), name), name
    for name in Crew.model_fields.keys() - theirs:
        assert getattr(shown.crews["research"], name) == getattr(plain.crews["research"], name), name


def test_the_example_settings_mark_placeholders_of_secrets() -> None:
    lines = _text(EXAMPLE).splitlines()
    secrets = [line for line in lines if re.match(r"\s+(token|secret): \$\{", line)]

    assert len(secrets) == 4
    assert [line for line in secrets if "PLACEHOLDER: replace" not in line] == []
    assert yaml.safe_load(_text(EXAMPLE)) is not None


_BARE_CREW = {"research": {"url": "https://research.example.com", "token": "a-token"}}


# The state diagram ------------------------------------------------------------------------------------------------


def state_diagram() -> str:
    """The arrows of `state_machine.TRANSITIONS` as a Mermaid diagram, in the order of the states."""
    arrows = [(start, end) for start, ends in state_machine.TRANSITIONS.items() for end in State if end in ends]
    last = [state for state in State if state in FINAL_STATES]
    lines = [f"{start} --> {end}" for start, end in [("[*]", State.ACCEPTED), *arrows, *((end, "[*]") for end in last)]]
    return "\n".join(["", "```mermaid", "stateDiagram-v2", *(f"    {line}" for line in lines), "```", ""])


def rewrite_state_diagram() -> None:
    """Write the diagram between the markers in docs/architecture.md."""
    before, _, after = _split(_text(ARCHITECTURE))
    ARCHITECTURE.write_text(before + BEGIN + state_diagram() + END + after, encoding="utf-8")


def _split(text: str) -> tuple[str, str, str]:
    before, begin, rest = text.partition(BEGIN)
    block, end, after = rest.partition(END)
    assert begin, f"docs/architecture.md must hold {BEGIN}"
    assert end, f"docs/architecture.md must hold {END}"
    return before, block, after


# The docs ---------------------------------------------------------------------------------------------------------


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _prose(page: Path) -> str:
    return _CODE.sub("", _text(page))


def _row(page: Path, name: str) -> str | None:
    """The table row whose first cell is this name."""
    return next((line for line in _text(page).splitlines() if line.startswith(f"| `{name}` |")), None)


def _has_row(page: Path, name: str) -> bool:
    return _row(page, name) is not None


def _mentions(page: Path, name: str) -> bool:
    return f"`{name}`" in _text(page)


def _section(page: Path, title: str) -> str:
    """The text under a heading of the second level."""
    _, heading, rest = _text(page).partition(f"\n## {title}\n")
    assert heading, f"{page.name} has no section {title}"
    return rest.partition("\n## ")[0]


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not target.exists():
        return False
    return not anchor or target.suffix != ".md" or anchor in _anchors(target)


def _anchors(page: Path) -> set[str]:
    """The anchors that a forge gives to headings."""
    without_blocks = re.sub(r"^```.*?^```$", "", _text(page), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", without_blocks, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _states_default(cell: str, name: str) -> bool:
    stated, field = cell.strip().replace("\\", ""), _field(Settings, name.split("."))
    if field.is_required():
        return stated == "required"
    if field.default is None or field.default in ((), frozenset(), {}, ""):
        return re.search(r"\d", stated) is None
    kind: Any = Annotated[field.annotation, *field.metadata, "any"]
    reader = TypeAdapter[Any](kind)
    default = reader.validate_python(field.default) if isinstance(field.default, str) else field.default
    return bool(reader.validate_python(stated) == default)


def _field(section: type[BaseModel], path: list[str]) -> FieldInfo:
    """The field of a setting, such as `crews.*.poll.per_run`."""
    field, rest = section.model_fields[path[0]], path[1:]
    return _field(_model_in(field.annotation), rest[1:] if rest[0] == "*" else rest) if rest else field


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for argument in get_args(annotation) if (model := _model_in(argument))), None)


# The code ---------------------------------------------------------------------------------------------------------


def _event_types() -> set[str]:
    """Final events, those named in the code, and those that a crew's setting `events` adds."""
    constants = [value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)]
    named = {value for value in constants if re.fullmatch(r"[a-z]+\.\w+", value)}
    on_demand = {f"run.{kind}" for kind in _literals(Crew.model_fields["events"].annotation)}
    return named | on_demand | {f"run.{state}" for state in FINAL_STATES}


def _literals(annotation: Any) -> Iterator[str]:
    for argument in get_args(annotation):
        if isinstance(argument, str):
            yield argument
        else:
            yield from _literals(argument)


def _verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    if not isinstance(command, TyperGroup):
        yield " ".join(path)
        return
    context = Context(command)
    for name in command.list_commands(context):
        yield from _verbs(command.get_command(context, name), (*path, name))


def _metrics() -> Iterator[tuple[str, list[str]]]:
    """Names as Prometheus shows them, with their labels."""
    for call in _calls():
        if call.name in _METRIC_KINDS:
            lists = [argument for argument in call.node.args if isinstance(argument, ast.List)]
            labels = [text for listed in lists for label in listed.elts if (text := _literal(label))]
            yield call.text + _METRIC_KINDS[call.name], labels


@cache
def _log_lines() -> Sequence[LogLine]:
    return list(_find_log_lines())


def _find_log_lines() -> Iterator[LogLine]:
    for path, tree in _trees():
        aliases = _log_aliases(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (_logs(node.func) or _name(node.func) in aliases):
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                fields = {keyword.arg for keyword in node.keywords if keyword.arg} - {"exc_info"}
                yield LogLine(where, list(_possible_texts(node.args[0], tree)) if node.args else [], fields)


def _logs(function: ast.AST) -> bool:
    """Whether this is a logger's method, such as `log.info`."""
    if not isinstance(function, ast.Attribute):
        return False
    logger, _, method = _name(function).rpartition(".")
    return method in _LOG_METHODS and logger.rpartition(".")[2] in _LOGGERS


def _log_aliases(tree: ast.Module) -> set[str]:
    """Variables that hold a logger's method, as in `write = log.warning if … else log.error`."""
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    branches = [(node, [node.value.body, node.value.orelse]) for node in assigned if isinstance(node.value, ast.IfExp)]
    values = [(node, [node.value]) for node in assigned] + branches
    return {_name(node.targets[0]) for node, found in values if any(map(_logs, found))}


def _possible_texts(node: ast.expr, tree: ast.Module) -> Iterator[str]:
    """The possible values of an expression: a text, one of two, or a variable set to one in the same file."""
    if (text := _literal(node)) is not None:
        yield text
    elif isinstance(node, ast.IfExp):
        yield from _possible_texts(node.body, tree)
        yield from _possible_texts(node.orelse, tree)
    elif isinstance(node, ast.Name):
        for other in ast.walk(tree):
            if isinstance(other, ast.Assign) and any(_name(target) == node.id for target in other.targets):
                yield from _possible_texts(other.value, tree)


@cache
def _calls() -> Sequence[Call]:
    return list(_find_calls())


def _find_calls() -> Iterator[Call]:
    for where, node in _call_nodes():
        text = _literal(node.args[0]) if node.args else None
        if text is not None:
            yield Call(_name(node.func), text, node, where)


def _call_nodes() -> Iterator[tuple[str, ast.Call]]:
    for path, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield str(path.relative_to(ROOT)), node


@cache
def _trees() -> Sequence[tuple[Path, ast.Module]]:
    """Every file of the bridge, parsed once."""
    return [(path, ast.parse(_text(path))) for path in sorted(ROOT.glob("bridge/**/*.py"))]


def _literal(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _name(node: ast.expr) -> str:
    """`a.b` for an expression of that form; for a longer one, its last names."""
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_every_test_that_guards_a_trap_exists() -> None:
    text = (ROOT / "docs" / "crew-api.md").read_text("utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ")]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", " ".join(row[-2] for row in rows))
    missing = [name for path, name in named if f"def {name}(" not in (ROOT / path).read_text("utf-8")]
    assert [row[1] for row in rows if row[1].strip().isdigit() and "::test_" not in row[-2]] == []
    assert [int(row[1]) for row in rows if row[1].strip().isdigit()] == list(range(1, 56))
    assert missing == []


if __name__ == "__main__":
    rewrite_state_diagram()
