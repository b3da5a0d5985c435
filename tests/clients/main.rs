//! The real program on a free port, and clients that others wrote.
//!
//! rumqttc runs in the test itself; the mosquitto tools, paho-mqtt and MQTT.js are processes of their own. `tests/run`
//! installs what is not there. Nothing here knows the inside of the broker; `raw_connection` sends packets that none of those clients can,
//! and `lifecycle` starts the example `recorder` in place of the program, to compare the calls of its hooks.
//!
//! No test trusts the clock to be quick: what is to happen is waited for, up to [`DEADLINE`]; what must not happen is
//! shown by a later message that arrives without it. Where a test sleeps, it is because something has to be old enough.

mod broker;
mod control;
mod cutter;
mod driver;
mod full;
mod large;
mod lifecycle;
mod listeners;
mod log;
mod logging;
mod loss;
mod memory;
mod messaging;
mod mosquitto;
mod mqtt3;
mod mqtt5;
mod process;
mod properties;
mod raw_connection;
mod refusals;
mod retained;
mod scram;
mod scripts;
mod sessions;
mod shared;
mod starting;
mod stopping;
mod storing;
mod takeovers;
mod wills;

use std::time::Duration;

/// How long anything may take that has to happen. Only a broken broker makes a test wait for it.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs each scenario against brokers of one, two and four shards: what a client sees must not depend on it. With `start =>`
/// in front, scenarios get what `start` makes of the number of shards.
macro_rules! on_every_number_of_shards {
    ($start:path => $($scenario:ident),+ $(,)?) => {
        mod on_1_shard {
            $(#[test] fn $scenario() { super::$scenario($start(1)) })+
        }
        mod on_2_shards {
            $(#[test] fn $scenario() { super::$scenario($start(2)) })+
        }
        mod on_4_shards {
            $(#[test] fn $scenario() { super::$scenario($start(4)) })+
        }
    };
    ($($scenario:ident),+ $(,)?) => {
        $crate::on_every_number_of_shards![$crate::broker::Broker::start => $($scenario),+];
    };
}
use on_every_number_of_shards;
