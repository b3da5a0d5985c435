//! Every setting, section by section (what bounds memory and speed: `limits`): what it does, its unit, its limits and
//! its default.
//!
//! The last line of each text is what is allowed and the default; a test holds it to both. Clauses and sections are
//! those of MQTT 5.0.

use std::net::SocketAddr;
use std::time::Duration;

use super::kinds::{Flag, Limited, ListOf, Never, Rate, SomeOf, Word, address, cores, log_filter, mountpoint, one_of};
use super::limits::{LimitsConfig, QueueConfig, RetainedConfig, RuntimeConfig, SharedConfig, SysConfig};
use super::numbers::{
    COUNT_MAX, Count, DAY, EVENTS, GIB, HOUR, KIB, LONG, MIB, MILLISECOND, PACKET_SIZE, SECOND, Seconds, Size, Span,
    WAIT,
};
use super::operating::{ControlConfig, RebalanceConfig};
use super::stock::{AclFileConfig, PasswordFileConfig, ReloadConfig, ScramFileConfig};
use super::storage::StorageConfig;
use super::values::{CpuSet, Limit, LogFormat, OnDeadline, Protocol, StockHook, StoredDurability, UnauthorizedPublish};
use super::walk::{Member, Section, Walker, settings};

/// The shortest time after which the kernel may ask for a client.
const TEN_SECONDS: Duration = Duration::from_secs(10);

settings! {
    /// Everything that can be set. [`Config::default`] is what a file without a single line means.
    pub struct Config {
        /// Shards: threads that each own a part of the clients. Clients keep their shard, whatever core accepted them.
        /// "auto" is one per core in `cpus`.
        /// Allowed: "auto" or 1 to 256; default "auto".
        pub shards: Option<usize> = None, Word("auto", Count(1..=256));
        /// The cores that shards are pinned to, by the kernel's numbers. "all" is every core that the process may run
        /// on.
        /// Allowed: "all" or core numbers, such as "0-3,6"; default "all".
        pub cpus: Option<CpuSet> = None, Word("all", cores());
        /// Whether a client that no hook could validate is let in. A listener can say otherwise; one that can be
        /// reached from other machines has to say true itself.
        /// Allowed: true or false; default false.
        pub allow_anonymous: bool = false, Flag;
    }
    sections {
        /// What is logged on standard error, and how.
        pub log: LogConfig = LogConfig::default();
        /// Where clients connect: a table [listeners.NAME] for each address. Without any there is the one below.
        pub listeners: Vec<ListenerConfig> = vec![ListenerConfig::default()];
        /// What a session is, how long it stays, and how its client has to behave.
        pub session: SessionConfig = SessionConfig::default();
        /// What one client may ask of the broker, and how many clients there may be.
        pub limits: LimitsConfig = LimitsConfig::default();
        /// Messages that wait for a client.
        pub queue: QueueConfig = QueueConfig::default();
        /// Shared subscriptions.
        pub shared: SharedConfig = SharedConfig::default();
        /// Retained messages. One that would exceed a limit is routed, but not kept. Those below $SYS/ are the broker's own and do not count.
        pub retained: RetainedConfig = RetainedConfig::default();
        /// Hooks that answer later. A table [hooks.NAME], named after a hook such as auth_on_register, sets either
        /// value for that hook alone.
        pub hooks: HookConfig = HookConfig::default();
        /// Users and their passwords. Written by `moormq passwd`; files of Mosquitto and of VerneMQ are read as they are.
        pub password_file: PasswordFileConfig = PasswordFileConfig::default();
        /// Who may publish and subscribe to what, in the format of VerneMQ: `topic`, `user`, `pattern`, and also `deny`.
        /// At a listener without it every client that may connect may publish and subscribe to everything.
        pub acl_file: AclFileConfig = AclFileConfig::default();
        /// Users of enhanced authentication with the method SCRAM-SHA-256 (section 4.12, RFC 7677), and their keys.
        /// Written by `moormq passwd --scram`.
        pub scram_file: ScramFileConfig = ScramFileConfig::default();
        /// How changes of the files of `password_file`, `acl_file` and `scram_file` are noticed. SIGHUP has all of them
        /// read at once. One that cannot be used is logged, and what was read before stays in force. What is changed holds
        /// for whoever connects, publishes or subscribes from then on.
        pub reload: ReloadConfig = ReloadConfig::default();
        /// What the broker publishes about itself below $SYS/.
        pub sys: SysConfig = SysConfig::default();
        /// Whether sessions that are kept, what waits for them, and retained messages are on disk, so that they survive the end of the broker. Without
        /// a directory they are in memory alone.
        pub storage: StorageConfig = StorageConfig::default();
        /// How operators reach a running broker, with `moormq ctl`.
        pub control: ControlConfig = ControlConfig::default();
        /// Whether the broker moves clients from a shard that is busier than the others. What counts are the PUBLISH packets
        /// that clients send and are sent; clients move by slots, of which there are 4096, and notice nothing.
        pub rebalance: RebalanceConfig = RebalanceConfig::default();
        /// How shards use the machine. The defaults suit most; measure before and after a change.
        pub runtime: RuntimeConfig = RuntimeConfig::default();
    }
}

