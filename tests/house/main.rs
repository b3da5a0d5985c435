//! The walls of the house: which module may know which, and what may not be used below `net`.
//!
//! Modules import from floors below their own only; those on one floor do not know each other. Below `net` there is no I/O,
//! no clock, no lock, no `async`; `unsafe` is in the socket ring alone. Within the shard, the hooks, the configuration and
//! each program of `perf` no file needs one that needs it. The shard is three thin layers.

mod graph;
mod made_up;
mod names;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use graph::{File, Graph};
use source::{Source, entries};

/// The floors, lowest first.
const FLOORS: &[&[&str]] = &[
    &["time", "octets"],
    &["random", "credit", "memory", "journal", "numbers"],
    &["tables"],
    &["deadlines", "topic", "codec"],
    &["config"],
    &["client", "message"],
    &["sharding"],
    &["hooks", "session", "connection"],
    // The organs of the shard.
    &[
        "handshake",
        "publishing",
        "routing",
        "delivery",
        "retained",
        "migration",
        "flow",
        "subscribing",
        "pending_hooks",
        "records",
        "archive",
    ],
    &["persistence"],
    &["shard"],
    &["threads"],
    &["storage"],
    &["net", "control", "maintenance"],
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

/// The modules that the documentation shows. All others are private, or public for tests and benchmarks and hidden in it.
const SHOWN: &[&str] = &[
    "broker",
    "client",
    "codec",
    "config",
    "control",
    "control::client",
    "control::protocol",
    "control::status",
    "control::stock_files",
    "hooks",
    "hooks::stock",
    "message",
    "threads",
    "time",
    "topic",
];

/// How large the shard may be, and any `impl` block.
const MOST_FIELDS: usize = 15;
const MOST_METHODS: usize = 60;
const LONGEST_IMPL: usize = 400;

/// The library, and its program as a module `main`: read once for all tests.
static LIBRARY: LazyLock<Graph> = LazyLock::new(|| {
    let sources = Source::of_crate("src");
    assert!(sources.len() > 50, "the library has more files than {}", sources.len());
    Graph::of(sources)
});

fn library() -> impl Iterator<Item = &'static Source> {
    LIBRARY.files_in("src").map(|file| &file.source)
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

#[test]
fn imports_look_down_only() {
    let mut broken = Vec::new();
    for File { source, names } in LIBRARY.files_in("src") {
        let Some(own) = floor(source.room()) else { continue };
        for named in names.named.iter().filter(|named| named.path[0] == "crate") {
            let Some((name, other)) = named.path.get(1).and_then(|name| Some((name, floor(name)?))) else { continue };
            if name != source.room() && other >= own {
                broken.push(format!("{}:{}: {} knows {name}", source.path, named.line, source.room()));
            }
        }
    }
    assert!(broken.is_empty(), "imports that do not look down:\n{}", broken.join("\n"));
}

#[test]
fn every_module_has_its_floor() {
    let binary = ["main", "lib", "cli", "ctl", "hangup", "last_words", "logging", "passwd", "stop", "store"];
    for source in library() {
        let known = floor(source.room()).is_some() || binary.contains(&source.room());
        assert!(known, "{} is on no floor: add it to FLOORS", source.path);
    }
}

/// The table of `src/README.md`, from the highest floor to the lowest, is that of this file.
#[test]
fn the_map_of_the_house_shows_every_module() {
    let map = include_str!("../../src/README.md");
    let rows = map.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?.parse::<usize>().ok()?, cells.next()?))
    });
    let mut shown = vec![BTreeSet::new(); FLOORS.len()];
    rows.for_each(|(floor, modules)| shown[floor].extend(modules.split('`').skip(1).step_by(2)));
    let floors: Vec<BTreeSet<&str>> = FLOORS.iter().map(|floor| floor.iter().copied().collect()).collect();
    assert_eq!(shown, floors);
}

/// The modules that a file declares, if they are public and not hidden in the documentation.
fn shown_by(source: &Source) -> impl Iterator<Item = String> {
    let lines: Vec<&str> = source.lines().map(|(_, line)| line.trim()).collect();
    let is_shown = |(at, line): (usize, &&str)| {
        let name = line.strip_prefix("pub mod ")?.trim_end_matches([';', ' ', '{']);
        let mut attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        let is_hidden = attributes.any(|line| line.contains("doc(hidden)"));
        (!is_hidden).then(|| source.module.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("::"))
    };
    let shown: Vec<String> = lines.iter().enumerate().filter_map(is_shown).collect();
    shown.into_iter()
}

/// Whoever embeds the broker finds the interface in its documentation, and no part of the inside: [`SHOWN`] is what can be seen
/// of the modules, and the table in `lib.rs` what programs are told to look for there.
#[test]
fn the_documentation_shows_the_interface_alone() {
    let public: BTreeSet<String> = library().filter(|source| source.room() != "main").flat_map(shown_by).collect();
    let is_open = |module: &str| module.match_indices("::").all(|(end, _)| public.contains(&module[..end]));
    let seen: Vec<&str> = public.iter().map(String::as_str).filter(|module| is_open(module)).collect();
    assert_eq!(
        seen, SHOWN,
        "hide what is not for programs by #[doc(hidden)], else add it here and to the table of src/lib.rs"
    );
    let rows = include_str!("../../src/lib.rs").lines().filter_map(|line| line.strip_prefix("//! | [`"));
    let told: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    let rooms: BTreeSet<&str> = SHOWN.iter().copied().filter(|module| !module.contains("::")).collect();
    let (missing, gone): (Vec<_>, Vec<_>) =
        (rooms.difference(&told).collect(), told.iter().filter(|told| !SHOWN.contains(told)).collect());
    assert!(missing.is_empty() && gone.is_empty(), "the table of src/lib.rs lacks {missing:?} and has {gone:?}");
}

