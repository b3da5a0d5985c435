//! The program, run once.

use std::path::Path;
use std::process::Command;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_moormq");

/// How it ended, and what it said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs `moormq` with these arguments.
pub fn moormq<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Said {
    let output = Command::new(PROGRAM).args(args).output().expect("it can be run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs `moormq store COMMAND PATH`, with further arguments.
pub fn store(command: &str, path: &Path, more: &[&str]) -> Said {
    let path = path.to_str().expect("a path of the test");
    moormq(&[&["store", command, path][..], more].concat())
}

/// All rows of a store but the first, which says how often it was opened; of a store that is in order.
pub fn rows(path: &Path) -> Vec<String> {
    let said = store("dump", path, &["--json"]);
    assert_eq!((said.code, &*said.err), (Some(0), ""));
    let mut rows: Vec<String> = said.out.lines().skip(1).map(str::to_owned).collect();
    rows.sort_unstable();
    rows
}

/// All files of a store, with what is in them.
pub fn files(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("it can be listed") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push((path.display().to_string(), std::fs::read(&path).expect("it can be read"))),
            }
        }
    }
    found.sort();
    found
}

/// All files of a store are what they were; else the first that is not.
pub fn unchanged(before: &[(String, Vec<u8>)], path: &Path) {
    let now = files(path);
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&now), names(before));
    let changed = now.iter().zip(before).find(|(now, before)| now.1 != before.1);
    assert!(changed.is_none(), "{} has changed", changed.map_or("", |(now, _)| &now.0));
}
