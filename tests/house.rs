//! The walls of the house: which module may know which, and what may not be used below `net`.
//!
//! Modules import from floors below their own only; those on one floor do not know each other. Below `net` there is no I/O,
//! no clock, no lock, no `async`; `unsafe` is in the socket ring alone.

use std::fs;
use std::path::{Path, PathBuf};

/// The floors, lowest first.
const FLOORS: &[&[&str]] = &[
    &["time"],
    &["config", "random", "deadlines"],
    &["topic", "codec"],
    &["client", "message"],
    &["hooks", "session", "connection", "sharding"],
    &["shard"],
    &["net", "control"],
    &["broker"],
];

/// What does not belong below `net`, and what to do instead.
const OUTSIDE: &[(&str, &str)] = &[
    ("glommio", "the runtime is net's"),
    ("async fn", "what a future needs leaves through the shard's door"),
    ("Instant::now", "time is handed in"),
    ("SystemTime::now", "time is handed in"),
    ("Mutex", "nothing is shared between shards"),
    ("RwLock", "nothing is shared between shards"),
    ("std::fs", "files are read above and handed in as values"),
    ("std::thread", "threads are net's and control's"),
    ("std::net::Tcp", "sockets are net's"),
    ("unsafe", "unsafe code lives in the socket ring alone"),
];

/// A source file of the library.
struct Source {
    path: PathBuf,
    /// The top-level module it belongs to.
    module: String,
    /// Its code: without comments, and without the tests at its end.
    lines: Vec<(usize, String)>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let inside = path.strip_prefix(&root).expect("it is below src");
                let module = inside.iter().next().expect("it has a name").to_string_lossy();
                let module = module.trim_end_matches(".rs").to_owned();
                sources.push(Source { lines: code(&path), path, module });
            }
        }
    }
    assert!(sources.len() > 50, "the library has more files than {}", sources.len());
    sources
}

fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).expect("a source file is text");
    let lines = text.lines().enumerate();
    let before_tests = lines.take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    let uncommented = before_tests.map(|(number, line)| (number + 1, line.split("//").next().unwrap_or("").to_owned()));
    uncommented.filter(|(_, line)| !line.trim().is_empty()).collect()
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

#[test]
fn imports_look_down_only() {
    let mut broken = Vec::new();
    for source in sources() {
        let Some(own) = floor(&source.module) else { continue };
        for (number, line) in &source.lines {
            for mention in line.split("crate::").skip(1) {
                let name: String = mention.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let Some(other) = floor(&name) else { continue };
                if name != source.module && other >= own {
                    broken.push(format!("{}:{number}: {} knows {name}", source.path.display(), source.module));
                }
            }
        }
    }
    assert!(broken.is_empty(), "imports that do not look down:\n{}", broken.join("\n"));
}

#[test]
fn every_module_has_its_floor() {
    let binary = ["main", "lib", "cli", "ctl", "hangup", "logging", "passwd", "stop"];
    for source in sources() {
        let known = floor(&source.module).is_some() || binary.contains(&source.module.as_str());
        assert!(known, "{} is on no floor: add it to FLOORS", source.path.display());
    }
}

#[test]
fn what_belongs_to_the_runtime_stays_there() {
    let net = floor("net").expect("net has a floor");
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| floor(&source.module).is_some_and(|floor| floor < net)) {
        for (number, line) in &source.lines {
            for (word, instead) in OUTSIDE.iter().filter(|(word, _)| line.contains(word)) {
                broken.push(format!("{}:{number}: {word}: {instead}", source.path.display()));
            }
        }
    }
    // Configuration is read from its file by itself: a value that reads itself once, before anything runs.
    broken.retain(|line| !(line.contains("src/config") && line.contains("std::fs")));
    assert!(broken.is_empty(), "what does not belong below net:\n{}", broken.join("\n"));
}

#[test]
fn unsafe_code_lives_in_the_socket_ring_alone() {
    for source in sources() {
        let file = source.path.file_name().expect("a file has a name").to_string_lossy();
        let in_ring = source.module == "net" && file.starts_with("ring");
        let line = source.lines.iter().find(|(_, line)| line.contains("unsafe ") && !line.contains("unsafe_"));
        assert!(in_ring || line.is_none(), "{}:{}", source.path.display(), line.map_or(0, |(number, _)| *number));
    }
}
