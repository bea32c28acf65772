"""Dead letters are listed and replayed by the real commands against a real broker, whatever they contain."""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from aio_pika import DeliveryMode, Message
from typer.testing import CliRunner

from bridge.adapters.amqp import dead_letters
from bridge.adapters.amqp.connection import HEARTBEAT, LinkOptions
from bridge.adapters.amqp.dead_letters import open_dead_queue
from bridge.adapters.amqp.publisher import AmqpPublisher
from bridge.adapters.amqp.topology import Topology, ensure_inbound
from bridge.adapters.amqp.values import ExactMessage
from bridge.cli import app
from bridge.cli._errors import CommandFailed
from bridge.core.delivery.events import dead_letter
from bridge.core.delivery.model import Channel, Delivery, Destination
from bridge.observability import logging
from tests.amqp_client import Client, client_of, eventually, running
from tests.broker import UNREACHABLE, Broker
from tests.raw_frames import POISON, publish_raw


class DeadLetterCommands:
    """`kickoff-bridge dead …`, in a thread or in a process of its own."""

    def __init__(self, folder: Path, url: str, topology: Topology) -> None:
        amqp = {"url": url, "requests": topology.requests, "results": topology.results, "dead": topology.dead}
        crews = {"research": {"url": "http://127.0.0.1:9", "token": "t"}}
        self._file = folder / "bridge.yaml"
        self._file.write_text(yaml.safe_dump({"amqp": amqp, "crews": crews}))

    async def run(self, *args: str) -> tuple[int, str, str]:
        command = ["dead", *args, "--config", str(self._file)]
        result = await asyncio.to_thread(CliRunner().invoke, app, command)
        failed = result.exception if isinstance(result.exception, CommandFailed) else None
        return failed.code if failed else result.exit_code, result.stdout, str(failed or result.stderr)

    async def run_process(self, *args: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bridge",
            "dead",
            *args,
            "--config",
            str(self._file),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def json(self, *args: str) -> Any:
        code, out, err = await self.run(*args, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
async def commands(
    tmp_path: Path, broker: Broker, client: Client, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> DeadLetterCommands:
    monkeypatch.setattr(logging, "configure", lambda *_, **__: None)  # for the whole process
    await ensure_inbound(client.channel, topology)
    return DeadLetterCommands(tmp_path, broker.url, topology)


@pytest.fixture
async def letters(link: LinkOptions, topology: Topology, commands: DeadLetterCommands) -> Sequence[str]:
    """Three refused messages in the dead-letter queue, as the bridge puts them there."""
    publisher = AmqpPublisher(link, topology)
    async with running(publisher):
        await eventually(lambda: publisher.ready)
        for number in range(3):
            headers: dict[str, str | int | float | bool] = {
                "tenant": "a",
                "x-share": 0.5,
                "x-bridge-reason": "unknown_crew",
                "x-bridge-detail": "no crew named research is configured; check the name",
                "x-bridge-original-message_id": f"order-{number}",
                "x-bridge-original-correlation_id": "c",
                "x-bridge-original-routing_key": "research",
            }
            event = dead_letter(f"event-{number}", b'{"inputs": {}}', "application/json", headers, 1_795_000_000.0)
            await publisher.send(Delivery("d", event, Destination(Channel.DEAD_LETTER, topology.dead)))
    return [f"order-{number}" for number in range(3)]


async def test_listing_changes_nothing(
    commands: DeadLetterCommands, letters: Sequence[str], client: Client, topology: Topology
):
    """Listed in order, and still there in the same order for the next command.

    Listing only some may leave these behind the others; this is how the broker requeues messages.
    """
    for _ in range(2):
        found = (await commands.json("list"))["messages"]
        assert [message["id"] for message in found] == letters
    assert (found[0]["reason"], found[0]["time"]) == ("unknown_crew", "2026-11-18T11:06:40.000Z")
    shown = await commands.json("show", "order-1")
    assert (shown["detail"], shown["body"]) == (
        "no crew named research is configured; check the name",
        '{"inputs": {}}',
    )
    _, out, _ = await commands.run("list", "--limit", "1")
    assert len([line for line in out.splitlines() if "order-" in line]) == 1
    await client.until_count(topology.dead, 3)


async def test_one_message_is_replayed_unchanged(
    commands: DeadLetterCommands, letters: Sequence[str], client: Client, topology: Topology
):
    """With its own routing key and properties, and without any added header."""
    assert await commands.json("replay", letters[1]) == {"replayed": ["order-1"]}
    sent = (await client.receive(topology.requests))[0]
    assert (sent.exchange, sent.routing_key) == (topology.requests, "research")
    assert (sent.message_id, sent.correlation_id, sent.content_type) == ("order-1", "c", "application/json")
    assert (sent.body, sent.delivery_mode) == (b'{"inputs": {}}', DeliveryMode.PERSISTENT)
    assert {name for name in sent.headers if name != "x-delivery-count"} == {"tenant", "x-share"}
    await client.until_count(topology.dead, 2)


async def test_all_messages_are_replayed_once(
    commands: DeadLetterCommands, letters: Sequence[str], client: Client, topology: Topology
):
    """A copy left by a crash is not sent a second time; another message with the same id is."""
    queue = client.channel.default_exchange
    copy = Message(b'{"inputs": {}}', message_id="order-0", headers={"x-bridge-original-routing_key": "research"})
    await queue.publish(copy, topology.dead)
    await queue.publish(Message(b"other", message_id="order-0"), topology.dead)
    assert await commands.json("replay", "--all") == {"replayed": [*letters, "order-0"]}
    assert [message.body for message in await client.receive(topology.requests, 4)][3] == b"other"
    await client.until_count(topology.requests, 0)
    await client.until_count(topology.dead, 0)


async def test_dropped_messages_are_removed_and_the_others_stay(
    commands: DeadLetterCommands, letters: Sequence[str], client: Client, topology: Topology
):
    assert await commands.json("drop", letters[1]) == {"dropped": [letters[1]]}
    await client.until_count(topology.dead, 2)
    assert await commands.json("drop", "--all") == {"dropped": [letters[0], letters[2]]}
    await client.until_count(topology.dead, 0)
    await client.until_count(topology.requests, 0)


async def test_messages_dead_lettered_by_the_broker_are_replayed(
    commands: DeadLetterCommands, client: Client, topology: Topology
):
    """It has no header of the bridge.

    That of the broker names its origin, and a key is computed that stays the same.
    """
    await client.send({"inputs": {}}, "research", exchange=topology.requests)
    queue = await client.channel.get_queue(topology.requests, ensure=False)
    message = await queue.get()
    assert message is not None
    await message.reject(requeue=False)
    await client.until_count(topology.dead, 1)
    (listed,) = (await commands.json("list"))["messages"]
    assert (listed["reason"], listed["x_death"][0]["queue"]) == ("rejected", topology.requests)
    assert await commands.json("replay", listed["id"]) == {"replayed": [listed["id"]]}
    sent = (await client.receive(topology.requests))[0]
    assert (sent.routing_key, sent.message_id) == ("research", listed["id"])
    assert "x-death" not in sent.headers


async def test_messages_of_a_source_dead_lettered_by_the_broker_return_to_its_queue(
    broker: Broker, client: Client, topology: Topology
):
    orders = f"{topology.requests}-orders"
    queue = await ensure_inbound(client.channel, topology.for_source(orders, ()))
    await client.send({"order": 7}, orders, message_id="m-7")
    message = await queue.get()
    assert message is not None
    await message.reject(requeue=False)
    await client.until_count(topology.dead, 1)
    async with open_dead_queue([broker.url], replace(topology, sources=frozenset({orders}))) as dead:
        assert (await dead.replay(None)).sent == ["m-7"]
    assert (await client.receive(orders))[0].message_id == "m-7"


async def test_a_message_of_a_source_that_is_no_longer_configured_stays(
    commands: DeadLetterCommands, client: Client, topology: Topology
):
    """As a request, it would mean something else; and a header must not lead to any queue."""
    headers: dict[str, Any] = {"x-bridge-original-queue": topology.requests}
    await client.channel.default_exchange.publish(Message(b"{}", message_id="m-7", headers=headers), topology.dead)
    code, _, err = await commands.run("replay", "--all")
    assert code == 69
    assert "m-7: not sent back: the source whose queue it came from is no longer configured" in err
    await client.until_count(topology.dead, 1)


async def test_unreadable_messages_are_listed_and_replayed(
    commands: DeadLetterCommands, broker: Broker, client: Client, topology: Topology
):
    """The broker dead-lettered them after they broke the consumer: the library would fail in the command as well."""
    async with client_of(broker.url, topology) as other:
        for properties in POISON.values():
            await publish_raw(other.channel, properties, key=topology.dead.encode())
        await client.until_count(topology.dead, len(POISON))
    found = (await commands.json("list"))["messages"]
    assert len(found) == len(POISON)
    assert all(message["detail"] for message in found)
    await commands.json("replay", "--all")
    await client.until_count(topology.dead, 0)
    assert await client.count(topology.requests) > 0
    await client.receive(topology.requests)


async def test_a_silent_broker_is_noticed_whatever_the_url_contains(broker: Broker, client: Client, topology: Topology):
    """Without a heartbeat the command would wait forever."""
    await ensure_inbound(client.channel, topology)
    async with open_dead_queue([f"{broker.url}?heartbeat=0"], topology):
        listed = await asyncio.to_thread(broker.ctl, "list_connections", "timeout")
    assert str(HEARTBEAT) in listed.split()
    assert "0" not in listed.split()


@pytest.mark.usefixtures("letters")
async def test_wrong_usage_is_reported(commands: DeadLetterCommands):
    for args in (("replay",), ("replay", "order-1", "--all"), ("show", "nobody"), ("replay", "nobody")):
        code, _, err = await commands.run(*args)
        assert (code, "Traceback" in err) == (64, False), (args, err)


async def test_an_unreachable_broker_is_reported(tmp_path: Path):
    code, _, err = await DeadLetterCommands(tmp_path, "amqp://guest:s3cret-pw@127.0.0.1:9/", Topology()).run_process(
        "list"
    )
    assert (code, "Traceback" in err, "s3cret-pw" in err) == (69, False, False)


async def test_a_message_that_cannot_be_replayed_is_reported_and_skipped(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, letters: Sequence[str], client: Client, topology: Topology
):
    """`dead replay --all` exited with 70 at the first such message, and skipped all that followed."""

    def poisoned(body: bytes, **properties: Any) -> Message:
        if properties["message_id"] == letters[1]:
            raise OverflowError("float too large to pack with f format")
        return ExactMessage(body, **properties)

    monkeypatch.setattr(dead_letters, "ExactMessage", poisoned)
    async with open_dead_queue([UNREACHABLE, broker.url], topology) as queue:
        replayed = await queue.replay(None)
    assert replayed.sent == [letters[0], letters[2]]
    assert replayed.failed == {letters[1]: "a header or property cannot be encoded; send its body as a new message"}
    await client.until_count(topology.requests, 2)
    await client.until_count(topology.dead, 1)


async def test_headers_of_every_type_are_replayed_unchanged(
    commands: DeadLetterCommands, client: Client, topology: Topology
):
    """Doubles became singles; a value too large for a single could not be replayed at all."""
    headers: dict[str, Any] = {"x-ratio": 1e300, "share": 0.1, "deep": {"doubles": [0.1, None]}}
    message = ExactMessage(b"{", headers=headers, message_id="order-1")
    await client.channel.default_exchange.publish(message, topology.dead)
    assert await commands.json("replay", "--all") == {"replayed": ["order-1"]}
    sent = (await client.receive(topology.requests))[0]
    assert {name: value for name, value in sent.headers.items() if name in headers} == headers
