"""The settings of RabbitMQ: the nodes, the names of exchanges and queues, and sources."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic import field_validator as rule

from bridge.config import urls
from bridge.config.hooks import Mapped
from bridge.config.tls import BROKER_FILES, check_url_files
from bridge.config.types import (
    AS_LIST,
    AS_URLS,
    DAY,
    MIB,
    AmqpName,
    BindingKey,
    Bytes,
    Count,
    Seconds,
    SecretAmqpUrl,
    Section,
    Text,
    none_word,
)
from bridge.core.delivery.routing import check_template


class Bind(Section):
    """A binding of the requests queue, or of a source's queue, to another exchange."""

    exchange: AmqpName
    key: BindingKey = "#"


class Amqp(Section):
    """RabbitMQ and the names there: `requests` is an exchange and a queue, `results` an exchange, `dead` a queue."""

    url: Annotated[tuple[SecretAmqpUrl, ...], AS_URLS, Field(min_length=1)] = (
        SecretStr("amqp://guest:guest@127.0.0.1:5672/"),
    )
    """The nodes of one cluster, tried in this order."""
    requests: AmqpName = "kickoff.requests"
    results: Annotated[AmqpName | None, BeforeValidator(none_word)] = "kickoff.results"
    """None: events go only to reply queues and callbacks."""
    bind: Annotated[tuple[Bind, ...], AS_LIST] = ()
    routing_key: Annotated[str, AfterValidator(check_template)] = "{crew}.{event}"
    unroutable_after: Seconds = 7 * DAY
    dead: AmqpName = "kickoff.dead"
    prefetch: Annotated[Count, Field(le=65535)] = 50
    max_message: Bytes = MIB
    reply_to: Annotated[tuple[Text, ...], AS_LIST] = ("amq.gen-*", "amq.rabbitmq.reply-to.*", "reply.*")
    """Glob patterns of the reply queues that a message may name."""
    declare: bool = True
    event_mode: Literal["structured", "binary"] = "structured"

    @property
    def location(self) -> str:
        """`host:port/vhost` of each node, without secrets."""
        return ", ".join(urls.amqp_location(url.get_secret_value()) for url in self.url)

    @rule("url")
    @classmethod
    def _certificates_are_usable(cls, url: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for one in url:
            check_url_files(urls.url_options(one.get_secret_value()), BROKER_FILES)
        return url

    @rule("results", "dead")
    @classmethod
    def _names_are_unique(cls, name: str | None, info: ValidationInfo) -> str | None:
        """Reject equal names, with which every result would return as a request."""
        if name is not None and name in (info.data.get("requests"), info.data.get("results")):
            raise ValueError("must differ from the other names of queues and exchanges")
        return name


class Source(Mapped):
    """Messages of another system on a separate queue; the expressions of its rule can also use the properties."""

    queue: AmqpName
    bind: Annotated[tuple[Bind, ...], AS_LIST] = ()
