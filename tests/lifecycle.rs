//! The table of `lifecycle.md`: every rule names a test, and every test it names exists and runs.

use std::fs;
use std::path::Path;

/// A row: where it is, what it says, and the tests it names.
struct Rule {
    line: usize,
    text: String,
    tests: Vec<(String, String)>,
}

fn read(file: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).ok()
}

/// The rows of all tables, without their heads.
fn rules() -> Vec<Rule> {
    let text = read("tests/lifecycle.md").expect("it is there");
    let is_row = |line: &&str| line.starts_with('|') && !line.ends_with("| shown by |") && !line.starts_with("|---");
    let numbered = text.lines().enumerate().filter(|(_, line)| is_row(line));
    let rule = |(line, row): (usize, &str)| {
        let (text, shown_by) = row.trim_end_matches([' ', '|']).rsplit_once('|').expect("a row has two columns");
        let tests = shown_by.split('`').filter_map(|name| name.split_once("::"));
        let tests = tests.map(|(file, test)| (file.to_owned(), test.to_owned())).collect();
        Rule { line: line + 1, text: text.to_owned(), tests }
    };
    numbered.map(rule).collect()
}

/// Whether `source` has this function as a test, or as a scenario that is run on every number of shards.
fn has_test(source: &str, name: &str) -> bool {
    let Some((before, _)) = source.split_once(&format!("fn {name}(")) else { return false };
    let mut above = before.lines().rev().skip_while(|line| line.trim().is_empty() || line.trim().starts_with("//"));
    let is_test = above.next().is_some_and(|line| line.trim() == "#[test]");
    let scenarios = source.split("on_every_number_of_shards![").skip(1).filter_map(|rest| rest.split(']').next());
    is_test || scenarios.flat_map(|list| list.split([',', '>'])).any(|scenario| scenario.trim() == name)
}

#[test]
fn every_rule_has_a_test_and_every_test_exists() {
    let rules = rules();
    assert!(rules.len() > 100, "there are only {} rules", rules.len());
    let mut wrong = Vec::new();
    for Rule { line, text, tests } in &rules {
        if tests.is_empty() {
            wrong.push(format!("line {line}: no test shows that {text}"));
        }
        for (file, name) in tests {
            if !read(file).is_some_and(|source| has_test(&source, name)) {
                wrong.push(format!("line {line}: there is no test {file}::{name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each event of section 5 is shown twice: in the core, and with real connections.
#[test]
fn every_event_is_shown_with_real_connections() {
    let text = read("tests/lifecycle.md").expect("it is there");
    let table = text.split_once("| event | hooks, in order | shown by |").expect("it has a table of events").1;
    let rows: Vec<_> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 17);
    for row in rows {
        assert!(row.contains("`tests/core/") && row.contains("`tests/clients/lifecycle/"), "{row}");
    }
}
