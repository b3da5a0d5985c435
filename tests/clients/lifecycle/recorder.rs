//! The example `recorder` as the broker of a test: its lines about each client, taken piece by piece.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::trace::{self, Line};
use crate::broker::Broker;

/// A running recorder.
pub struct Recorder {
    broker: Broker,
    /// How many lines about each client were taken.
    taken: RefCell<BTreeMap<String, usize>>,
}

impl Recorder {
    /// A recorder with `shards` shards and these sections in its configuration, which lets everybody in.
    pub fn with(shards: usize, sections: &str) -> Recorder {
        Recorder { broker: Broker::of(program(), shards, sections), taken: RefCell::default() }
    }

    /// Where clients connect.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Gives it a line on standard input.
    pub fn order(&mut self, line: &str) {
        self.broker.process().order(line);
    }

    /// Waits until it has written as many more lines about `id` as `expected` has, and compares them. Further lines stay for the
    /// next call, and for the end.
    pub fn expect(&self, id: &str, expected: &[&str]) {
        let mut taken = self.taken.borrow_mut();
        let from = taken.entry(id.to_owned()).or_default();
        let stdout = self.broker.stdout();
        let what = format!("{expected:?} about {id}");
        let lines = stdout.pick(&what, |lines| {
            let lines = trace::lifecycle_of(lines, id);
            (lines.len() >= *from + expected.len()).then_some(lines)
        });
        let until = *from + expected.len();
        assert_eq!(lines[*from..until], *expected, "about {id}, after {:#?}", &lines[..*from]);
        *from = until;
    }

    /// Everything about `id` up to now, as written.
    pub fn lines_of(&self, id: &str) -> Vec<Line> {
        trace::lines_of(&self.broker.stdout().all(), id)
    }

    /// Waits until there are `count` lines of `hook` about `id`.
    pub fn wait_for(&self, id: &str, hook: &str, count: usize) {
        let what = format!("{count} times {hook} of {id}");
        self.broker.stdout().pick(&what, |lines| {
            let lines = trace::lines_of(lines, id);
            (lines.iter().filter(|line| line.hook == hook).count() >= count).then_some(())
        });
    }

    /// Stops it in an orderly way. When it has ended, everything is written: nothing more about anybody than was taken and
    /// what the stop brings, and about everybody what the grammar allows.
    pub fn finish(mut self) {
        self.stop();
        self.ended();
    }

    /// Stops it in an orderly way, and waits until the process has ended.
    pub fn stop(&mut self) {
        let status = self.broker.stop();
        assert!(status.success(), "{status}");
        self.broker.process().stdout().wait_for_end();
    }

    /// The checks of [`Recorder::finish`], once it was stopped.
    pub fn ended(mut self) {
        let lines = self.broker.process().stdout().all();
        for id in trace::clients(&lines) {
            let lifecycle = trace::lifecycle_of(&lines, &id);
            trace::check_grammar(&id, &trace::lines_of(&lines, &id));
            let taken = self.taken.borrow().get(&id).copied().unwrap_or(0);
            let surplus: Vec<_> = lifecycle[taken..].iter().filter(|line| !is_of_stop(line)).collect();
            assert!(taken == 0 || surplus.is_empty(), "about {id} it also wrote {surplus:?}: {lifecycle:#?}");
        }
    }
}

fn is_of_stop(line: &str) -> bool {
    line.ends_with(" ServerShutdown") || line.ends_with(" unsubscribed all")
}

/// The example, built: `cargo test --test clients` alone would not do that.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is below the target directory");
        let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--workspace", "--example", "recorder"]);
        cargo.args(["--profile", profile, "--target-dir"]).arg(target);
        let output = cargo.output().expect("cargo runs the tests");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        target.join(if profile == "dev" { "debug" } else { profile }).join("examples/recorder")
    })
}
