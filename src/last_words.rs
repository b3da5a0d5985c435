//! What the program does when one of its threads panics or dies: it says so, and ends.
//!
//! A panic goes to the log, with its place. One that the barrier around hooks catches ends nothing. Any other ends its
//! thread, and with a thread the process: a supervisor starts it again, where a broker with a part missing would go on
//! for ever.

use std::panic;
use std::process;
use std::thread;

use moormq::threads;

use crate::logging;

/// The exit status of a process one of whose threads died; the one that Rust gives to a panic.
const DIED: i32 = 101;

/// Has panics logged, and the death of a thread end the process. Call it once.
pub fn arm() {
    // The default hook writes to standard error, and would wait for it.
    panic::set_hook(Box::new(|panic| {
        let (thread, payload) = (thread::current(), panic.payload());
        let message = payload.downcast_ref::<&'static str>().copied();
        let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("not a text");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(thread = thread.name(), place, "panicked: {message}");
    }));
    threads::on_death(|death| {
        logging::say(&format!("moormq: {death}; the process ends, with exit status {DIED}"));
        logging::flush();
        process::exit(DIED);
    });
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use moormq::Broker;
    use moormq::config::{Config, LogConfig};
    use moormq::hooks::Hook;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::process::{Command, Output, Stdio};

    /// How the process ends in which `die` is called. That cannot be had in a test, so it starts the test `name`, the one that
    /// calls this, once more in a child process.
    pub fn ended_by(name: &str, stderr: Stdio, die: impl FnOnce()) -> Output {
        const CHILD: &str = "MOORMQ_TEST_DIES";
        if std::env::var_os(CHILD).is_some() {
            let _log = logging::init(&LogConfig::default()).expect("there are threads");
            arm();
            die();
            unreachable!("the process has ended");
        }
        let program = std::env::current_exe().expect("a test knows its file");
        let mut command = Command::new(program);
        command.args(["--exact", name, "--nocapture"]).env(CHILD, "1").stdout(Stdio::null()).stderr(stderr);
        command.spawn().expect("a test can be started again").wait_with_output().expect("it ends")
    }

    #[test]
    fn a_thread_that_dies_ends_the_process_with_a_last_line() {
        let run = |stderr: Stdio| {
            ended_by("last_words::tests::a_thread_that_dies_ends_the_process_with_a_last_line", stderr, || {
                threads::start("moormq-part", || panic!("a bug")).expect("there are threads").join().ok();
            })
        };
        let ended = run(Stdio::piped());
        let said = String::from_utf8_lossy(&ended.stderr);
        let last = "moormq: thread moormq-part died: it panicked; the process ends, with exit status 101";
        assert_eq!((ended.status.code(), said.lines().last()), (Some(DIED), Some(last)), "{said}");
        assert!(said.contains("panicked: a bug") && said.contains("last_words.rs"), "{said}");
        // It ends the same way if nobody hears it.
        let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        assert_eq!(run(Stdio::from(full)).status.code(), Some(DIED));
    }

    /// A link whose state cannot be made, against its contract: no barrier stands around that.
    #[derive(Clone)]
    struct Broken;

    #[derive(Debug)]
    struct Unmakeable;

    impl Default for Unmakeable {
        fn default() -> Self {
            panic!("a bug")
        }
    }

    impl Hook for Broken {
        type State = Unmakeable;
    }

    /// A client connects, its shard dies of it, and the process with it.
    #[test]
    fn a_shard_that_dies_ends_the_process_with_a_last_line() {
        let ended =
            ended_by("last_words::tests::a_shard_that_dies_ends_the_process_with_a_last_line", Stdio::piped(), || {
                let settings = "shards = 2\nallow_anonymous = true\nlisteners.default.address = \"127.0.0.1:0\"\n";
                let config = Config::from_toml(settings, "inline").expect("it is a configuration");
                let broker = Broker::builder().config(config).hook(Broken).start().expect("it starts");
                let mut stream = TcpStream::connect(broker.addresses()[0].1).expect("it listens");
                stream.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a").expect("it is connected");
                // The shard dies, and the process a little later: nobody else ends this wait.
                let _ = stream.read(&mut [0]);
                thread::sleep(std::time::Duration::from_secs(120));
            });
        let said = String::from_utf8_lossy(&ended.stderr);
        let last = said.lines().last().unwrap_or_default();
        assert_eq!(ended.status.code(), Some(DIED), "{said}");
        assert!(last.starts_with("moormq: thread shard-"), "{said}");
        assert!(last.ends_with(" died: it panicked; the process ends, with exit status 101"), "{said}");
        assert!(said.contains("panicked: a bug"), "{said}");
    }
}
