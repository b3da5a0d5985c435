"""Publishes what it is told to, through connections that break, and says what was acknowledged.

Arguments: port, version (4 is MQTT 3.1.1), client id, number of the publisher. A line on standard input is a message: its number, QoS, topic, and
the length of its payload, which begins with the number of the publisher, that of the message, and a QoS. It says "acked NUMBER".
"""

import queue
import struct
import sys
import threading
import time

import kept_client

PORT, VERSION, NAME, INDEX = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])

MAY_COME_LATE = 0x80
"""The mark of a message that is sent again in the order that the client likes."""
MAY_COME_TWICE = 1
"""The QoS that a payload names: if it cannot connect again at once, paho 2.1 forgets that PUBREC has come, and publishes once more."""

client = kept_client.make(VERSION, NAME)
client.max_queued_messages_set(0)
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
kept_client.connect(client, VERSION, PORT)
client.loop_start()
for line in sys.stdin:
    number, qos, topic, length = line.split()
    number, qos = int(number), int(qos)
    payload = struct.pack(">HIB", INDEX, number, MAY_COME_TWICE | MAY_COME_LATE)
    payload += bytes([number & 0xFF]) * (int(length) - len(payload))
    numbers[client.publish(topic, payload, qos).mid] = number
