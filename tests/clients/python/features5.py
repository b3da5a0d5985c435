"""What MQTT 5.0 adds, with paho; above all what rumqttc cannot send or receive."""

from paho.mqtt.client import SubscribeOptions
from paho.mqtt.packettypes import PacketTypes

from client import Client, expect, fail, properties

FOR_AN_HOUR = 3600
EXAMPLE = {
    "PayloadFormatIndicator": 1,
    "ContentType": "text/plain",
    "ResponseTopic": "answer/to",
    "CorrelationData": b"\x00\xff",
    "UserProperty": [("b", "1"), ("a", "2"), ("b", "3")],
}


def properties_are_forwarded():
    client = Client("client")
    client.subscribe("topic", 2)
    for qos in (0, 1, 2):
        client.publish("topic", "hello", qos, **EXAMPLE)
        received = client.message().properties
        for name, value in EXAMPLE.items():
            expect(getattr(received, name), value, name)
    client.publish("topic", "hello", 1, MessageExpiryInterval=FOR_AN_HOUR)
    left = client.message().properties.MessageExpiryInterval
    expect(0 < left <= FOR_AN_HOUR, True, f"{left} seconds left")
    client.disconnect()


def subscription_identifiers_and_options():
    client, other = Client("client"), Client("other")
    for topic, identifier in (("id/#", 1), ("id/+", 200)):
        props = properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=identifier)
        client.subscribe(topic, options=SubscribeOptions(qos=1), properties=props)
    client.publish("id/x", "", 1)
    expect(sorted(client.message().properties.SubscriptionIdentifier), [1, 200], "both identifiers, one message")
    client.subscribe("room", options=SubscribeOptions(qos=1, noLocal=True))
    client.publish("room", "my own", 1)
    other.publish("room", "another one's", 1)
    expect(client.text(), "another one's", "no local")
    client.disconnect()
    other.disconnect()


def aliases():
    publisher = Client("publisher")
    subscriber = Client("subscriber", connect={"TopicAliasMaximum": 1})
    subscriber.subscribe("aliased/topic", 1)
    publisher.publish("aliased/topic", "1", 1, TopicAlias=7)
    publisher.publish("", "2", 1, TopicAlias=7)
    expect([subscriber.text(), subscriber.text()], ["1", "2"], "messages by alias")
    most = publisher.connack.TopicAliasMaximum
    publisher.mqtt.publish("aliased/topic", "", 1, False, properties(PacketTypes.PUBLISH, TopicAlias=most + 1))
    expect(publisher.disconnected(), 0x94, "an alias that is too large")
    publisher = Client("publisher")
    publisher.mqtt.publish("", "", 1, False, properties(PacketTypes.PUBLISH, TopicAlias=3))
    code = publisher.disconnected()
    expect(code in (0x82, 0x94), True, f"an alias that stands for nothing: {code:#x}")
    subscriber.disconnect()


def assigned_client_id():
    client = Client("")
    if not client.connack.AssignedClientIdentifier:
        fail("there is no assigned id in CONNACK")
    client.disconnect()


def reason_codes():
    client = Client("client")
    expect(client.unsubscribe("nothing"), 0x11, "no subscription existed")
    client.subscribe("something", 1)
    expect(client.unsubscribe("something"), 0, "success")
    expect(client.publish("$SYS/faked", "", 1), 0x87, "not authorised")
    # paho does not look at the code in PUBREC, and releases what the broker does not know.
    expect(client.publish("$SYS/faked", "", 2), 0x92, "packet identifier not found")
    client.mqtt.publish("too/large", b"x" * (1 << 23), 1)
    expect(client.disconnected(), 0x95, "packet too large")


def sessions_last_as_long_as_they_are_told_to():
    Client("id", keep=FOR_AN_HOUR).disconnect()
    again = Client("id", keep=FOR_AN_HOUR)
    expect(again.session_present, True, "it was kept")
    again.disconnect(SessionExpiryInterval=0)
    once_more = Client("id", keep=0)
    expect(once_more.session_present, False, "DISCONNECT has ended it")
    # From 0 it cannot be raised.
    once_more.mqtt.disconnect(properties=properties(PacketTypes.DISCONNECT, SessionExpiryInterval=10))
    once_more.disconnected()
    last = Client("id", keep=FOR_AN_HOUR)
    expect(last.session_present, False, "it was not kept")
    last.disconnect(SessionExpiryInterval=0)


def a_goodbye_with_will():
    watcher = Client("watcher")
    watcher.subscribe("will", 1)
    Client("id", will={"topic": "will", "payload": "published", "qos": 1}).disconnect(code=0x04)
    expect(watcher.text(), "published", "the will")
    watcher.disconnect()


def receive_maximum():
    client = Client("client", connect={"ReceiveMaximum": 1})
    expect(client.connack.ReceiveMaximum > 0, True, "the broker's own")
    client.subscribe("window", 2)
    other = Client("other")
    for number in range(50):
        other.mqtt.publish("window", str(number), 1 + number % 2)
    expect([client.text() for _ in range(50)], [str(number) for number in range(50)], "one after the other")
    client.disconnect()
    other.disconnect()


properties_are_forwarded()
subscription_identifiers_and_options()
aliases()
assigned_client_id()
reason_codes()
sessions_last_as_long_as_they_are_told_to()
a_goodbye_with_will()
receive_maximum()
