"""Subscribes at QoS 2 through connections that break, and says what it gets.

Arguments: port, version (4 is MQTT 3.1.1), client id, filter. It says "ready" when it has subscribed, and "got PAYLOAD TOPIC" of each message, the
payload in hexadecimal digits.
"""

import sys

import kept_client

PORT, VERSION, NAME, FILTER = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]

client = kept_client.make(VERSION, NAME)


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
kept_client.connect(client, VERSION, PORT)
client.loop_forever(retry_first_connection=True)
