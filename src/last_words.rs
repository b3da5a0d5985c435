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
mod tests {
    use super::*;
    use moormq::config::LogConfig;
    use std::process::{Command, Stdio};

    /// The end of a process cannot be had in a test: it runs itself again in a child process.
    #[test]
    fn a_thread_that_dies_ends_the_process_with_a_last_line() {
        const CHILD: &str = "MOORMQ_TEST_DIES";
        const NAME: &str = "last_words::tests::a_thread_that_dies_ends_the_process_with_a_last_line";
        if std::env::var_os(CHILD).is_some() {
            let _log = logging::init(&LogConfig::default()).expect("there are threads");
            arm();
            threads::start("moormq-part", || panic!("a bug")).expect("there are threads").join().ok();
            unreachable!("the process has ended");
        }
        let run = |stderr: Stdio| {
            let program = std::env::current_exe().expect("a test knows its file");
            let mut command = Command::new(program);
            command.args(["--exact", NAME, "--nocapture"]).env(CHILD, "1").stdout(Stdio::null()).stderr(stderr);
            command.spawn().expect("a test can be started again").wait_with_output().expect("it ends")
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
}
