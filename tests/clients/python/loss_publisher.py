"""Publishes numbers at QoS 1 and 2 through connections that break; ends when the broker has taken over all of them.

Arguments: port, version, name, count. Number n goes to loss/NAME/1 and loss/NAME/2.
"""

import itertools
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes

from client import PORT, VERSION, properties

NAME, COUNT = sys.argv[3], int(sys.argv[4])

WINDOW = 20
"""Messages under way. paho sends all of them again on each connection, before it reads: more would not get through."""

clean = None if VERSION == 5 else False
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, NAME, clean_session=clean, protocol=VERSION)
client.max_queued_messages_set(0)
client.reconnect_delay_set(min_delay=0, max_delay=0)
messages = ((f"loss/{NAME}/{qos}", str(number), qos) for number in range(COUNT) for qos in (1, 2))
left = 2 * COUNT


def publish_next():
    for message in itertools.islice(messages, 1):
        client.publish(*message)


def on_publish(*_):
    global left
    left -= 1
    if left == 0:
        client.disconnect()
    publish_next()


client.on_publish = on_publish
options = {}
if VERSION == 5:
    props = properties(PacketTypes.CONNECT, SessionExpiryInterval=3600)
    options = {"clean_start": False, "properties": props}
client.connect_async("127.0.0.1", PORT, keepalive=600, **options)
for _ in range(WINDOW):
    publish_next()
client.loop_forever(retry_first_connection=True)
sys.exit(f"FAILED: {left} messages were not acknowledged" if left else 0)
