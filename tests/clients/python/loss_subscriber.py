"""Subscribes to loss/# at QoS 2 through connections that break; prints a line for each message, until loss/end.

Arguments: port, version, name. Prints "ready" when it is subscribed.
"""

import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes

from client import PORT, VERSION, properties

NAME = sys.argv[3]

clean = None if VERSION == 5 else False
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, NAME, clean_session=clean, protocol=VERSION)
client.reconnect_delay_set(min_delay=0, max_delay=0)


def on_connect(_client, _userdata, flags, _code, _properties):
    if not flags.session_present and not client.subscribed:
        client.subscribe("loss/#", 2)


def on_subscribe(*_):
    client.subscribed = True
    print("ready", flush=True)


def on_message(_client, _userdata, message):
    print(message.topic, message.payload.decode(), flush=True)
    if message.topic == "loss/end":
        client.disconnect()


client.subscribed = False
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
options = {}
if VERSION == 5:
    props = properties(PacketTypes.CONNECT, SessionExpiryInterval=3600)
    options = {"clean_start": False, "properties": props}
client.connect("127.0.0.1", PORT, keepalive=600, **options)
client.loop_forever()
