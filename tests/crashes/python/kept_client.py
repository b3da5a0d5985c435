"""A client of paho whose session is kept, and that connects again whenever its connection breaks."""

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def make(version, name):
    """One that is not connected. Version 4 is MQTT 3.1.1."""
    clean = None if version == 5 else False
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, clean_session=clean, protocol=version)
    client.reconnect_delay_set(min_delay=0.05, max_delay=0.05)
    return client


def connect(client, version, port):
    """Has it connect as soon as its loop runs."""
    options = {}
    if version == 5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 86400
        options = {"clean_start": False, "properties": properties}
    client.connect_async("127.0.0.1", port, keepalive=600, **options)
