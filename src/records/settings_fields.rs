//! The settings of a session as fields: each a number, and left out where it is the default.

use std::time::Duration;

use super::bytes::Wrong;
use super::fields::FieldWriter;
use super::wall_clock::whole_millis;
use crate::codec::QoS;
use crate::config::{Limit, QueueType, SharedPolicy, StoredDurability};
use crate::session::{QueueLimits, SessionSettings};

/// The tags, which never get another meaning.
mod tag {
    pub const KEPT: u8 = 32;
    pub const ALIAS_MAXIMUM_IN: u8 = 33;
    pub const EXPIRY: u8 = 34;
    pub const RECEIVE_MAXIMUM: u8 = 35;
    pub const MAXIMUM_INCOMING: u8 = 36;
    pub const MAXIMUM_QOS: u8 = 37;
    pub const RETAIN_AVAILABLE: u8 = 38;
    pub const WILDCARD_AVAILABLE: u8 = 39;
    pub const IDS_AVAILABLE: u8 = 40;
    pub const SHARED_AVAILABLE: u8 = 41;
    pub const IS_BRIDGE: u8 = 42;
    pub const MESSAGE_RATE: u8 = 43;
    pub const SHARED_POLICY: u8 = 44;
    pub const QUEUE_ONLINE: u8 = 45;
    pub const QUEUE_OFFLINE: u8 = 46;
    pub const QUEUE_BYTES: u8 = 47;
    pub const QUEUE_ORDER: u8 = 48;
    pub const LIFETIME: u8 = 49;
    pub const RETRY_INTERVAL: u8 = 50;
    pub const KEEP_ALIVE: u8 = 51;
    pub const PROBLEM_INFORMATION: u8 = 52;
    pub const MAXIMUM_OUTGOING: u8 = 53;
    pub const SEND_MAXIMUM: u8 = 54;
    pub const ALIAS_MAXIMUM_OUT: u8 = 55;
    pub const UPGRADE_QOS: u8 = 56;
    pub const DURABILITY: u8 = 57;
}

/// The settings of a session record without any field of them: kept for ever, nothing limited, everything allowed that MQTT knows, and as MQTT has
/// it where it has a default. Records that were written depend on each of these values.
pub(super) fn default_settings() -> SessionSettings {
    SessionSettings::unlimited()
}

/// The highest number there is stands for none: for ever, or not limited.
const NONE: u64 = u64::MAX;

/// All settings, by tag.
fn numbers(settings: &SessionSettings) -> [(u8, u64); 26] {
    let &SessionSettings {
        kept,
        alias_maximum_in,
        expiry,
        receive_maximum,
        maximum_incoming,
        maximum_qos,
        retain_available,
        wildcard_available,
        ids_available,
        shared_available,
        is_bridge,
        message_rate,
        shared_policy,
        queue: QueueLimits { online, offline, bytes, order },
        lifetime,
        retry_interval,
        keep_alive,
        problem_information,
        maximum_outgoing,
        send_maximum,
        alias_maximum_out,
        upgrade_qos,
        durability,
    } = settings;
    let limit = |limit: Limit| limit.get().map_or(NONE, |most| most as u64);
    let size = |bytes: usize| if bytes == usize::MAX { NONE } else { bytes as u64 };
    let while_it_lasts = |duration: Option<Duration>| duration.map_or(NONE, whole_millis);
    [
        (tag::KEPT, kept.into()),
        (tag::ALIAS_MAXIMUM_IN, alias_maximum_in.into()),
        (tag::EXPIRY, while_it_lasts(expiry)),
        (tag::RECEIVE_MAXIMUM, receive_maximum.into()),
        (tag::MAXIMUM_INCOMING, size(maximum_incoming)),
        (tag::MAXIMUM_QOS, maximum_qos as u64),
        (tag::RETAIN_AVAILABLE, retain_available.into()),
        (tag::WILDCARD_AVAILABLE, wildcard_available.into()),
        (tag::IDS_AVAILABLE, ids_available.into()),
        (tag::SHARED_AVAILABLE, shared_available.into()),
        (tag::IS_BRIDGE, is_bridge.into()),
        (tag::MESSAGE_RATE, message_rate.into()),
        (tag::SHARED_POLICY, number_of_policy(shared_policy)),
        (tag::QUEUE_ONLINE, limit(online)),
        (tag::QUEUE_OFFLINE, limit(offline)),
        (tag::QUEUE_BYTES, limit(bytes)),
        (tag::QUEUE_ORDER, matches!(order, QueueType::Lifo).into()),
        (tag::LIFETIME, while_it_lasts(lifetime)),
        (tag::RETRY_INTERVAL, whole_millis(retry_interval)),
        (tag::KEEP_ALIVE, keep_alive.into()),
        (tag::PROBLEM_INFORMATION, problem_information.into()),
        (tag::MAXIMUM_OUTGOING, size(maximum_outgoing)),
        (tag::SEND_MAXIMUM, send_maximum.into()),
        (tag::ALIAS_MAXIMUM_OUT, alias_maximum_out.into()),
        (tag::UPGRADE_QOS, upgrade_qos.into()),
        (tag::DURABILITY, number_of_durability(durability)),
    ]
}

/// Writes those that are not the default.
pub(super) fn put_settings(settings: &SessionSettings, fields: &mut FieldWriter<'_>) {
    let defaults = numbers(&default_settings());
    for ((tag, number), (_, default)) in numbers(settings).into_iter().zip(defaults) {
        if number != default {
            fields.put_number(tag, number);
        }
    }
}

/// Whether `tag` is that of a setting.
pub(super) fn is_setting(tag: u8) -> bool {
    (tag::KEPT..=tag::DURABILITY).contains(&tag)
}

