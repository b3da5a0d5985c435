"""Fills a Mosquitto broker with something of each kind that its persistence file has, so that `moormq store import` can be tried on that.

fill.py PORT: the broker has `persistence true`, `allow_anonymous true`, `max_inflight_messages 3` and `queue_qos0_messages true`.
"""

import socket
import struct
import sys

PORT = int(sys.argv[1])


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(value)) + value


def number(value):
    out = b""
    while True:
        value, low = value >> 7, value & 0x7F
        out += bytes([low | (0x80 if value else 0)])
        if not value:
            return out


class Client:
    def __init__(self, client_id, version=4, clean=False, properties=b"", user=None, expect_session=None):
        self.socket = socket.create_connection(("127.0.0.1", PORT))
        self.version = version
        flags = (2 if clean else 0) | (0x80 if user else 0)
        body = text("MQTT") + bytes([version, flags]) + b"\0\0"
        if version == 5:
            body += number(len(properties)) + properties
        self.send(0x10, body + text(client_id) + (text(user) if user else b""))
        kind, body = self.receive()
        assert kind == 0x20 and body[1] == 0, body

    def send(self, first, body):
        self.socket.sendall(bytes([first]) + number(len(body)) + body)

    def read(self, length):
        out = b""
        while len(out) < length:
            more = self.socket.recv(length - len(out))
            assert more, "it closed"
            out += more
        return out

    def receive(self):
        first, length, shift = self.read(1)[0], 0, 0
        while True:
            byte = self.read(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return first, self.read(length)

    def until(self, kind):
        while True:
            first, body = self.receive()
            if first & 0xF0 == kind:
                return body

    def subscribe(self, filter, options, properties=b""):
        block = number(len(properties)) + properties if self.version == 5 else b""
        self.send(0x82, b"\0\1" + block + text(filter) + bytes([options]))
        return self.until(0x90)

    def publish(self, topic, payload, qos=1, packet_id=1, retain=False, properties=b"", release=True):
        block = number(len(properties)) + properties if self.version == 5 else b""
        head = text(topic) + (struct.pack(">H", packet_id) if qos else b"")
        self.send(0x30 | qos << 1 | retain, head + block + payload)
        if qos == 1:
            self.until(0x40)
        if qos == 2:
            self.until(0x50)
            if release:
                self.send(0x62, struct.pack(">H", packet_id))
                self.until(0x70)

    def leave(self):
        self.send(0xE0, b"")
        self.socket.close()


FOREVER = b"\x11\xff\xff\xff\xff"
YEARS = b"\x11" + struct.pack(">I", 0xFFFFFFF0)

plain = Client("plain", user="ann")
plain.subscribe("news/#", 1)
plain.subscribe("/leading/+", 2)
plain.subscribe("$SYS/broker/uptime", 0)
plain.leave()
five = Client("five", version=5, properties=YEARS)
five.subscribe("news/#", 2 | 4 | 8, properties=b"\x0b\x07")
five.subscribe("jobs", 1, properties=b"\x0b\x08")
five.subscribe("$share/group/shared/#", 1)
clean = Client("clean", clean=True)
clean.subscribe("news/#", 1)
ends = Client("ends", version=5)
ends.subscribe("news/#", 1)

publisher = Client("publisher", version=5, properties=FOREVER)
some = b"\x03" + text("text/plain") + b"\x26" + text("k") + text("v") + b"\x01\x01" + b"\x08" + text("answers") + b"\x09" + text(b"\0\1")
publisher.publish("news/1", b"first", qos=1, properties=some)
publisher.publish("news/2", b"second", qos=2, packet_id=2)
publisher.publish("news/3", b"third", qos=2, packet_id=3)
publisher.publish("news/4", b"fourth", qos=1, packet_id=4, properties=b"\x02" + struct.pack(">I", 0xFFFFFFF0))
publisher.publish("news/5", b"of QoS 0", qos=0)
publisher.publish("/leading/x", b"with a slash", qos=2, packet_id=5)
publisher.publish("shared/1", b"for the group", qos=1, packet_id=6)
# Of the three in flight to `five`: the first unacknowledged, the second received, the third acknowledged: the fourth follows.
seen = {}
while len(seen) < 3:
    body = five.until(0x30)
    length = struct.unpack(">H", body[:2])[0]
    seen[body[2 : 2 + length].decode()] = body[2 + length : 4 + length]
five.send(0x50, seen["news/2"])
five.until(0x60)
publisher.publish("kept/1", b"kept", qos=1, packet_id=7, retain=True, properties=some)
publisher.publish("kept/2", b"", qos=1, packet_id=8, retain=True)
publisher.publish("kept/binary", bytes(range(256)), qos=0, retain=True)
publisher.publish("kept/expires", b"in a century", qos=1, packet_id=9, retain=True, properties=b"\x02" + struct.pack(">I", 0xFFFFFFF0))
# Taken, and never released: Mosquitto publishes it with PUBREL only.
publisher.publish("news/6", b"not released", qos=2, packet_id=77, release=False)
# What came for it is looked at by those who start again only.
for client in (publisher, five):
    client.send(0xC0, b"")
    client.until(0xD0)
print("filled")
