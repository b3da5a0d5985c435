//! The faults on purpose in `tests/mutations/list` still fit the source.

use std::fs;
use std::path::Path;

#[test]
fn every_mutation_still_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("tests/mutations/list")).expect("the list can be read");
    let (mut file, mut from, mut count) = ("", "", 0);
    for line in list.lines() {
        match line.split_once(' ') {
            Some(("file", name)) => file = name,
            Some(("from", text)) => from = text,
            Some(("to", to)) => {
                let source = fs::read_to_string(root.join(file)).expect("the file of a mutation can be read");
                assert_eq!(source.matches(from).count(), 1, "{file}: {from}");
                assert_ne!(from, to, "{file}");
                count += 1;
            }
            _ => {}
        }
    }
    assert!(count >= 100, "{count} mutations");
}
