"""Publishes what it is told to, through connections that break, and says what was acknowledged.

Arguments: port, version (4 is MQTT 3.1.1), client id, number of the publisher. A line on standard input is a message: its number, QoS, topic, and
the length of its payload, which begins with the number of the publisher, that of the message, and a QoS. It says "acked NUMBER".
"""

import queue
import struct
import sys
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PORT, VERSION, NAME, INDEX = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])

MAY_COME_LATE = 0x80
"""The mark of a message that is sent again in the order that the client likes."""
MAY_COME_TWICE = 1
"""The QoS that a payload names: if it cannot connect again at once, paho 2.1 forgets that PUBREC has come, and publishes once more."""

clean = None if VERSION == 5 else False
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, NAME, clean_session=clean, protocol=VERSION)
client.max_queued_messages_set(0)
client.reconnect_delay_set(min_delay=0.05, max_delay=0.05)
numbers = {}
acknowledged = queue.SimpleQueue()


def say():
    """In a thread of its own, since paho holds a lock while it calls."""
    while True:
        packet_id = acknowledged.get()
        while packet_id not in numbers:
            # The call that has published it has not returned yet.
            time.sleep(0.001)
        print("acked", numbers.pop(packet_id), flush=True)


threading.Thread(target=say, daemon=True).start()
client.on_publish = lambda _client, _userdata, packet_id, _code, _properties: acknowledged.put(packet_id)
options = {}
if VERSION == 5:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 86400
    options = {"clean_start": False, "properties": properties}
client.connect_async("127.0.0.1", PORT, keepalive=600, **options)
client.loop_start()
for line in sys.stdin:
    number, qos, topic, length = line.split()
    number, qos = int(number), int(qos)
    payload = struct.pack(">HIB", INDEX, number, MAY_COME_TWICE | MAY_COME_LATE)
    payload += bytes([number & 0xFF]) * (int(length) - len(payload))
    numbers[client.publish(topic, payload, qos).mid] = number
