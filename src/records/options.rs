//! The options of a subscription as one byte: the one that SUBSCRIBE of MQTT 5.0 has for them (3.8.3.1).

use super::bytes::Wrong;
use crate::codec::{QoS, RetainHandling, SubscriptionOptions};

const QOS: u8 = 0b11;
const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
const RETAIN_HANDLING: u8 = 4;

pub(super) fn options_to(options: SubscriptionOptions) -> u8 {
    let SubscriptionOptions { qos, no_local, retain_as_published, retain_handling } = options;
    let handling = match retain_handling {
        RetainHandling::SendAtSubscribe => 0,
        RetainHandling::SendIfNew => 1,
        RetainHandling::DoNotSend => 2,
    };
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    qos as u8 | flag(no_local, NO_LOCAL) | flag(retain_as_published, RETAIN_AS_PUBLISHED) | handling << RETAIN_HANDLING
}

pub(super) fn options_from(byte: u8) -> Result<SubscriptionOptions, Wrong> {
    let retain_handling = match byte >> RETAIN_HANDLING {
        0 => RetainHandling::SendAtSubscribe,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return Err("the options of a subscription are none"),
    };
    Ok(SubscriptionOptions {
        qos: QoS::from_u8(byte & QOS).ok_or("a subscription has QoS 3")?,
        no_local: byte & NO_LOCAL != 0,
        retain_as_published: byte & RETAIN_AS_PUBLISHED != 0,
        retain_handling,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_options_and_back_or_nothing() {
        let known: Vec<u8> = (0..=u8::MAX).filter(|byte| options_from(*byte).is_ok()).collect();
        assert_eq!(known.len(), 3 * 2 * 2 * 3);
        assert!(known.iter().all(|byte| options_from(*byte).map(options_to) == Ok(*byte)));
    }
}
