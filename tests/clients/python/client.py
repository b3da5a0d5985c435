"""paho-mqtt with waits: a scenario states what it expects, and ends with a clear message if it does not come.

A scenario is a script with two arguments, the port of the broker and the version of MQTT (3 is 3.1, 4 is 3.1.1, 5 is
5.0). It ends with exit status 0 if everything was as expected.
"""

import queue
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

DEADLINE = 120
"""Seconds that anything may take that has to happen."""

PORT = int(sys.argv[1])
VERSION = int(sys.argv[2])


def fail(text):
    """Ends the script."""
    sys.exit(f"FAILED: {text}")


def expect(actual, expected, what):
    """Ends the script unless the two are equal."""
    if actual != expected:
        fail(f"{what}: expected {expected!r}, got {actual!r}")


def properties(packet, **values):
    """Properties of a packet, by paho's names; None if there are none."""
    if not values:
        return None
    made = Properties(packet)
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Client:
    """A connected client. Whatever happens to it becomes an event, and is waited for by name."""

    def __init__(self, client_id, *, keep=None, version=VERSION, will=None, connect=None, refused=False, window=None):
        """keep: whether the session outlives the connection, and for how many seconds (None: it does not)."""
        self.events = queue.Queue()
        self.waiting = []
        kept = keep is not None
        clean = None if version == 5 else not kept
        api = mqtt.CallbackAPIVersion.VERSION2
        self.mqtt = mqtt.Client(api, client_id, clean_session=clean, protocol=version, reconnect_on_failure=False)
        self.mqtt.on_connect = lambda _c, _u, flags, code, props: self.put("connected", (flags, code, props))
        self.mqtt.on_disconnect = lambda _c, _u, _f, code, _p: self.put("disconnected", code)
        self.mqtt.on_subscribe = lambda _c, _u, _m, codes, _p: self.put("subscribed", codes)
        self.mqtt.on_unsubscribe = lambda _c, _u, _m, codes, _p: self.put("unsubscribed", codes)
        self.mqtt.on_publish = lambda _c, _u, _m, code, _p: self.put("published", code)
        self.mqtt.on_message = lambda _c, _u, message: self.put("message", message)
        self.mqtt.max_inflight_messages_set(window or 20)
        if will:
            self.mqtt.will_set(**will)
        options = {}
        if version == 5:
            values = dict(connect or {})
            if kept:
                values["SessionExpiryInterval"] = keep
            options = {"clean_start": not kept, "properties": properties(PacketTypes.CONNECT, **values)}
        self.mqtt.connect("127.0.0.1", PORT, keepalive=600, **options)
        self.mqtt.loop_start()
        flags, code, self.connack = self.wait("connected")
        self.session_present = flags.session_present
        self.code = code
        if code.is_failure and not refused:
            fail(f"{client_id!r} is refused: {code}")

    def put(self, kind, value):
        """Called by paho's thread."""
        self.events.put((kind, value))

    def wait(self, kind):
        """Waits for the next event of a kind; the others are kept."""
        for index, (waiting, value) in enumerate(self.waiting):
            if waiting == kind:
                del self.waiting[index]
                return value
        end = time.monotonic() + DEADLINE
        while True:
            try:
                happened, value = self.events.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                fail(f"waited for {kind!r} in vain; there was {self.waiting}")
            if happened == kind:
                return value
            self.waiting.append((happened, value))

    def subscribe(self, topic, qos=0, **options):
        """Subscribes; returns the reason code as a number."""
        self.mqtt.subscribe(topic, qos, **options)
        return self.wait("subscribed")[0].value

    def unsubscribe(self, topic):
        """Unsubscribes; returns the reason code as a number, if there is one."""
        self.mqtt.unsubscribe(topic)
        codes = self.wait("unsubscribed")
        return codes[0].value if codes else 0

    def publish(self, topic, payload="", qos=0, retain=False, **values):
        """Publishes and waits for the acknowledgement; returns its reason code as a number."""
        self.mqtt.publish(topic, payload, qos, retain, properties(PacketTypes.PUBLISH, **values))
        return self.wait("published").value

    def message(self):
        """Waits for the next message."""
        return self.wait("message")

    def text(self):
        """Waits for the next message, of which only the payload matters."""
        return self.message().payload.decode()

    def disconnected(self):
        """Waits for the end of the connection; returns the reason code as a number."""
        return self.wait("disconnected").value

    def disconnect(self, code=None, **values):
        """Sends DISCONNECT."""
        if code is not None or values:
            props = properties(PacketTypes.DISCONNECT, **values)
            reason = mqtt.ReasonCode(PacketTypes.DISCONNECT, identifier=code or 0)
            self.mqtt.disconnect(reason, props)
        else:
            self.mqtt.disconnect()
        self.disconnected()
        self.mqtt.loop_stop()

    def cut(self):
        """Closes the connection without a word."""
        self.mqtt.loop_stop()
        self.mqtt.socket().close()
