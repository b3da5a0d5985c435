//! An example program at work.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::thread;

/// A running example. Its input ends when it is dropped, which stops it.
pub struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    /// Starts `examples/NAME.rs` on a free port, and waits until it listens.
    pub fn start(name: &str) -> Program {
        Program::start_with(name, &[])
    }

    /// The same, with these arguments behind its address.
    pub fn start_with(name: &str, arguments: &[&str]) -> Program {
        build();
        let test = env::current_exe().expect("a test knows where it is");
        let folder = test.parent().and_then(|deps| deps.parent()).expect("tests are in target/PROFILE/deps");
        let mut child = Command::new(folder.join("examples").join(name))
            .arg("127.0.0.1:0")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example has been built");
        let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
        let address = lines
            .by_ref()
            .map(|line| line.expect("examples print text"))
            .find_map(|line| line.strip_prefix("listening on ")?.split(';').next()?.parse().ok())
            .expect("it says where it listens");
        // It must not wait for somebody to read what else it prints.
        thread::spawn(move || lines.for_each(drop));
        Program { child, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("it is a child of ours");
        self.child.wait().expect("it is a child of ours");
    }

    /// Ends its input; it must then end itself, in good order.
    pub fn stop(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("it is a child of ours");
        assert!(status.success(), "the example ended with {status}");
    }
}

/// The examples as they are now: `cargo test` has built them, but not if it was asked for this test alone.
fn build() {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--workspace", "--examples"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let status = cargo.status().expect("cargo runs");
        assert!(status.success(), "the examples do not compile");
    });
}
