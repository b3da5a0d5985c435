"""Subscribes at QoS 2 through connections that break, and says what it gets.

Arguments: port, version (4 is MQTT 3.1.1), client id, filter. It says "ready" when it has subscribed, and "got PAYLOAD TOPIC" of each message, the
payload in hexadecimal digits.
"""

import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PORT, VERSION, NAME, FILTER = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]

clean = None if VERSION == 5 else False
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, NAME, clean_session=clean, protocol=VERSION)
client.reconnect_delay_set(min_delay=0.05, max_delay=0.05)


def on_connect(_client, _userdata, flags, _code, _properties):
    if client.subscribed and not flags.session_present:
        print("lost its session", flush=True)
    if not client.subscribed:
        client.subscribe(FILTER, 2)


def on_subscribe(*_):
    client.subscribed = True
    print("ready", flush=True)


def on_message(_client, _userdata, message):
    print("got", message.payload.hex(), message.topic, flush=True)


client.subscribed = False
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
options = {}
if VERSION == 5:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 86400
    options = {"clean_start": False, "properties": properties}
client.connect_async("127.0.0.1", PORT, keepalive=600, **options)
client.loop_forever(retry_first_connection=True)
