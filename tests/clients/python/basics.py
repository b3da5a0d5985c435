"""Messages, retained messages and wildcards, for every version."""

from client import Client, expect

LARGE = 1_000_000
"""Bytes that just fit below the broker's limit of 1 MiB for a packet."""


def every_qos():
    publisher = Client("publisher")
    for granted in (0, 1, 2):
        subscriber = Client(f"subscriber-{granted}")
        expect(subscriber.subscribe("some/topic", granted), granted, "granted QoS")
        for published in (0, 1, 2):
            publisher.publish("some/topic", "hello", published)
            message = subscriber.message()
            expect((message.topic, message.payload), ("some/topic", b"hello"), "the message")
            expect(message.qos, min(published, granted), f"QoS of {published} for {granted}")
        subscriber.disconnect()
    publisher.disconnect()


def wildcards():
    client = Client("client")
    for topic in ("a/+/c", "#", "b/#"):
        client.subscribe(topic, 1)
        client.publish("a/b/c", topic, 1)
        client.publish("b/b/c", topic, 1)
        expected = {"a/+/c": ["a/b/c"], "#": ["a/b/c", "b/b/c"], "b/#": ["b/b/c"]}[topic]
        expect([client.message().topic for _ in expected], expected, f"what matches {topic}")
        client.unsubscribe(topic)
    client.disconnect()


def retained():
    client = Client("client")
    client.publish("kept/1", "one", 1, True)
    client.publish("kept/2", "two", 2, True)
    client.subscribe("kept/#", 2)
    messages = sorted((client.message() for _ in range(2)), key=lambda message: message.topic)
    expect([message.payload for message in messages], [b"one", b"two"], "retained messages")
    expect([message.retain for message in messages], [True, True], "they are marked")
    client.publish("kept/1", "", 1, True)
    expect(client.message().retain, False, "clearing is a message like any other for a subscriber")
    late = Client("late")
    late.subscribe("kept/#", 1)
    expect(late.text(), "two", "what is left")
    client.publish("kept/2", "", 1, True)
    late.disconnect()
    client.disconnect()


def large_payloads():
    client = Client("client")
    client.subscribe("large", 2)
    payload = bytes(range(256)) * (LARGE // 256)
    for qos in (0, 1, 2):
        client.publish("large", payload, qos)
        expect(client.message().payload == payload, True, f"a large payload at QoS {qos} is whole")
    client.disconnect()


def many_messages():
    subscriber, publisher = Client("subscriber"), Client("publisher")
    subscriber.subscribe("many/+", 2)
    for number in range(300):
        publisher.mqtt.publish(f"many/{1 + number % 2}", str(number), 1 + number % 2)
    numbers = {"many/1": [], "many/2": []}
    for _ in range(300):
        message = subscriber.message()
        numbers[message.topic].append(int(message.payload))
    expect(numbers["many/1"], list(range(0, 300, 2)), "order at QoS 1")
    expect(numbers["many/2"], list(range(1, 300, 2)), "order at QoS 2")
    subscriber.disconnect()
    publisher.disconnect()


every_qos()
wildcards()
retained()
large_payloads()
many_messages()
