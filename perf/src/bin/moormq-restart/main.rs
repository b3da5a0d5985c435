//! moormq-restart: how soon a broker is there again that was killed, with many sessions and many messages in its store.
//!
//! Starts the real broker with a store, makes kept sessions with a subscription each, leaves, and publishes to all of them at QoS 1. Then the broker is
//! killed with SIGKILL and started again, and a client counts the time: from the start until its CONNACK says that its session is there, and until its first
//! message. Some of the sessions are looked at in full: every message has to be there, once and in order.

mod args;
mod outcome;
mod report;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use moormq_perf_shared::kept_sessions::{self, in_parts, name, payload, topic};
use moormq_perf_shared::store::size_of;
use moormq_perf_shared::under_test::{self, Failure, UnderTest};
use moormq_perf_shared::waiting_client::Client;

use args::Args;
use outcome::{Outcome, Restart};

/// Messages of one of them that are not acknowledged.
const WINDOW: usize = 200;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("moormq-restart: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    under_test::lift_open_files(0)?;
    let program = under_test::program(args.moormq.as_deref())?;
    let configure = |port, folder: &Path| Ok(configuration(args, port, &folder.join("store")));
    let mut broker = UnderTest::start("moormq-restart", Command::new(&program), configure)?;
    let address = broker.address();
    eprintln!("{} sessions ...", args.sessions);
    let making = kept_sessions::make(address, args.sessions)?;
    eprintln!("{} messages ...", args.messages);
    let filling = in_parts(args.sessions, |of| {
        let mut publisher = Client::connect(address, &format!("publisher-{}", of[0]), false)?;
        let rounds = args.messages / args.sessions;
        for round in 0..rounds {
            for session in &of {
                publisher.publish(&topic(*session), &payload(round, args.payload), WINDOW)?;
            }
        }
        publisher.wait_for_all()
    })?;
    let before = broker.memory("VmRSS:");
    let stored = size_of(&broker.folder().join("store"));
    let mut restarts = Vec::new();
    for round in 0..args.rounds {
        eprintln!("restart {} of {} ...", round + 1, args.rounds);
        broker.kill()?;
        let began = Instant::now();
        broker.start_again(Command::new(&program))?;
        let session = round * 7 % args.sessions;
        let mut client = loop {
            match Client::connect(address, &name(session), true) {
                Ok(client) => break client,
                Err(_) if began.elapsed() < Duration::from_secs(120) => thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(error),
            }
        };
        let connack = began.elapsed();
        if !client.session_present {
            return Err(format!("{} has lost its session", name(session)).into());
        }
        client.message()?;
        let first = began.elapsed();
        let (resident, peak) = (broker.memory("VmRSS:"), broker.memory("VmHWM:"));
        // Nothing is acknowledged, so that all is there the next time.
        restarts.push(Restart { connack, first, resident, peak });
    }
    kept_sessions::check(address, args.sessions, args.messages / args.sessions)?;
    let outcome = Outcome { making, filling, before, stored, restarts };
    let page = report::page(args, &under_test::version(&program), &outcome);
    print!("{page}");
    if let Some(file) = &args.output {
        std::fs::write(file, page)?;
    }
    Ok(())
}

fn configuration(args: &Args, port: u16, store: &Path) -> String {
    format!(
        r#"shards = {}
allow_anonymous = true

[log]
filter = "warn,moormq=info"

[listeners.default]
address = "127.0.0.1:{port}"

[queue]
max_online_messages = "unlimited"
max_offline_messages = "unlimited"
max_queue_bytes = "unlimited"

{}
[sys]
interval = "0s"
"#,
        args.shards,
        args.store.section(store),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_accepts_its_configuration() {
        let args = Args::parse_from(["moormq-restart", "--shards", "2"]);
        let text = configuration(&args, 1883, Path::new("/s"));
        let config = moormq::config::Config::from_toml(&text, "test").unwrap();
        assert_eq!((config.shards, config.storage.path.as_deref()), (Some(2), Some("/s")));
    }
}