settings! {
    /// What is logged, and how.
    pub struct LogConfig {
        /// What is logged: off, error, warn, info, debug or trace, for everything or by target. Nothing is logged per
        /// packet at info; a release build has no trace.
        /// Allowed: a level such as "info", or directives such as "info,moormq::net=debug"; default "info".
        pub filter: String = "info".to_owned(), log_filter();
        /// How a line looks.
        /// Allowed: "text" or "json"; default "text".
        pub format: LogFormat = LogFormat::Text, one_of();
        /// Lines of one kind, which differ in their values only, that are written in a second. Further ones are counted, and
        /// one line says how many there were.
        /// Allowed: "unlimited" or 1 to 1000000; default 100.
        pub max_lines_per_second: u32 = 100, Rate(EVENTS);
        /// Bytes of lines that wait to be written because standard error takes nothing. Nobody waits for it: further lines are
        /// left out, and counted.
        /// Allowed: a size from "4KiB" to "1GiB"; default "1MiB".
        pub max_waiting_bytes: usize = MIB, Size(4 * KIB..=GIB);
    }
}

settings! {
    /// One address where clients connect. What is "inherit" holds as the sections `limits` and `session` have it.
    pub struct ListenerConfig {
        /// Where it listens, on every shard: an IP address or the name of a host. An IPv6 address stands in brackets. A name is
        /// looked up once, when this is read; its first address of IPv4 counts, or else its first. Port 0 takes any free port.
        /// Allowed: an address and port, such as "127.0.0.1:1883" or "localhost:1883"; default "127.0.0.1:1883".
        pub address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 1883)), address();
        /// The namespace its clients live in: client ids, topics and retained messages of two mountpoints never meet.
        /// Allowed: at most 64 bytes of text without control characters, + and #; default "".
        pub mountpoint: String = String::new(), mountpoint();
        /// The versions of MQTT it speaks.
        /// Allowed: a list of at least one, each once, of "3.1", "3.1.1" or "5"; default ["3.1", "3.1.1", "5"].
        pub protocols: Vec<Protocol> = vec![Protocol::V31, Protocol::V311, Protocol::V5], ListOf(one_of());
        /// Connections it may have at a time; further ones are refused when their CONNECT comes.
        /// Allowed: "unlimited" or 1 to 1000000000; default "unlimited".
        pub max_connections: Limit = Limit::UNLIMITED, Limited(Count(1..=COUNT_MAX));
        /// As `allow_anonymous` of the whole broker, for this listener.
        /// Allowed: "inherit" or true or false; default "inherit".
        pub allow_anonymous: Option<bool> = None, Word("inherit", Flag);
        /// Whether nothing is dropped for its clients while they are connected: who publishes to them waits, however long it takes, as for
        /// `queue.lossless_filters`.
        /// Allowed: true or false; default false.
        pub lossless: bool = false, Flag;
        /// As in `storage`, for this listener.
        /// Allowed: "inherit" or "fsynced", "flushed" or "none"; default "inherit".
        pub durability: Option<StoredDurability> = None, Word("inherit", one_of());
        /// Which of the hooks that come with the program its clients are put to: those of `password_file`, `acl_file` and
        /// `scram_file`. "all" is all that have a file. No two decide about the same client, so the order is free.
        /// Allowed: "all" or a list, each at most once, of "password", "acl" or "scram"; default "all".
        pub hooks: Option<Vec<StockHook>> = None, Word("all", SomeOf(one_of()));
        /// As in `limits`, for this listener.
        /// Allowed: "inherit" or a duration from "100ms" to "1h"; default "inherit".
        pub connect_timeout: Option<Duration> = None, Word("inherit", WAIT);
        /// As in `limits`, for this listener.
        /// Allowed: "inherit" or a size from "64B" to "268435460B"; default "inherit".
        pub max_packet_size: Option<usize> = None, Word("inherit", PACKET_SIZE);
        /// As in `limits`, for this listener.
        /// Allowed: "inherit" or 1 to 65535; default "inherit".
        pub receive_maximum: Option<u16> = None, Word("inherit", Count(1..=u16::MAX));
        /// As in `limits`, for this listener.
        /// Allowed: "inherit" or 0 to 65535; default "inherit".
        pub topic_alias_maximum: Option<u16> = None, Word("inherit", Count(0..=u16::MAX));
        /// As in `limits`, for this listener.
        /// Allowed: "inherit" or "unlimited" or 1 to 1000000; default "inherit".
        pub max_message_rate: Option<u32> = None, Word("inherit", Rate(EVENTS));
        /// As in `limits`, for this listener.
        /// Allowed: "inherit" or "unlimited" or 1 to 1000000; default "inherit".
        pub connection_rate: Option<u32> = None, Word("inherit", Rate(EVENTS));
        /// As in `session`, for this listener.
        /// Allowed: "inherit" or a duration from "1s" to "100years"; default "inherit".
        pub max_connection_lifetime: Option<Duration> = None, Word("inherit", LONG);
        /// After how long without a byte from a client the kernel asks whether its machine is still there (SO_KEEPALIVE). If
        /// that does not answer, the connection ends when it was asked five times, a tenth of that time apart. For clients
        /// without an MQTT keep-alive, and against what forgets idle connections on the way.
        /// Allowed: "never" or a duration from "10s" to "1h"; default "5m".
        pub tcp_keep_alive: Option<Duration> = Some(Duration::from_secs(300)), Word("never", Span(TEN_SECONDS..=HOUR));
    }
    name {
        /// What it is called: in hooks, logs and messages.
        pub name = "default";
    }
}

