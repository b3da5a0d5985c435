//! What becomes of the retained messages of another broker.

use std::collections::BTreeMap;
use std::path::Path;

use super::import::{ImportError, Imported, Place, import_into};
use super::mqtt_source::{Fetched, MqttSource};
use super::terms::{Known, Taken, Terms};
use crate::records::{Image, Record, StoredMessage, WallTime};
use crate::topic::TopicName;

/// Puts the retained messages of a broker that runs into the store at `path`, which is made if it is not there. `now` is the time in seconds since 1970.
///
/// # Errors
///
/// That broker cannot be reached, refuses the client or a subscription, or does not answer; a broker uses the store, or something is in it and `terms`
/// do not allow that; the disk is full or fails. The store is as it was then, or is not made.
pub fn import_retained(source: &MqttSource, path: &Path, terms: Terms<'_>, now: u64) -> Result<Imported, ImportError> {
    let fetched = source
        .fetch()
        .map_err(|error| ImportError::Broker { address: source.address.clone(), problem: error.to_string() })?;
    import_into(path, terms, now, |image, Place { known, now, .. }| {
        Ok(take(&fetched, image, (terms.mountpoint, &known), now))
    })
}

fn take(
    fetched: &BTreeMap<String, Fetched>,
    image: &mut Image,
    (mountpoint, known): (&str, &Known),
    now: WallTime,
) -> Taken {
    let mut taken = Taken::default();
    for (topic, one) in fetched {
        let Fetched { qos, properties, payload, expiry } = one;
        let is_own = topic.starts_with("$SYS/");
        let is_known = known.retained.contains(&(mountpoint.into(), topic.as_str().into()));
        let Ok(name) = TopicName::parse(topic, usize::MAX) else {
            taken.leave_out("retained messages whose topics are none");
            continue;
        };
        if is_own || is_known {
            taken.leave_out(match is_own {
                true => "retained messages about the broker itself",
                false => "retained messages for topics that have one in the store already",
            });
            continue;
        }
        let expires = expiry.map_or(WallTime::NEVER, |seconds| {
            WallTime::from_millis(now.as_millis().saturating_add(u64::from(seconds) * 1000))
        });
        let message = StoredMessage::new(name, properties, payload, (*qos, true), expires);
        image.apply(&Record::Retained { mountpoint, message });
        taken.took("retained messages");
        taken.has_record(topic.len() + properties.len() + payload.len());
    }
    taken
}
