//! Topic aliases that the broker sets.

use super::*;

/// How the topic of each PUBLISH to `t` is named, with so many aliases, on a client that takes packets of so many bytes.
fn names(count: usize, aliases: u16, maximum: usize) -> Vec<(String, Option<u16>)> {
    let mut client = client();
    (client.session.settings.alias_maximum_out, client.session.settings.maximum_outgoing) = (aliases, maximum);
    (0..count).for_each(|_| assert_eq!(client.sent("x", QoS::AtMostOnce), Delivered::Sent));
    let output = client.output();
    let name = |publish: &Publish<'_>| (publish.topic.to_owned(), publish.properties.topic_alias);
    publishes(&output, V5).iter().map(name).collect()
}

fn named(topic: &str, alias: Option<u16>) -> (String, Option<u16>) {
    (topic.to_owned(), alias)
}

/// [MQTT-3.1.2-26]
#[test]
fn a_topic_that_comes_again_is_named_by_an_alias() {
    assert_eq!(
        names(4, 1, usize::MAX),
        [named("t", None), named("t", Some(1)), named("", Some(1)), named("", Some(1))]
    );
}

/// [MQTT-3.1.2-27]
#[test]
fn a_client_that_takes_no_alias_is_sent_none() {
    assert_eq!(names(3, 0, usize::MAX), vec![named("t", None); 3]);
}

#[test]
fn a_packet_that_would_be_too_large_with_an_alias_goes_without() {
    let length = Outgoing { topic: "t", payload: b"x", ..Outgoing::default() }.encoded_len(V5);
    assert_eq!(names(3, 1, length + ALIAS_COST - 1), vec![named("t", None); 3]);
    assert_eq!(names(3, 1, length + ALIAS_COST)[1..], [named("t", Some(1)), named("", Some(1))]);
}

#[test]
fn an_alias_costs_so_much_at_most() {
    let bytes = vec![0; 16_400];
    let cost = |properties: usize, payload: usize| {
        let (properties, payload) = (&bytes[..properties], &bytes[..payload]);
        let outgoing = Outgoing { topic: "t", properties, payload, ..Outgoing::default() };
        Outgoing { alias: Some(1), ..outgoing }.encoded_len(V5) - outgoing.encoded_len(V5)
    };
    let costs = (120..130).flat_map(|properties| (16_230..16_300).map(move |payload| (properties, payload)));
    assert_eq!(costs.map(|(properties, payload)| cost(properties, payload)).max(), Some(ALIAS_COST));
}

proptest! {
    /// [MQTT-3.1.2-24]: exactly what fits without an alias is sent, with one or without, and the topic can always be told.
    #[test]
    fn what_fits_is_sent_and_nothing_larger(
        maximum in 5..400_usize,
        sizes in prop::collection::vec((1..140_usize, 0..300_usize), 0..30),
    ) {
        let mut client = client();
        (client.session.settings.alias_maximum_out, client.session.settings.maximum_outgoing) = (2, maximum);
        let mut known = [String::new(), String::new(), String::new()];
        for (topic, payload) in sizes {
            let (topic, payload) = ("t".repeat(topic / 30 * 30 + 1), vec![0; payload]);
            let publication = publication(&topic, &payload, QoS::AtMostOnce);
            let whole = Outgoing { topic: &topic, payload: &payload, ..Outgoing::default() }.encoded_len(V5);
            let outcome = client.deliver(&recipient(), &publication, None);
            let output = client.output();
            prop_assert_eq!(outcome == Delivered::Sent, whole <= maximum);
            prop_assert!(output.len() <= maximum);
            for publish in publishes(&output, V5) {
                let alias = usize::from(publish.properties.topic_alias.unwrap_or(0));
                if !publish.topic.is_empty() {
                    known[alias] = publish.topic.to_owned();
                }
                prop_assert_eq!(&known[alias], &topic);
                prop_assert_eq!(publish.payload, &payload);
            }
        }
    }
}
