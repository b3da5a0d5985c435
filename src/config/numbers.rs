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
/// Events a second.
pub(super) const EVENTS: Count<u32> = Count(1..=1_000_000);

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

    fn advice(&self, value: &DeValue<'_>) -> Option<String> {
        let number: i64 = text(value)?.trim().parse().ok()?;
        Some(format!("write {number}, without quotation marks"))
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

/// Units of sizes: those of 1024 and those of 1000.
const SIZE_UNITS: [(&str, usize); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("B", 1),
];

/// Bytes: a whole number, or text with a unit such as "1MiB", "64 KiB", "10MB" or "1.5 GiB".
pub(super) struct Size(pub(super) RangeInclusive<usize>);

impl Size {
    /// The number with the unit that makes it smallest and exact.
    fn text(bytes: usize) -> String {
        let exact = SIZE_UNITS.iter().filter(|(_, worth)| bytes != 0 && bytes.is_multiple_of(*worth));
        let (unit, worth) = exact.min_by_key(|(_, worth)| bytes / worth).unwrap_or(&("B", 1));
        quoted(format_args!("{}{unit}", bytes / worth))
    }

    fn parse(text: &str) -> Option<usize> {
        let (number, unit) = number_and_unit(text);
        let (_, worth) = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
        let bytes = decimal(number, *worth as u128)?;
        usize::try_from(bytes).ok()
    }
}

/// A number and the unit behind it, with or without a space between them.
fn number_and_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// A decimal number times `worth`, rounded down.
fn decimal(number: &str, worth: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 9 || whole.is_empty() || number.ends_with('.') {
        return None;
    }
    let fraction = match fraction {
        "" => 0,
        digits => digits.parse::<u128>().ok()?.checked_mul(worth)? / 10u128.pow(digits.len() as u32),
    };
    whole.parse::<u128>().ok()?.checked_mul(worth)?.checked_add(fraction)
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

    fn advice(&self, value: &DeValue<'_>) -> Option<String> {
        let text = text(value)?;
        let (number, unit) = number_and_unit(text);
        if Size::parse(text).is_some() {
            return None;
        }
        let binary = unit.to_ascii_uppercase();
        if !number.is_empty() && matches!(&*binary, "K" | "M" | "G" | "T") {
            let decimal = if binary == "K" { "k" } else { &*binary };
            return Some(format!("write \"{number}{binary}iB\" (1024) or \"{number}{decimal}B\" (1000)"));
        }
        Some("units are B, KiB, MiB, GiB and TiB (1024), kB, MB, GB and TB (1000), as in \"64KiB\"".to_owned())
    }

    fn write(&self, value: &usize) -> String {
        Size::text(*value)
    }

    fn allows(&self, value: &usize) -> bool {
        self.0.contains(value)
    }
}

/// A duration with its unit: "500ms", "5s", "1h 30m", "1.5 h".
pub(super) struct Span(pub(super) RangeInclusive<Duration>);

impl Span {
    fn text(duration: Duration) -> String {
        quoted(humantime::format_duration(duration))
    }

    fn parse(text: &str) -> Option<Duration> {
        // M is a month to humantime, and a minute to people who are in a hurry.
        if text.split(|character: char| !character.is_ascii_alphabetic()).any(|unit| unit == "M") {
            return None;
        }
        let text = text.trim().to_ascii_lowercase();
        let (number, unit) = number_and_unit(&text);
        if number.contains('.') {
            if !unit.chars().all(|character| character.is_ascii_alphabetic()) {
                return None;
            }
            let worth = humantime::parse_duration(&format!("1{unit}")).ok()?;
            let nanos = u64::try_from(decimal(number, worth.as_nanos())?).ok()?;
            return Some(Duration::from_nanos(nanos));
        }
        humantime::parse_duration(&text).ok()
    }

    /// What to write instead of a value that is no duration.
    fn advice_for(value: &DeValue<'_>) -> Option<String> {
        let number = match value {
            DeValue::Integer(number) => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            DeValue::String(text) if Span::parse(text).is_some() => return None,
            DeValue::String(text) if text.trim().parse::<f64>().is_ok() => text.trim(),
            DeValue::String(text) => {
                return Some(match text.contains('M') {
                    true => "write m for minutes, or months".to_owned(),
                    false => "units are ms, s, m, h, days, weeks, months and years, as in \"1h 30m\"".to_owned(),
                });
            }
            _ => return None,
        };
        Some(format!(
            "write the unit, too: \"{number}ms\", \"{number}s\", \"{number}m\" (minutes), \"{number}h\" or \"{number}days\""
        ))
    }
}

impl Kind for Span {
    type Value = Duration;

    fn expected(&self) -> String {
        format!("a duration from {} to {}", Span::text(*self.0.start()), Span::text(*self.0.end()))
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Duration> {
        Span::parse(text(value)?)
    }

    fn advice(&self, value: &DeValue<'_>) -> Option<String> {
        Span::advice_for(value)
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
        let duration = Span::parse(text(value)?)?;
        (duration.subsec_nanos() == 0).then(|| duration.as_secs().try_into().ok())?
    }

    fn advice(&self, value: &DeValue<'_>) -> Option<String> {
        Span::advice_for(value)
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
    use crate::config::kind::tests::{accepts, advises, refuses};

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
        accepts(&size, &[("\"2048MiB\"", "\"2GiB\""), ("268435460", "\"268435460B\""), ("\"1.5 gib\"", "\"1536MiB\"")]);
        accepts(
            &size,
            &[
                ("\"10MB\"", "\"10MB\""),
                ("\"64 kb\"", "\"64kB\""),
                ("\"0.5 KiB\"", "\"512B\""),
                ("\"1TiB\"", "\"1TiB\""),
            ],
        );
        refuses(
            &size,
            &["\"1\"", "\"-1B\"", "-1", "\"99999999999999GiB\"", "\"MiB\"", "\".5MiB\"", "\"1.MiB\"", "\"1.2.3MiB\""],
        );
        let units = "units are B, KiB, MiB, GiB and TiB (1024), kB, MB, GB and TB (1000), as in \"64KiB\"";
        advises(&size, &[("\"1\"", units), ("\"5 bytes\"", units)]);
        advises(
            &size,
            &[
                ("\"64K\"", "write \"64KiB\" (1024) or \"64kB\" (1000)"),
                ("\"1g\"", "write \"1GiB\" (1024) or \"1GB\" (1000)"),
            ],
        );
        advises(&size, &[("\"1.5 M\"", "write \"1.5MiB\" (1024) or \"1.5MB\" (1000)")]);
    }

    #[test]
    fn durations_have_units() {
        let span = Span(MILLISECOND..=365 * DAY);
        accepts(
            &span,
            &[("\"30s\"", "\"30s\""), ("\"90m\"", "\"1h 30m\""), ("\"2d\"", "\"2days\""), ("\"5ms\"", "\"5ms\"")],
        );
        accepts(
            &span,
            &[
                ("\"1h30m\"", "\"1h 30m\""),
                ("\"1.5 h\"", "\"1h 30m\""),
                ("\"10 Min\"", "\"10m\""),
                ("\"0.5s\"", "\"500ms\""),
            ],
        );
        refuses(
            &span,
            &["30", "\"30\"", "\"-1s\"", "\"\"", "\"never\"", "\"0s\"", "\"366d\"", "\"1us\"", "\"5M\"", "\"1.5h 3m\""],
        );
        let unit = "write the unit, too: \"30ms\", \"30s\", \"30m\" (minutes), \"30h\" or \"30days\"";
        advises(&span, &[("30", unit), ("\"30\"", unit), ("\"5M\"", "write m for minutes, or months")]);
        advises(&span, &[("\"5 parsec\"", "units are ms, s, m, h, days, weeks, months and years, as in \"1h 30m\"")]);
        accepts(&Seconds, &[("\"1s\"", "\"1s\""), ("\"18h 12m 15s\"", "\"18h 12m 15s\"")]);
        refuses(&Seconds, &["\"0s\"", "\"1500ms\"", "\"65536s\"", "60"]);
    }
}
