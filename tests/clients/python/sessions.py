"""Sessions, takeover and wills, for every version."""

from client import VERSION, Client, expect

FOR_AN_HOUR = 3600


def numbers_by_qos(client, count):
    """What arrives, QoS by QoS: at QoS 2 paho hands a message over only when it is released."""
    messages = [client.message() for _ in range(count)]
    return [[int(message.payload) for message in messages if message.qos == qos] for qos in (1, 2)]


def resumed_with_what_was_queued():
    publisher = Client("publisher")
    away = Client("away", keep=FOR_AN_HOUR)
    away.subscribe("queue", 2)
    for leave in ("disconnect", "cut"):
        getattr(away, leave)()
        for number in range(100):
            publisher.publish("queue", str(number), 1 + number % 2)
        away = Client("away", keep=FOR_AN_HOUR)
        # MQTT 3.1 has no such flag.
        expect(away.session_present, VERSION != 3, "the session is present")
        queued = [list(range(0, 100, 2)), list(range(1, 100, 2))]
        expect(numbers_by_qos(away, 100), queued, "what was queued")
        # What follows the acknowledgements shows that the broker has read them.
        away.publish("elsewhere", "", 1)
    away.disconnect()
    clean = Client("away")
    expect(clean.session_present, False, "a clean session is new")
    clean.disconnect()
    publisher.disconnect()


def taken_over():
    old = Client("id", keep=FOR_AN_HOUR)
    old.subscribe("topic", 1)
    new = Client("id", keep=FOR_AN_HOUR)
    code = old.disconnected()
    if VERSION == 5:
        expect(code, 0x8E, "the code of the old connection's DISCONNECT")
    new.publish("topic", "to the new one", 1)
    expect(new.text(), "to the new one", "the subscription is there")
    new.disconnect()
    Client("id").disconnect()


def wills():
    watcher = Client("watcher")
    watcher.subscribe("will/#", 2)
    for qos in (0, 1, 2):
        Client("id", will={"topic": "will/cut", "payload": "gone", "qos": qos}).cut()
        message = watcher.message()
        expect((message.payload, message.qos), (b"gone", qos), "the will")
    Client("id", will={"topic": "will/polite", "payload": "gone", "qos": 1}).disconnect()
    watcher.publish("will/marker", "nothing came before", 1)
    expect(watcher.text(), "nothing came before", "a polite client leaves no will")
    watcher.disconnect()


resumed_with_what_was_queued()
taken_over()
wills()