impl Member for ListenerConfig {
    const NAMES: &[&str] = &[];

    fn named(name: &str) -> Self {
        ListenerConfig { name: name.to_owned(), ..ListenerConfig::default() }
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Section for Vec<ListenerConfig> {
    const MEMBERS_ONLY: bool = true;

    fn walk<W: Walker>(&mut self, walker: &mut W) {
        walker.members(self);
    }
}

settings! {
    /// What a session is, how long it stays, and how its client has to behave.
    pub struct SessionConfig {
        /// How long the session of an MQTT 3.1 or 3.1.1 client that connected with clean session 0 is kept after its
        /// connection ended.
        /// Allowed: "unlimited" or a duration from "1s" to "100years"; default "unlimited".
        pub persistent_session_expiry: Option<Duration> = None, Word("unlimited", LONG);
        /// The longest Session Expiry Interval that an MQTT 5.0 client gets; it is told in CONNACK when that is less
        /// than it asked for (section 3.2.2.3.2).
        /// Allowed: "unlimited" or a duration from "1s" to "100years"; default "unlimited".
        pub max_session_expiry: Option<Duration> = None, Word("unlimited", LONG);
        /// The longest client id, in bytes. All versions of MQTT want at least 23 to be allowed [MQTT-3.1.3-5].
        /// Allowed: 23 to 65535; default 1024.
        pub max_client_id_size: usize = 1024, Count(23..=65535);
        /// Whether client ids and user names may contain + and #, as telephone numbers and e-mail addresses do. No pattern of an
        /// access file gives or denies anything to such a name. Turn it off if hooks of your own put names into topic filters.
        /// Allowed: true or false; default true.
        pub allow_wildcards_in_identity: bool = true, Flag;
        /// Whether a message reaches a subscriber at the QoS of the subscription even if it was published at a lower
        /// one. MQTT wants the lower of the two [MQTT-3.8.4-8].
        /// Allowed: true or false; default false.
        pub upgrade_qos: bool = false, Flag;
        /// Whether the will of a connection is dropped when another one takes over its client id. MQTT wants it
        /// published [MQTT-3.1.2-8].
        /// Allowed: true or false; default false.
        pub suppress_will_on_takeover: bool = false, Flag;
        /// The longest Will Delay Interval; a longer one is cut.
        /// Allowed: "unlimited" or a duration from "1s" to "100years"; default "unlimited".
        pub max_will_delay: Option<Duration> = None, Word("unlimited", LONG);
        /// How often one client id may be taken over by a new connection within `takeover_window`; the next one is
        /// refused. Ends the fight of two clients for one id.
        /// Allowed: "unlimited" or 1 to 1000000; default "unlimited".
        pub takeover_limit: Option<u32> = None, Word("unlimited", Count(1..=1_000_000));
        /// The time in which `takeover_limit` counts.
        /// Allowed: a duration from "1s" to "1day"; default "1m".
        pub takeover_window: Duration = Duration::from_secs(60), Span(SECOND..=DAY);
        /// After how long an unacknowledged message is sent again on the same connection, to MQTT 3.1 and 3.1.1 clients
        /// only: MQTT 5.0 forbids it, and MQTT 3.1.1 needs it on reconnect only [MQTT-4.4.0-1].
        /// Allowed: "never" or a duration from "1ms" to "1h"; default "never".
        pub retry_interval: Duration = Duration::ZERO, Never(Span(MILLISECOND..=HOUR));
        /// What happens to an MQTT 3.1.1 client whose publish was refused. MQTT 5.0 clients get a reason code.
        /// Allowed: "disconnect" or "ignore"; default "disconnect".
        pub unauthorized_publish: UnauthorizedPublish = UnauthorizedPublish::Disconnect, one_of();
        /// The longest keep-alive. An MQTT 5.0 client that asks for more, or for none, is told this one as Server Keep
        /// Alive [MQTT-3.2.2-21]; an older one cannot be told and keeps what it asked for.
        /// Allowed: "unlimited" or a duration of whole seconds from "1s" to "18h 12m 15s"; default "unlimited".
        pub max_keep_alive: Option<u16> = None, Word("unlimited", Seconds);
        /// Bytes a second that must come of a packet that has begun, on average over one and a half times the keep-alive of its client.
        /// While they do, the client counts as alive, however long the packet takes. "unlimited" is any rate, as long as bytes come at all.
        /// Allowed: "unlimited" or a size from "1B" to "1MiB"; default "16B".
        pub min_packet_rate: usize = 16, Rate(Size(1..=MIB));
        /// How long a connection may live; then it is closed, MQTT 5.0 with reason code 0xA0.
        /// Allowed: "unlimited" or a duration from "1s" to "100years"; default "unlimited".
        pub max_connection_lifetime: Option<Duration> = None, Word("unlimited", LONG);
    }
}

settings! {
    /// Hooks that answer later.
    pub struct HookConfig {
        /// How long a hook may take.
        /// Allowed: a duration from "1ms" to "1h"; default "5s".
        pub later_deadline: Duration = Duration::from_secs(5), Span(MILLISECOND..=HOUR);
        /// What a hook counts as that can refuse something and has not answered in time.
        /// Allowed: "refuse" or "allow"; default "refuse".
        pub on_deadline: OnDeadline = OnDeadline::Refuse, one_of();
        /// Tasks of on_message_drop and on_offline_message that may wait to be done on each shard. No client waits for them.
        /// Those of one session may be as many as they leave free; what is over that is not done, and counted as "dropped" of
        /// the hook.
        /// Allowed: 2 to 1000000; default 1000.
        pub max_message_tasks: usize = 1000, Count(2..=1_000_000);
    }
    members {
        /// The hooks that differ.
        pub each: Vec<HookDeadline>;
    }
}

settings! {
    /// How one hook differs from the others.
    pub struct HookDeadline {
        /// As in `hooks`, for this hook.
        /// Allowed: "inherit" or a duration from "1ms" to "1h"; default "inherit".
        pub later_deadline: Option<Duration> = None, Word("inherit", Span(MILLISECOND..=HOUR));
        /// As in `hooks`, for this hook.
        /// Allowed: "inherit" or "refuse" or "allow"; default "inherit".
        pub on_deadline: Option<OnDeadline> = None, Word("inherit", one_of());
    }
    name {
        /// The name of the hook, one of [`HOOKS`].
        pub name = "auth_on_register";
    }
}

/// The names of all hooks.
pub const HOOKS: [&str; 24] = [
    "auth_on_register",
    "auth_on_register_m5",
    "on_auth_m5",
    "on_register",
    "on_register_m5",
    "on_client_wakeup",
    "on_client_offline",
    "on_client_gone",
    "on_session_expired",
    "auth_on_publish",
    "auth_on_publish_m5",
    "on_publish",
    "on_publish_m5",
    "auth_on_subscribe",
    "auth_on_subscribe_m5",
    "on_subscribe",
    "on_subscribe_m5",
    "on_unsubscribe",
    "on_unsubscribe_m5",
    "on_topic_unsubscribed",
    "on_deliver",
    "on_deliver_m5",
    "on_offline_message",
    "on_message_drop",
];

impl Member for HookDeadline {
    const NAMES: &[&str] = &HOOKS;

    fn named(name: &str) -> Self {
        HookDeadline { name: name.to_owned(), ..HookDeadline::default() }
    }

    fn name(&self) -> &str {
        &self.name
    }
}
