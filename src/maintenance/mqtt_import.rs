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
        let name = match name_of(topic, mountpoint, known) {
            Ok(name) => name,
            Err(why) => {
                taken.leave_out(why);
                continue;
            }
        };
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

/// The name of the topic of a retained message; or why that is not taken.
fn name_of<'a>(topic: &'a str, mountpoint: &str, known: &Known) -> Result<TopicName<'a>, &'static str> {
    let name = TopicName::parse(topic, usize::MAX).map_err(|_| "retained messages whose topics are none")?;
    if topic.starts_with("$SYS/") {
        return Err("retained messages about the broker itself");
    }
    known.check_retained(mountpoint, topic)?;
    Ok(name)
}