/// Sets the setting with this tag.
pub(super) fn set(settings: &mut SessionSettings, tag: u8, number: u64) -> Result<(), Wrong> {
    match tag {
        tag::KEPT => settings.kept = flag(number)?,
        tag::ALIAS_MAXIMUM_IN => settings.alias_maximum_in = short(number)?,
        tag::EXPIRY => settings.expiry = duration(number),
        tag::RECEIVE_MAXIMUM => settings.receive_maximum = short(number)?,
        tag::MAXIMUM_INCOMING => settings.maximum_incoming = size(number),
        tag::MAXIMUM_QOS => settings.maximum_qos = qos(number)?,
        tag::RETAIN_AVAILABLE => settings.retain_available = flag(number)?,
        tag::WILDCARD_AVAILABLE => settings.wildcard_available = flag(number)?,
        tag::IDS_AVAILABLE => settings.ids_available = flag(number)?,
        tag::SHARED_AVAILABLE => settings.shared_available = flag(number)?,
        tag::IS_BRIDGE => settings.is_bridge = flag(number)?,
        tag::MESSAGE_RATE => settings.message_rate = u32::try_from(number).map_err(|_| OUT_OF_RANGE)?,
        tag::SHARED_POLICY => settings.shared_policy = policy(number)?,
        tag::QUEUE_ONLINE => settings.queue.online = Limit::at_most(size(number)),
        tag::QUEUE_OFFLINE => settings.queue.offline = Limit::at_most(size(number)),
        tag::QUEUE_BYTES => settings.queue.bytes = Limit::at_most(size(number)),
        tag::QUEUE_ORDER => settings.queue.order = if flag(number)? { QueueType::Lifo } else { QueueType::Fifo },
        tag::LIFETIME => settings.lifetime = duration(number),
        tag::RETRY_INTERVAL => settings.retry_interval = Duration::from_millis(number),
        tag::KEEP_ALIVE => settings.keep_alive = short(number)?,
        tag::PROBLEM_INFORMATION => settings.problem_information = flag(number)?,
        tag::MAXIMUM_OUTGOING => settings.maximum_outgoing = size(number),
        tag::SEND_MAXIMUM => settings.send_maximum = short(number)?,
        tag::ALIAS_MAXIMUM_OUT => settings.alias_maximum_out = short(number)?,
        tag::UPGRADE_QOS => settings.upgrade_qos = flag(number)?,
        tag::DURABILITY => settings.durability = durability(number)?,
        _ => {}
    }
    Ok(())
}

const OUT_OF_RANGE: Wrong = "a setting of a session is out of range";

/// The policies by number: where each stands never changes.
const POLICIES: [SharedPolicy; 5] = [
    SharedPolicy::Random,
    SharedPolicy::RoundRobin,
    SharedPolicy::Sticky,
    SharedPolicy::HashPublisher,
    SharedPolicy::LocalFirst,
];

fn number_of_policy(policy: SharedPolicy) -> u64 {
    match policy {
        SharedPolicy::Random => 0,
        SharedPolicy::RoundRobin => 1,
        SharedPolicy::Sticky => 2,
        SharedPolicy::HashPublisher => 3,
        SharedPolicy::LocalFirst => 4,
    }
}

fn policy(number: u64) -> Result<SharedPolicy, Wrong> {
    usize::try_from(number).ok().and_then(|number| POLICIES.get(number).copied()).ok_or(OUT_OF_RANGE)
}

/// Of a session of class `none` nothing is stored; of one that was until its client came back, a header may say so.
fn number_of_durability(durability: StoredDurability) -> u64 {
    match durability {
        StoredDurability::Fsynced => 0,
        StoredDurability::Flushed => 1,
        StoredDurability::None => 2,
    }
}

fn durability(number: u64) -> Result<StoredDurability, Wrong> {
    match number {
        0 => Ok(StoredDurability::Fsynced),
        1 => Ok(StoredDurability::Flushed),
        2 => Ok(StoredDurability::None),
        _ => Err(OUT_OF_RANGE),
    }
}

fn qos(number: u64) -> Result<QoS, Wrong> {
    u8::try_from(number).ok().and_then(QoS::from_u8).ok_or(OUT_OF_RANGE)
}

fn flag(number: u64) -> Result<bool, Wrong> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(OUT_OF_RANGE),
    }
}

fn short(number: u64) -> Result<u16, Wrong> {
    u16::try_from(number).map_err(|_| OUT_OF_RANGE)
}

/// A number of bytes or messages, as many as memory can have if it is more.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn duration(number: u64) -> Option<Duration> {
    (number != NONE).then(|| Duration::from_millis(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_in_order_and_policies_where_they_are_said_to_be() {
        let tags = numbers(&default_settings()).map(|(tag, _)| tag);
        assert!(tags.is_sorted_by(|one, next| one + 1 == *next) && tags.iter().all(|tag| is_setting(*tag)));
        assert!(POLICIES.iter().all(|known| policy(number_of_policy(*known)) == Ok(*known)));
        assert!(policy(5).is_err());
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let wrong = [
            (tag::KEPT, 2),
            (tag::ALIAS_MAXIMUM_IN, 65_536),
            (tag::MAXIMUM_QOS, 3),
            (tag::MESSAGE_RATE, 1 << 32),
            (tag::SHARED_POLICY, 5),
            (tag::QUEUE_ORDER, 2),
            (tag::KEEP_ALIVE, 65_536),
            (tag::DURABILITY, 3),
        ];
        for (tag, number) in wrong {
            assert_eq!(set(&mut default_settings(), tag, number), Err(OUT_OF_RANGE), "{tag}");
        }
    }
}
