//! A recorder: writes one line for every call of every hook, so that the life of a client can be watched, or tested.
//!
//! ```text
//! cargo run --example recorder -- --listen 127.0.0.1:1883 --shards 2
//! mosquitto_sub -i lamp -t 'lamp/#' -c -q 1
//! ```
//!
//! A line on standard output is
//!
//! ```text
//! NUMBER "SUBSCRIBER" VERSION HOOK [ARGUMENT=VALUE ...]
//! 7 "lamp" 3.1.1 on_client_offline reason=ConnectionLost
//! ```
//!
//! NUMBER is the session number, 0 before the client is registered; SUBSCRIBER is client id, or mountpoint:client id.
//! Texts and payloads are quoted as in Rust, so that a line is a line. Passwords and authentication data are not shown.
//!
//! It answers *next* to every question: with a configuration (`--config FILE`) the password, ACL and SCRAM files named
//! there decide, without one everybody may do everything. Lines on standard input are orders: `disconnect CLIENT_ID`
//! ends a connection, `remove CLIENT_ID` its session too, `move SHARD CLIENT_ID` moves it to another shard. SIGTERM or
//! SIGINT stops.

use std::error::Error;
use std::fmt::Arguments;
use std::io::{Write, stdin, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use moormq::Broker;
use moormq::broker::Handle;
use moormq::client::{Client, DropReason, EndReason, ExpiredReason};
use moormq::codec::{ConnectProperties, ProtocolVersion, QoS};
use moormq::config::Config;
use moormq::control::stock_files::StockFiles;
use moormq::hooks::*;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Records the calls of its hooks. Each shard has a clone of it.
#[derive(Clone)]
struct Recorder;

/// Writes one line. If nobody reads any more, the broker goes on.
fn record(client: &Client, hook: &str, arguments: Arguments<'_>) {
    let version = match client.version {
        ProtocolVersion::V31 => "3.1",
        ProtocolVersion::V311 => "3.1.1",
        ProtocolVersion::V5 => "5",
    };
    let line = format!("{} {:?} {version} {hook} {arguments}", client.session_number, client.subscriber.to_string());
    let _ = writeln!(stdout().lock(), "{}", line.trim_end());
}

/// The questions: each is recorded with what is shown of it, and answered with *next*.
macro_rules! asked {
    ($($hook:ident($question:ident: $Question:ty) -> $Answer:ty => ($($format:tt)+);)*) => {
        $(fn $hook(&mut self, cx: &mut Context<'_, ()>, $question: &$Question) -> $Answer {
            record(cx.client(), stringify!($hook), format_args!($($format)+));
            <$Answer>::Next
        })*
    };
}

/// The notifications.
macro_rules! notifications {
    ($($hook:ident($($name:ident: $Argument:ty),*) => ($($format:tt)+);)*) => {
        $(fn $hook(&mut self, cx: &mut Notice<'_, ()>, $($name: $Argument),*) {
            record(cx.client(), stringify!($hook), format_args!($($format)+));
        })*
    };
}

fn message(topic: &str, payload: &[u8], qos: QoS, retain: bool) -> String {
    format!("topic={topic:?} qos={} retain={retain} payload=\"{}\"", qos as u8, payload.escape_ascii())
}

fn filters(requested: &[RequestedFilter<'_>]) -> Vec<(String, u8)> {
    requested.iter().map(|asked| (asked.filter.to_owned(), asked.options.qos as u8)).collect()
}

impl Hook for Recorder {
    type State = ();

    asked! {
        on_auth_m5(exchange: AuthExchange<'_>) -> Answer<AuthStep, ConnectRefusalM5>
            => ("stage={:?} method={:?}", exchange.stage, exchange.method);
        auth_on_register(it: Register<'_>) -> Answer<RegisterModifiers, ConnectRefusal>
            => ("clean_session={} keep_alive={} will={:?}",
                it.clean_session, it.keep_alive, it.will.map(|will| will.topic));
        auth_on_register_m5(it: RegisterM5<'_>) -> Answer<RegisterModifiersM5, ConnectRefusalM5>
            => ("clean_start={} keep_alive={} will={:?}",
                it.clean_start, it.keep_alive, it.will.map(|will| will.topic));
        auth_on_publish(it: PublishRequest<'_>) -> Answer<PublishModifiers, PublishRefusal>
            => ("{} will={}", message(it.topic, it.payload, it.qos, it.retain), it.is_will);
        auth_on_publish_m5(it: PublishRequestM5<'_>) -> Answer<PublishModifiersM5, PublishRefusalM5>
            => ("{} will={}", message(it.topic, it.payload, it.qos, it.retain), it.is_will);
        auth_on_subscribe(it: SubscribeRequest<'_>) -> Answer<SubscribeModifiers, SubscribeRefusal>
            => ("filters={:?}", filters(it.filters));
        auth_on_subscribe_m5(it: SubscribeRequestM5<'_>) -> Answer<SubscribeModifiersM5, SubscribeRefusalM5>
            => ("filters={:?}", filters(it.filters));
        on_unsubscribe(it: UnsubscribeRequest<'_>) -> Answer<UnsubscribeModifiers, std::convert::Infallible>
            => ("filters={:?}", it.filters);
        on_unsubscribe_m5(it: UnsubscribeRequestM5<'_>) -> Answer<UnsubscribeModifiersM5, std::convert::Infallible>
            => ("filters={:?}", it.filters);
        on_deliver(it: Delivery<'_>) -> DeliverAnswer<DeliverModifiers>
            => ("{}", message(it.topic, it.payload, it.qos, it.retain));
        on_deliver_m5(it: DeliveryM5<'_>) -> DeliverAnswer<DeliverModifiersM5>
            => ("{}", message(it.topic, it.payload, it.qos, it.retain));
    }

    notifications! {
        on_register() => ("");
        on_register_m5(it: &ConnectProperties<'_>) => ("session_expiry={}", it.session_expiry.unwrap_or(0));
        on_client_wakeup(session_present: bool) => ("session_present={session_present}");
        on_client_offline(reason: EndReason) => ("reason={reason:?}");
        on_client_gone(reason: EndReason) => ("reason={reason:?}");
        on_session_expired(reason: ExpiredReason) => ("reason={reason:?}");
        on_publish(it: &Published<'_>)
            => ("{} will={}", message(it.topic, it.payload, it.qos, it.retain), it.is_will);
        on_publish_m5(it: &PublishedM5<'_>)
            => ("{} will={}", message(it.topic, it.payload, it.qos, it.retain), it.is_will);
        on_subscribe(it: &Subscribed<'_>) => ("filters={:?}", filters(it.filters));
        on_subscribe_m5(it: &SubscribedM5<'_>) => ("filters={:?}", filters(it.filters));
        on_topic_unsubscribed(which: Unsubscribed<'_>) => ("topics={which:?}");
        on_offline_message(it: &OfflineMessage<'_>) => ("{}", message(it.topic, it.payload, it.qos, it.retain));
        on_message_drop(it: &DroppedMessage<'_>, reason: DropReason)
            => ("{} reason={}", message(it.topic, it.payload, it.qos, it.retain), reason.name());
    }
}

#[derive(Parser)]
struct Args {
    /// A configuration file as `moormq print-config` writes it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, instead of where the configuration says
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// How many shards to run, instead of one per core
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
}

/// Carries out the orders on standard input, one after the other, as long as there are any.
fn obey(broker: &Handle) {
    for line in stdin().lines().map_while(Result::ok) {
        if let Err(error) = carry_out(broker, &line) {
            eprintln!("{line}: {error}");
        }
    }
}

fn carry_out(broker: &Handle, order: &str) -> Result<(), Box<dyn Error>> {
    match order.split_once(' ') {
        Some(("disconnect", client_id)) => broker.disconnect("", client_id, false)?,
        Some(("remove", client_id)) => broker.disconnect("", client_id, true)?,
        Some(("move", rest)) => {
            let (shard, client_id) = rest.split_once(' ').ok_or("move SHARD CLIENT_ID")?;
            let slots: Vec<u16> = broker.find([("", client_id)])?.iter().map(|berth| berth.slot).collect();
            broker.move_slots(&slots, shard.parse()?, Duration::from_secs(60), |_| true)?;
        }
        _ => return Err("the orders are disconnect, remove and move".into()),
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut config = match &args.config {
        Some(file) => Config::load(file)?,
        None => Config::quick_start(),
    };
    config.shards = args.shards.or(config.shards);
    if let Some(address) = args.listen {
        config.listeners.iter_mut().for_each(|listener| listener.address = address);
    }
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    let files = StockFiles::open(&config)?;
    let broker = Broker::builder().config(config).hook(Recorder).hook(files.hooks()).start()?;
    for (listener, address) in broker.addresses() {
        eprintln!("listener=\"{listener}\" address={address} shards={}", broker.shards());
    }
    let handle = broker.handle();
    std::thread::spawn(move || obey(&handle));
    signals.forever().next();
    // Every hook has been called, and every line written, when it returns.
    Ok(broker.stop()?)
}
