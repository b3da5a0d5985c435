//! Lines of a bounded length, whatever names clients give themselves.

use std::borrow::Cow;

/// Longest line, in bytes, unless it is JSON: of that each text is cut alone, so that it stays what it is.
const LONGEST: usize = 8 * 1024;
/// What is left of a name or another text that is too long, in bytes.
const LONGEST_PART: usize = 1024;
/// What stands for the rest of it.
const REST: &[u8] = b"...";

/// The line as it is written: its end stays, and what is too long in it ends with three dots.
pub fn bounded(line: &[u8]) -> Cow<'_, [u8]> {
    if line.len() <= LONGEST {
        return Cow::Borrowed(line);
    }
    Cow::Owned(if line.first() == Some(&b'{') { json(line) } else { text(line) })
}

/// Cuts the texts of a JSON object.
fn json(line: &[u8]) -> Vec<u8> {
    /// The kind of an escape comes next; below it are the hexadecimal digits that are left of one.
    const KIND: u8 = 5;
    let mut cut = Vec::with_capacity(LONGEST);
    // How much was seen of the text that we are in, and what is left of an escape.
    let (mut within, mut escape) = (None, 0);
    for &byte in line {
        let is_quote = byte == b'"' && escape == 0;
        let Some(seen) = within.as_mut().filter(|_| !is_quote) else {
            cut.push(byte);
            within = if is_quote && within.is_none() { Some(0) } else { within.filter(|_| !is_quote) };
            continue;
        };
        // An escape stays whole, and so does a character.
        let begins = escape == 0 && byte & 0xC0 != 0x80;
        escape = match (escape, byte) {
            (0, b'\\') => KIND,
            (KIND, b'u') => KIND - 1,
            (0 | KIND, _) => 0,
            (digits, _) => digits - 1,
        };
        if *seen < LONGEST_PART || *seen == LONGEST_PART && !begins {
            cut.push(byte);
            *seen = (*seen + 1).min(LONGEST_PART);
        } else if *seen == LONGEST_PART {
            cut.extend_from_slice(REST);
            *seen += 1;
        }
    }
    cut
}

/// Cuts what has no space in it, and then the line.
fn text(line: &[u8]) -> Vec<u8> {
    let mut cut = Vec::with_capacity(LONGEST);
    for part in line.split_inclusive(|byte| byte.is_ascii_whitespace()) {
        if part.len() > LONGEST_PART {
            cut.extend_from_slice(head(part, LONGEST_PART));
            cut.extend_from_slice(REST);
            cut.extend(part.last().filter(|last| last.is_ascii_whitespace()));
        } else {
            cut.extend_from_slice(part);
        }
    }
    if cut.len() > LONGEST {
        let length = head(&cut, LONGEST).len();
        cut.truncate(length);
        cut.extend_from_slice(REST);
        cut.push(b'\n');
    }
    cut
}

/// So many bytes of a text at most, and whole characters.
fn head(text: &[u8], most: usize) -> &[u8] {
    let mut end = most.min(text.len());
    while end > 0 && text.get(end).is_some_and(|byte| byte & 0xC0 == 0x80) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_lines_stay_as_they_are() {
        let line = format!("INFO closed client=\"{}\"\n", "x".repeat(5000));
        assert!(matches!(bounded(line.as_bytes()), Cow::Borrowed(same) if same == line.as_bytes()));
    }

    #[test]
    fn long_names_are_cut_and_what_stands_behind_them_is_not() {
        let line = format!("WARN refused user=\"{}\" reason=bad password\n", "\u{e9}".repeat(30_000));
        let cut = String::from_utf8(bounded(line.as_bytes()).into_owned()).expect("whole characters");
        assert!(cut.len() < 1100 && cut.ends_with("... reason=bad password\n"), "{cut}");
    }

    #[test]
    fn a_line_of_many_words_is_cut_at_its_end() {
        let cut = bounded("word ".repeat(5000).as_bytes()).into_owned();
        assert!(cut.len() <= LONGEST + 4 && cut.ends_with(b"...\n"));
    }

    #[test]
    fn json_stays_json() {
        for unit in ["x y", "\\\"", "\\\\", "\\u0007", "\u{1F600}"] {
            let line = format!("{{\"user\":\"{}\",\"reason\":\"bad \\\"x\\\"\",\"n\":1}}\n", unit.repeat(20_000));
            let cut = String::from_utf8(bounded(line.as_bytes()).into_owned()).expect("whole characters");
            assert!(cut.len() < 1200 && cut.ends_with("...\",\"reason\":\"bad \\\"x\\\"\",\"n\":1}\n"), "{cut}");
            let name = &cut[9..cut.find("...").expect("it is cut")];
            assert!(unit == "x y" || name.len().is_multiple_of(unit.len()), "no half of {unit}: {}", name.len());
        }
    }
}
