//! Counts what each client publishes, and has its counts again when it was killed: what a link keeps with a session is stored with it.
//!
//! ```text
//! cargo run --example metering -- 127.0.0.1:1883 /tmp/metering
//! mosquitto_pub -i ann -c -q 1 -t t -m hello        # as often as you like; -c: the session is kept
//! kill -9 PID, start it again
//! mosquitto_sub -t 'meter/#' -v                     # meter/ann 1
//! ```

use std::sync::mpsc::{Sender, channel};

use moormq::Broker;
use moormq::broker::Publish;
use moormq::client::EndReason;
use moormq::config::Config;
use moormq::hooks::{Hook, Notice, Published, V3Only};

/// Counts, and reports the counts of clients whose connection has ended.
#[derive(Clone)]
struct Meter {
    reports: Sender<(String, u64)>,
}

impl Hook for Meter {
    /// How many messages the client has published since it connected.
    type State = u64;

    /// Change it with the form of what is stored, and read the older ones as long as there may be stores with them.
    fn state_version(&self) -> Option<u32> {
        Some(1)
    }

    fn store_state(&self, count: &u64, out: &mut Vec<u8>) {
        out.extend(count.to_le_bytes());
    }

    fn restore_state(&self, version: u32, bytes: &[u8]) -> Option<u64> {
        // Of another version: the count begins anew.
        (version == 1).then(|| bytes.try_into().map(u64::from_le_bytes).ok())?
    }

    fn on_publish(&mut self, cx: &mut Notice<'_, u64>, _: &Published<'_>) {
        *cx.state() += 1;
        // On disk before the client has its PUBACK.
        cx.state_changed();
    }

    /// Also when the broker goes on after it was killed, with `EndReason::ServerCrash`.
    fn on_client_offline(&mut self, cx: &mut Notice<'_, u64>, _: EndReason) {
        // Once the program no longer receives, reports are dropped.
        let _ = self.reports.send((cx.client().subscriber.client_id.to_string(), *cx.state()));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (reports, received) = channel();
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:1883".to_owned());
    let store = std::env::args().nth(2).unwrap_or("metering-store".to_owned());
    let mut config = Config::from_toml("allow_anonymous = true", "the example")?;
    config.listeners[0].address = address.parse()?;
    config.storage.path = Some(store);
    let broker = Broker::builder().config(config).hook(V3Only(Meter { reports })).start()?;
    println!("listening on {}; end of input stops the broker", broker.addresses()[0].1);
    let handle = broker.handle();
    let publisher = std::thread::spawn(move || {
        for (client_id, count) in received {
            let (topic, payload) = (format!("meter/{client_id}"), count.to_string().into());
            let publish = Publish { topic, payload, retain: true, ..Publish::default() };
            if let Err(error) = handle.publish(publish) {
                eprintln!("not published: {error}");
            }
        }
    });
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    broker.stop()?;
    publisher.join().map_err(|_| "the publisher panicked")?;
    Ok(())
}
