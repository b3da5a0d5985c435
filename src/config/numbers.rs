//! Kinds of numbers: counts, sizes in bytes, durations.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::kind::{Kind, quoted, text};

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A mean Gregorian year: what humantime calls one.
pub(super) const YEAR: Duration = Duration::from_secs(31_557_600);

pub(super) const KIB: usize = 1 << 10;
pub(super) const MIB: usize = 1 << 20;
pub(super) const GIB: usize = 1 << 30;

/// The most of anything that can be counted in a setting.
pub(super) const COUNT_MAX: usize = 1_000_000_000;

/// How long somebody may be waited for.
pub(super) const WAIT: Span = Span(Duration::from_millis(100)..=HOUR);
/// How long something may be kept.
pub(super) const LONG: Span = Span(SECOND..=Duration::from_secs(100 * YEAR.as_secs()));
/// How large a packet may be. The largest that MQTT can express has five bytes of fixed header and a Remaining Length
/// of 268435455 (section 2.1.4).
pub(super) const PACKET_SIZE: Size = Size(64..=268_435_460);
/// Events a second; 0 is unlimited.
pub(super) const RATE: Count<u32> = Count(0..=1_000_000);

/// A whole number.
pub(super) struct Count<T>(pub(super) RangeInclusive<T>);

impl<T: Copy + PartialOrd + Display + TryFrom<i64>> Kind for Count<T> {
    type Value = T;

    fn expected(&self) -> String {
        format!("{} to {}", self.0.start(), self.0.end())
    }

    fn read(&self, value: &DeValue<'_>) -> Option<T> {
        match value {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok()?.try_into().ok(),
            _ => None,
        }
    }

    fn write(&self, value: &T) -> String {
        value.to_string()
    }

    fn allows(&self, value: &T) -> bool {
        self.0.contains(value)
    }
}

/// A power of two: what the kernel wants for its rings.
pub(super) struct PowerOfTwo(pub(super) RangeInclusive<usize>);

impl Kind for PowerOfTwo {
    type Value = usize;

    fn expected(&self) -> String {
        format!("a power of two from {} to {}", self.0.start(), self.0.end())
    }

    fn read(&self, value: &DeValue<'_>) -> Option<usize> {
        Count(self.0.clone()).read(value)
    }

    fn write(&self, value: &usize) -> String {
        value.to_string()
    }

    fn allows(&self, value: &usize) -> bool {
        self.0.contains(value) && value.is_power_of_two()
    }
}

/// Units of sizes, largest first.
const SIZE_UNITS: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Bytes: a whole number, or text with a unit such as "1MiB".
pub(super) struct Size(pub(super) RangeInclusive<usize>);

impl Size {
    /// The number with the largest unit that expresses it exactly.
    fn text(bytes: usize) -> String {
        let (unit, worth) =
            SIZE_UNITS.iter().find(|(_, worth)| bytes != 0 && bytes.is_multiple_of(*worth)).unwrap_or(&SIZE_UNITS[3]);
        quoted(format_args!("{}{unit}", bytes / worth))
    }

    fn parse(text: &str) -> Option<usize> {
        let (unit, worth) = SIZE_UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
        text[..text.len() - unit.len()].trim_end().parse::<usize>().ok()?.checked_mul(*worth)
    }
}

impl Kind for Size {
    type Value = usize;

    fn expected(&self) -> String {
        format!("a size from {} to {}", Size::text(*self.0.start()), Size::text(*self.0.end()))
    }

    fn read(&self, value: &DeValue<'_>) -> Option<usize> {
        match text(value) {
            Some(text) => Size::parse(text),
            None => Count(self.0.clone()).read(value),
        }
    }

    fn write(&self, value: &usize) -> String {
        Size::text(*value)
    }

    fn allows(&self, value: &usize) -> bool {
        self.0.contains(value)
    }
}

/// A duration with its unit: "500ms", "5s", "1h 30m".
pub(super) struct Span(pub(super) RangeInclusive<Duration>);

impl Span {
    fn text(duration: Duration) -> String {
        quoted(humantime::format_duration(duration))
    }
}

impl Kind for Span {
    type Value = Duration;

    fn expected(&self) -> String {
        format!("a duration from {} to {}", Span::text(*self.0.start()), Span::text(*self.0.end()))
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Duration> {
        humantime::parse_duration(text(value)?).ok()
    }

    fn write(&self, value: &Duration) -> String {
        Span::text(*value)
    }

    fn allows(&self, value: &Duration) -> bool {
        self.0.contains(value)
    }
}

/// A duration of whole seconds, 1 to 65535: what two bytes of MQTT can say.
pub(super) struct Seconds;

impl Kind for Seconds {
    type Value = u16;

    fn expected(&self) -> String {
        let last = Duration::from_secs(u16::MAX.into());
        format!("a duration of whole seconds from {} to {}", Span::text(Duration::from_secs(1)), Span::text(last))
    }

    fn read(&self, value: &DeValue<'_>) -> Option<u16> {
        let duration = humantime::parse_duration(text(value)?).ok()?;
        (duration.subsec_nanos() == 0).then(|| duration.as_secs().try_into().ok())?
    }

    fn write(&self, value: &u16) -> String {
        Span::text(Duration::from_secs((*value).into()))
    }

    fn allows(&self, value: &u16) -> bool {
        *value > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kind::tests::{accepts, refuses};

    #[test]
    fn whole_numbers() {
        let port = Count(1u16..=65535);
        accepts(&port, &[("1", "1"), ("65_535", "65535"), ("0x10", "16")]);
        refuses(&port, &["0", "65536", "-1", "1.0", "\"1\"", "true", "99999999999999999999"]);
        refuses(&PowerOfTwo(16..=64), &["8", "48", "128"]);
        accepts(&PowerOfTwo(16..=64), &[("16", "16"), ("64", "64")]);
    }

    #[test]
    fn sizes_have_units_and_are_written_exactly() {
        let size = Size(0..=usize::MAX);
        accepts(&size, &[("0", "\"0B\""), ("1024", "\"1KiB\""), ("1025", "\"1025B\""), ("\"3 MiB\"", "\"3MiB\"")]);
        accepts(&size, &[("\"2048MiB\"", "\"2GiB\""), ("268435460", "\"268435460B\"")]);
        refuses(&size, &["\"1\"", "\"1MB\"", "\"-1B\"", "\"1.5MiB\"", "-1", "\"99999999999999GiB\"", "\"MiB\""]);
    }

    #[test]
    fn durations_have_units() {
        let span = Span(MILLISECOND..=365 * DAY);
        accepts(
            &span,
            &[("\"30s\"", "\"30s\""), ("\"90m\"", "\"1h 30m\""), ("\"2d\"", "\"2days\""), ("\"5ms\"", "\"5ms\"")],
        );
        refuses(&span, &["30", "\"30\"", "\"-1s\"", "\"\"", "\"never\"", "\"0s\"", "\"366d\"", "\"1us\""]);
        accepts(&Seconds, &[("\"1s\"", "\"1s\""), ("\"18h 12m 15s\"", "\"18h 12m 15s\"")]);
        refuses(&Seconds, &["\"0s\"", "\"1500ms\"", "\"65536s\"", "60"]);
    }
}
