"""Frames for a channel that the broker has closed are not sent: the broker would close the connection."""

from typing import Any

from pamqp import commands as spec
from pamqp.frame import marshal

from bridge.adapters.amqp.frames import OpenChannelsWriter


class Socket:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.transport = "t"

    def write(self, data: bytes) -> None:
        self.written.append(data)


def test_no_frame_is_sent_between_the_close_of_a_channel_and_its_next_open():
    socket: Any = Socket()
    writer = OpenChannelsWriter(socket)
    publish, other = (marshal(spec.Basic.Publish(routing_key="q"), number) for number in (1, 2))
    closed, opened = marshal(spec.Channel.CloseOk(), 1), marshal(spec.Channel.Open(), 1)
    for data in (b"AMQP\x00\x00\x09\x01", publish, closed, publish, other, opened, publish):
        writer.write(data)
    assert socket.written == [b"AMQP\x00\x00\x09\x01", publish, closed, other, opened, publish]
    assert writer.transport == "t"
