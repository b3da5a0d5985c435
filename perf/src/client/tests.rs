//! What a client answers, packet by packet.

use moormq::codec::{Connack, ConnackProperties, MAX_PACKET_SIZE, Sender, Split, Suback, decode, split};

use super::*;

const V5: ProtocolVersion = ProtocolVersion::V5;

fn stamp(sequence: u32) -> Stamp {
    Stamp { publisher: 0, sequence, time: 0 }
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

/// The types of the packets in `out`, as a broker sees them.
fn said(out: &[u8], version: ProtocolVersion) -> Vec<moormq::codec::PacketType> {
    let mut rest = out;
    let mut types = Vec::new();
    while let Ok(Split::Frame(frame)) = split(rest, MAX_PACKET_SIZE) {
        types.push(decode(frame, version, Sender::Client).unwrap().packet_type());
        rest = &rest[frame.length..];
    }
    assert!(rest.is_empty());
    types
}

fn connack(receive_maximum: Option<u16>) -> Packet<'static> {
    let properties = ConnackProperties { receive_maximum, ..ConnackProperties::default() };
    Packet::Connack(Connack { properties, ..Connack::new(false, ReasonCode::Success) })
}

fn subscriber(qos: QoS, granted: ReasonCode) -> Result<Client, String> {
    let mut client = Client::subscriber("s".to_owned(), V5, vec!["a".to_owned()], qos);
    let mut out = Vec::new();
    assert_eq!(client.handle(connack(None), &mut out), Ok(Event::None));
    assert_eq!(said(&out, V5), [moormq::codec::PacketType::Subscribe]);
    let codes = [granted];
    client.handle(Packet::Suback(Suback::new(PacketId::MIN, &codes[..])), &mut out)?;
    Ok(client)
}

#[test]
fn a_lower_qos_than_asked_for_is_a_failure() {
    assert!(subscriber(QoS::ExactlyOnce, ReasonCode::GrantedQoS1).is_err());
    let mut client = subscriber(QoS::AtLeastOnce, ReasonCode::GrantedQoS1).unwrap();
    let publish = Publish { topic: "a", ..Publish::default() };
    assert!(client.handle(Packet::Publish(publish), &mut Vec::new()).is_err());
}

#[test]
fn receive_maximum_of_the_server_is_obeyed() {
    let mut client = Client::publisher("p".to_owned(), V5, vec!["a".to_owned()], 64, QoS::AtLeastOnce, 100);
    let mut out = Vec::new();
    assert_eq!(client.handle(connack(Some(2)), &mut out), Ok(Event::Ready));
    assert_eq!([0, 1, 2].map(|sequence| client.publish(stamp(sequence), &mut out)), [true, true, false]);
    client.handle(Packet::Puback(Ack::new(id(1), ReasonCode::NoMatchingSubscribers)), &mut out).unwrap();
    assert!(client.publish(stamp(2), &mut out));
    assert_eq!(client.in_flight(), 2);
    assert!(client.handle(Packet::Puback(Ack::new(id(1), ReasonCode::NotAuthorized)), &mut out).is_err());
}

#[test]
fn a_qos_2_message_counts_once_until_it_is_released() {
    use moormq::codec::PacketType::{Pubcomp, Pubrec};
    let mut client = subscriber(QoS::ExactlyOnce, ReasonCode::GrantedQoS2).unwrap();
    let mut out = Vec::new();
    let publish =
        Publish { topic: "a", qos: QoS::ExactlyOnce, packet_id: Some(id(9)), payload: b"x", ..Publish::default() };
    let release = Packet::Pubrel(Ack::new(id(9), ReasonCode::Success));
    assert_eq!(client.handle(Packet::Publish(publish), &mut out), Ok(Event::Delivered(b"x")));
    assert_eq!(client.handle(Packet::Publish(Publish { dup: true, ..publish }), &mut out), Ok(Event::None));
    assert_eq!(client.handle(release, &mut out), Ok(Event::None));
    assert!(client.handle(release, &mut Vec::new()).is_err());
    assert_eq!(client.handle(Packet::Publish(publish), &mut out), Ok(Event::Delivered(b"x")));
    assert_eq!(said(&out, V5), [Pubrec, Pubrec, Pubcomp, Pubrec]);
}

#[test]
fn a_publisher_takes_qos_2_through_all_steps() {
    let mut client = Client::publisher("p".to_owned(), V5, vec!["a".to_owned()], 64, QoS::ExactlyOnce, 1);
    let mut out = Vec::new();
    client.handle(connack(None), &mut out).unwrap();
    assert!(client.publish(stamp(0), &mut out));
    client.handle(Packet::Pubrec(Ack::new(id(1), ReasonCode::Success)), &mut out).unwrap();
    client.handle(Packet::Pubcomp(Ack::new(id(1), ReasonCode::Success)), &mut out).unwrap();
    use moormq::codec::PacketType::{Publish, Pubrel};
    assert_eq!(said(&out, V5), [Publish, Pubrel]);
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn many_filters_go_in_several_packets_and_all_are_answered() {
    let filters: Vec<String> = (0..250).map(|number| format!("a/{number}")).collect();
    let mut client = Client::subscriber("s".to_owned(), V5, filters, QoS::AtMostOnce);
    let mut out = Vec::new();
    client.handle(connack(None), &mut out).unwrap();
    assert_eq!(said(&out, V5), [moormq::codec::PacketType::Subscribe; 3]);
    let codes = [ReasonCode::GrantedQoS0];
    let ready = |n| client.handle(Packet::Suback(Suback::new(id(n), &codes[..])), &mut out).unwrap() == Event::Ready;
    assert_eq!([1, 2, 3].map(ready), [false, false, true]);
}

#[test]
fn a_session_that_is_taken_over_has_to_be_there() {
    let answer = |client: Client, present| {
        let connack = Connack::new(present, ReasonCode::Success);
        { client }.handle(Packet::Connack(connack), &mut Vec::new()).is_ok()
    };
    let idle = || Client::idle("i".to_owned());
    assert!(answer(idle(), false) && !answer(idle(), true));
    assert!(answer(idle().kept(), false) && answer(idle().kept(), true));
    assert!(!answer(idle().taking_over(0), false) && answer(idle().taking_over(0), true));
}
