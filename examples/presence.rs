//! A presence logger: prints the lifecycle of every client, and publishes who is online as retained messages.
//!
//! ```text
//! cargo run --example presence              # or, at another address: -- 127.0.0.1:1884
//! mosquitto_sub -t 'presence/#' -v
//! mosquitto_sub -i lamp -t 'lamp/set'
//! ```

use std::sync::mpsc::{Sender, channel};

use moormq::Broker;
use moormq::broker::Publish;
use moormq::client::{EndReason, ExpiredReason};
use moormq::codec::ConnectProperties;
use moormq::config::Config;
use moormq::hooks::{Hook, Notice};

/// Sends the lifecycle of clients to a thread of the program. Each shard has a clone of it.
#[derive(Clone)]
struct Presence {
    events: Sender<(String, &'static str)>,
}

impl Presence {
    fn send(&self, cx: &Notice<'_, ()>, what: &'static str, detail: &str) {
        let client = cx.client();
        println!("{:>4} {} {what} {detail} (from {})", client.session_number, client.subscriber, client.peer);
        // Once the program no longer receives, events are dropped.
        let _ = self.events.send((client.subscriber.client_id.to_string(), what));
    }
}

impl Hook for Presence {
    type State = ();

    fn on_register(&mut self, cx: &mut Notice<'_, ()>) {
        self.send(cx, "registers", "");
    }

    fn on_register_m5(&mut self, cx: &mut Notice<'_, ()>, _: &ConnectProperties<'_>) {
        self.send(cx, "registers", "");
    }

    fn on_client_wakeup(&mut self, cx: &mut Notice<'_, ()>, session_present: bool) {
        self.send(cx, "online", if session_present { "session resumed" } else { "new session" });
    }

    fn on_client_offline(&mut self, cx: &mut Notice<'_, ()>, reason: EndReason) {
        self.send(cx, "offline", &format!("{reason:?}"));
    }

    fn on_client_gone(&mut self, cx: &mut Notice<'_, ()>, reason: EndReason) {
        self.send(cx, "gone", &format!("{reason:?}"));
    }

    fn on_session_expired(&mut self, cx: &mut Notice<'_, ()>, reason: ExpiredReason) {
        self.send(cx, "expired", &format!("{reason:?}"));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (events, received) = channel();
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:1883".to_owned());
    let config =
        Config::from_toml(&format!("allow_anonymous = true\nlisteners.default.address = '{address}'"), "the example")?;
    let broker = Broker::builder().config(config).hook(Presence { events }).start()?;
    println!("listening on {}; end of input stops the broker", broker.addresses()[0].1);
    let handle = broker.handle();
    let publisher = std::thread::spawn(move || {
        for (client_id, state) in received {
            let topic = format!("presence/{client_id}");
            let publish = Publish { topic, payload: state.into(), retain: true, ..Publish::default() };
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