#[test]
fn what_belongs_to_the_runtime_stays_there() {
    let net = floor("net").expect("net has a floor");
    let mut broken = Vec::new();
    for source in library().filter(|source| floor(source.room()).is_some_and(|floor| floor < net)) {
        for (number, line) in source.lines() {
            for (word, instead) in OUTSIDE.iter().filter(|(word, _)| line.contains(word)) {
                broken.push(format!("{}:{number}: {word}: {instead}", source.path));
            }
        }
    }
    // Configuration is read from its file by itself: a value that reads itself once, before anything runs.
    broken.retain(|line| !(line.contains("src/config") && line.contains("std::fs")));
    broken.retain(|line| !line.contains("src/threads.rs"));
    // The files of the store, and the thread that waits for them.
    broken.retain(|line| !(line.contains("src/storage") && (line.contains("std::fs") || line.contains("std::thread"))));
    // The library that it is made for wants it.
    broken.retain(|line| !line.contains("src/storage/archive/looking.rs"));
    assert!(broken.is_empty(), "what does not belong below net:\n{}", broken.join("\n"));
}

#[test]
fn unsafe_code_lives_in_the_socket_ring_alone() {
    for source in library() {
        let in_ring = source.path.starts_with("src/net/ring");
        let line = source.lines().find(|(_, line)| line.contains("unsafe ") && !line.contains("unsafe_"));
        assert!(in_ring || line.is_none(), "{}:{}", source.path, line.map_or(0, |(number, _)| number));
    }
}

/// Fails if there are circles in `folder`.
fn no_cycles(graph: &Graph, folder: &str) {
    assert!(graph.files_in(folder).next().is_some(), "{folder} has files");
    let cycles = graph.cycles_in(folder);
    assert!(cycles.is_empty(), "files of {folder} that need one another:\n{}", cycles.join("\n"));
}

#[test]
fn no_file_of_hooks_or_configuration_needs_one_that_needs_it() {
    no_cycles(&LIBRARY, "src/hooks");
    no_cycles(&LIBRARY, "src/config");
}

#[test]
fn no_file_of_a_program_in_perf_needs_one_that_needs_it() {
    for program in entries("perf/src/bin").into_iter().chain(["perf/src".to_owned()]) {
        no_cycles(&Graph::of(Source::of_crate(&program)), &program);
    }
}

#[test]
fn no_file_of_the_shard_or_an_organ_needs_one_that_needs_it() {
    no_cycles(&LIBRARY, "src/shard");
    let organs = FLOORS.iter().find(|floor| floor.contains(&"routing")).expect("the organs have a floor");
    for organ in *organs {
        no_cycles(&LIBRARY, &format!("src/{organ}"));
    }
}

#[test]
fn no_file_of_the_journal_or_the_store_needs_one_that_needs_it() {
    no_cycles(&LIBRARY, "src/journal");
    no_cycles(&LIBRARY, "src/storage");
    no_cycles(&LIBRARY, "src/persistence");
    no_cycles(&LIBRARY, "src/records");
    no_cycles(&LIBRARY, "src/maintenance");
}

/// The layers of `src/shard`, one on top of the other: each has few fields and few methods, and there is no other type that is spread
/// over so many files.
#[test]
fn the_layers_are_thin() {
    let names = || LIBRARY.files_in("src/shard").map(|file| &file.names);
    let mut spread: BTreeMap<&str, usize> = BTreeMap::new();
    for names in names() {
        let types: BTreeSet<&str> = names.methods.iter().map(|(of, _)| &**of).collect();
        types.into_iter().for_each(|of| *spread.entry(of).or_default() += 1);
    }
    let layers: Vec<&str> = spread.into_iter().filter(|(_, files)| *files > 2).map(|(of, _)| of).collect();
    assert_eq!(layers, ["Clients", "PubSub", "Shard"]);
    for owner in layers {
        let fields: Vec<usize> = names().filter_map(|names| names.fields.get(owner).copied()).collect();
        let methods = names().flat_map(|names| &names.methods).filter(|(of, _)| of == owner).count();
        let [fields] = fields[..] else { panic!("one {owner}, not {}", fields.len()) };
        assert!(fields <= MOST_FIELDS, "{owner} has {fields} fields");
        assert!((1..=MOST_METHODS).contains(&methods), "{owner} has {methods} methods");
    }
}

#[test]
fn no_impl_block_is_too_long() {
    let mut broken = Vec::new();
    for File { source, names } in LIBRARY.files_in("src") {
        for long in names.impls.iter().filter(|block| block.lines > LONGEST_IMPL) {
            broken.push(format!("{}:{}: {} lines of {}", source.path, long.line, long.lines, long.of));
        }
    }
    assert!(broken.is_empty(), "impl blocks of more than {LONGEST_IMPL} lines:\n{}", broken.join("\n"));
}
