//! The settings that bound memory and speed: limits, queues, retained messages, and how shards use the machine.
//!
//! Written like `sections`; the clauses and sections cited are those of MQTT 5.0.

use std::time::Duration;

use super::filters::TopicFilters;
use super::kinds::{DollarTopics, Flag, Limited, Never, Rate, Word, one_of};
use super::numbers::{
    COUNT_MAX, Count, EVENTS, GIB, HOUR, KIB, MIB, MILLISECOND, PACKET_SIZE, PowerOfTwo, Size, Span, WAIT,
};
use super::values::{Limit, QueueType, SessionsFull, SharedPolicy};
use super::walk::settings;

/// The most bytes that can be set: a tebibyte.
const BYTES_MAX: usize = 1 << 40;

settings! {
    /// What one client may ask of the broker, and how many clients there may be.
    pub struct LimitsConfig {
        /// How long a new connection may take until its CONNECT is complete (section 3.1.4).
        /// Allowed: a duration from "100ms" to "1h"; default "5s".
        pub connect_timeout: Duration = Duration::from_secs(5), WAIT;
        /// How long an exchange of AUTH packets may take, also that of a connected client (section 4.12).
        /// Allowed: a duration from "100ms" to "1h"; default "10s".
        pub auth_timeout: Duration = Duration::from_secs(10), WAIT;
        /// The largest packet a client may send, fixed header included. MQTT 5.0 clients are told [MQTT-3.2.2-15].
        /// Allowed: a size from "64B" to "268435460B"; default "8MiB".
        pub max_packet_size: usize = 8 * MIB, PACKET_SIZE;
        /// The largest packet taken from a client that is not accepted yet: its CONNECT, and AUTH. `max_packet_size` holds there, too.
        /// Allowed: a size from "64B" to "268435460B"; default "64KiB".
        pub max_connect_size: usize = 64 * KIB, PACKET_SIZE;
        /// Bytes that each shard holds for clients that are not accepted yet: packets that have not come whole, those that a hook is asked
        /// about, and what came behind them. Beyond it, those who have most there are refused, with reason code 0x89.
        /// Allowed: a size from "64KiB" to "1TiB"; default "16MiB".
        pub max_unaccepted_bytes: usize = 16 * MIB, Size(64 * KIB..=BYTES_MAX);
        /// Publishes at QoS 1 and 2 that an MQTT 5.0 client may have unacknowledged; it is told as Receive Maximum
        /// (section 3.2.2.3.3).
        /// Allowed: 1 to 65535; default 1024.
        pub receive_maximum: u16 = 1024, Count(1..=u16::MAX);
        /// Topic aliases that a client may use towards the broker; it is told [MQTT-3.2.2-17].
        /// Allowed: 0 to 65535; default 32.
        pub topic_alias_maximum: u16 = 32, Count(0..=u16::MAX);
        /// Topic aliases that the broker uses towards a client, if the client allows as many.
        /// Allowed: 0 to 65535; default 32.
        pub outbound_topic_aliases: u16 = 32, Count(0..=u16::MAX);
        /// Messages at QoS 1 and 2 that the broker has unacknowledged at a client; a smaller Receive Maximum of the
        /// client wins [MQTT-3.3.4-9].
        /// Allowed: 1 to 65535; default 100.
        pub max_inflight_messages: u16 = 100, Count(1..=u16::MAX);
        /// Publishes a second that are read from a client; beyond that it is read more slowly, nothing is dropped.
        /// Allowed: "unlimited" or 1 to 1000000; default "unlimited".
        pub max_message_rate: u32 = 0, Rate(EVENTS);
        /// Subscriptions of one session.
        /// Allowed: "unlimited" or 1 to 1000000000; default 10000.
        pub max_subscriptions_per_client: Limit = Limit::at_most(10_000), Limited(Count(1..=COUNT_MAX));
        /// Bytes of the topic filters of one session, and of the topics that aliases of its client stand for: so many each. A filter beyond
        /// it is refused, with reason code 0x97; an alias ends the connection with it.
        /// Allowed: "unlimited" or a size from "1KiB" to "1TiB"; default "1MiB".
        pub max_topic_bytes_per_client: Limit = Limit::at_most(MIB), Limited(Size(KIB..=BYTES_MAX));
        /// Topic filters in one SUBSCRIBE or UNSUBSCRIBE. Those that come behind them in a SUBSCRIBE are refused, with reason code 0x97; an
        /// UNSUBSCRIBE with more ends the connection. A packet is served at once, and others wait meanwhile: some 1.5 µs a filter.
        /// Allowed: 1 to 65535; default 1024.
        pub max_filters_per_subscribe: usize = 1024, Count(1..=65535);
        /// Properties of MQTT 5.0 in one packet, user properties nearly always. More end the connection, with reason code 0x97. A packet is
        /// served at once, and others wait meanwhile. Of a CONNECT, `max_connect_size` limits them.
        /// Allowed: "unlimited" or 128 to 1000000000; default 1024.
        pub max_properties: Limit = Limit::at_most(1024), Limited(Count(128..=COUNT_MAX));
        /// Levels of a topic name or topic filter: one more than it has slashes.
        /// Allowed: 1 to 65535; default 32.
        pub max_topic_levels: usize = 32, Count(1..=65535);
        /// Shapes of topic filters in each mountpoint. A shape is a number of levels, and which of them are `+`; a filter has one for each of its
        /// levels: `a/+/b` those of `a`, `a/+` and `a/+/b`. A message visits at most one place of the tree of filters for each shape, however
        /// many filters there are, and others wait meanwhile: some 150 ns a shape. Filters of up to 8 levels, of up to 16 with at most two `+`,
        /// and without `+`, `#` not counted, are always accepted, and their shapes do not count. Another one with which there would be more is
        /// refused, with reason code 0x97 (0x80 before MQTT 5); and so is one with which those of its session alone would be more than an
        /// eighth, though others have them, too. Of a shared subscription the filter behind the share name counts. Shards that accept filters at
        /// the same moment may exceed the limit together, by as much again for each further shard. Sessions that move from shard to
        /// shard are not refused, nor is the embedding program.
        /// Allowed: "unlimited" or 0 to 1000000000; default 4096.
        pub max_wildcard_shapes: Limit = Limit::at_most(4096), Limited(Count(0..=COUNT_MAX));
        /// Topics that begin with $ and that clients may publish to: these, and all below them. Of others with $ nothing is routed. Filters that
        /// begin with a wildcard match none of them [MQTT-4.7.2-1].
        /// Allowed: a list of topics that begin with $, none of them $SYS or $share, such as ["$aws", "$hw/events"]; default [].
        pub dollar_topics: Vec<String> = Vec::new(), DollarTopics;
        /// Memory for all that the broker holds: sessions and subscriptions, messages that wait, are in flight or retained, what came
        /// and is not served, what is to be sent. From 80 % of it on nothing more is retained than there is, from 90 % on those who
        /// publish are held until there is room, at 100 % new clients are refused with reason code 0x97, or return code 3; nobody is
        /// disconnected. "auto" is 70 % of the memory of the machine, or of the control group if that has less.
        /// Allowed: "auto" or "unlimited" or a size from "16MiB" to "1TiB"; default "auto".
        pub max_memory: Option<Limit> = None, Word("auto", Limited(Size(16 * MIB..=BYTES_MAX)));
        /// Connections of the whole broker. "auto" is what the limit on open files of the process leaves room for, and never more.
        /// Further clients are refused with reason code 0x97, or return code 3; if more than 256 come at a time, closed.
        /// Allowed: "auto" or 1 to 1000000000; default "auto".
        pub max_connections: Option<usize> = None, Word("auto", Count(1..=COUNT_MAX));
        /// Sessions of the whole broker, those of offline clients included.
        /// Allowed: "unlimited" or 1 to 1000000000; default 1000000.
        pub max_sessions: Limit = Limit::at_most(1_000_000), Limited(Count(1..=COUNT_MAX));
        /// What happens to a newcomer when `max_sessions` is reached: it is refused, with reason code 0x97, or the session
        /// whose client has been away longest ends to make room for it. If there is none, it is refused all the same.
        /// Allowed: "refuse" or "expire"; default "refuse".
        pub sessions_full: SessionsFull = SessionsFull::Refuse, one_of();
        /// New connections a second that each listener accepts.
        /// Allowed: "unlimited" or 1 to 1000000; default "unlimited".
        pub connection_rate: u32 = 0, Rate(EVENTS);
        /// The highest QoS that clients may publish at and subscriptions are granted. MQTT 5.0 clients are told
        /// [MQTT-3.2.2-9].
        /// Allowed: 0 to 2; default 2.
        pub maximum_qos: u8 = 2, Count(0..=2);
        /// Whether messages may be retained. MQTT 5.0 clients are told if not [MQTT-3.2.2-14].
        /// Allowed: true or false; default true.
        pub retain_available: bool = true, Flag;
        /// Whether topic filters may contain wildcards. MQTT 5.0 clients are told if not (section 3.2.2.3.11).
        /// Allowed: true or false; default true.
        pub wildcard_available: bool = true, Flag;
        /// Whether there are shared subscriptions. MQTT 5.0 clients are told if not (section 3.2.2.3.13).
        /// Allowed: true or false; default true.
        pub shared_available: bool = true, Flag;
        /// Whether there are subscription identifiers. MQTT 5.0 clients are told if not (section 3.2.2.3.12).
        /// Allowed: true or false; default true.
        pub subscription_ids_available: bool = true, Flag;
    }
}

settings! {
    /// Messages that wait for a client.
    pub struct QueueConfig {
        /// Messages that wait for a connected client, beyond those in flight. What is retained for a new subscription does not wait
        /// here, but where it is kept. Memory is bounded by `max_queue_bytes`; a count would cut a burst of small messages to a client
        /// that reads. More may wait of shared subscriptions, and of what must not be dropped, while those who publish it are held:
        /// what was under way when they were told to wait.
        /// Allowed: "unlimited" or 0 to 1000000000; default "unlimited".
        pub max_online_messages: Limit = Limit::UNLIMITED, Limited(Count(0..=COUNT_MAX));
        /// Messages that wait for an offline client.
        /// Allowed: "unlimited" or 0 to 1000000000; default 1000.
        pub max_offline_messages: Limit = Limit::at_most(1000), Limited(Count(0..=COUNT_MAX));
        /// Bytes that wait in the queue of one session: topics, payloads and properties. The default holds eight of the largest
        /// packets that a client may send by default, or half a million small messages. A payload that waits for many clients is
        /// in memory once, and counts for each of them.
        /// Allowed: "unlimited" or a size from "1KiB" to "1TiB"; default "64MiB".
        pub max_queue_bytes: Limit = Limit::at_most(64 * MIB), Limited(Size(KIB..=BYTES_MAX));
        /// Bytes that wait to be sent on one connection because the client does not read. Beyond that messages go to the
        /// queue; and while more than this waits, those who publish to it at QoS 0 have to wait, until half of it is read.
        /// Those who publish at QoS 1 and 2 have to when three quarters of the queue are used.
        /// Allowed: a size from "4KiB" to "1GiB"; default "256KiB".
        pub max_waiting_output_bytes: usize = 256 * KIB, Size(4 * KIB..=GIB);
        /// How long a client can make others wait. It gets back a twentieth of the time that passes otherwise. Connecting
        /// again brings no more: a client whose session ends with its connection, and that was slow to the last, leaves to the next ones from
        /// its address what it has left. When it is used up nobody waits until it has read half of what waits for it: if it reads nothing, QoS 0
        /// for it is dropped, and all when its queue is full. A publisher, too, can be made to wait that
        /// long, by however many clients, and then as much again in ten seconds.
        /// Allowed: a duration from "1ms" to "1h"; default "500ms".
        pub publisher_patience: Duration = Duration::from_millis(500), Span(MILLISECOND..=HOUR);
        /// What must not be dropped for connected clients: who publishes to a topic that one of these filters matches waits for those who
        /// cannot follow, however long it takes, at any QoS. The limits of a queue that count for a client that is away stay as they are. Wills
        /// and what the embedding program publishes are not covered, nor is a message that is larger than twice the queue. A
        /// listener can say the same of all that is for its clients, with `lossless`. Who publishes and is itself a client that cannot
        /// follow does not wait: `publisher_patience` is for it.
        /// Allowed: a list of topic filters, such as ["alarms/#", "orders/+/new"]; default [].
        pub lossless_filters: Vec<String> = Vec::new(), TopicFilters;
        /// Which message goes first, and which is dropped when the queue is full.
        /// Allowed: "fifo" or "lifo"; default "fifo".
        pub queue_type: QueueType = QueueType::Fifo, one_of();
    }
}

settings! {
    /// Shared subscriptions.
    pub struct SharedConfig {
        /// Which member of a shared subscription gets a message. Connected members come before absent ones.
        /// Allowed: "random", "round_robin", "sticky", "hash_publisher" or "local_first"; default "random".
        pub policy: SharedPolicy = SharedPolicy::Random, one_of();
    }
}

settings! {
    /// Retained messages.
    pub struct RetainedConfig {
        /// How many are kept, all mountpoints together.
        /// Allowed: "unlimited" or 0 to 1000000000; default 1000000.
        pub max_messages: Limit = Limit::at_most(1_000_000), Limited(Count(0..=COUNT_MAX));
        /// The largest payload that is kept.
        /// Allowed: "unlimited" or a size from "0B" to "1TiB"; default "unlimited".
        pub max_message_bytes: Limit = Limit::UNLIMITED, Limited(Size(0..=BYTES_MAX));
        /// Bytes that are kept: topics, payloads and properties, all mountpoints together.
        /// Allowed: "unlimited" or a size from "0B" to "1TiB"; default "1GiB".
        pub max_total_bytes: Limit = Limit::at_most(GIB), Limited(Size(0..=BYTES_MAX));
        /// Messages that are fetched for a new subscription at a time, 256KiB of them at most. The next are fetched when these
        /// were sent, as fast as the client takes them.
        /// Allowed: 1 to 65536; default 256.
        pub page_messages: usize = 256, Count(1..=65_536);
    }
}

settings! {
    /// What the broker publishes about itself.
    pub struct SysConfig {
        /// How often. Topics that would go to a shard which is so busy that the queue to it is full are left out until the next time.
        /// Allowed: "never" or a duration from "1ms" to "1h"; default "20s".
        pub interval: Duration = Duration::from_secs(20), Never(Span(MILLISECOND..=HOUR));
    }
}

settings! {
    /// How shards use the machine.
    pub struct RuntimeConfig {
        /// Receive buffers of each shard. A connection holds one only while it has unread bytes.
        /// Allowed: a power of two from 16 to 32768; default 256.
        pub receive_buffers: usize = 256, PowerOfTwo(16..=32768);
        /// How large a receive buffer is: what one read takes at most.
        /// Allowed: a size from "512B" to "1MiB"; default "16KiB".
        pub receive_buffer_size: usize = 16 * KIB, Size(512..=MIB);
        /// Entries of the submission queue of each shard's ring.
        /// Allowed: a power of two from 64 to 32768; default 1024.
        pub ring_entries: usize = 1024, PowerOfTwo(64..=32768);
        /// Bytes of messages that may wait between two shards before those who publish to that shard are read more slowly. Fewer if they are a
        /// lot of work to it: not more of them wait than it does in about a millisecond.
        /// Allowed: a size from "64KiB" to "1GiB"; default "2MiB".
        pub mailbox_bytes: usize = 2 * MIB, Size(64 * KIB..=GIB);
        /// How many times a shard with nothing to do looks again before it sleeps. Saves the wake-up, costs the core.
        /// Allowed: 0 to 1000000; default 4.
        pub spin: u32 = 4, Count(0..=1_000_000);
        /// How long an orderly stop may take; what is left then is cut. A quarter of it is for clients that acknowledge what waits
        /// for them.
        /// Allowed: a duration from "0s" to "1h"; default "10s".
        pub shutdown_timeout: Duration = Duration::from_secs(10), Span(Duration::ZERO..=HOUR);
        /// Connections that may wait to be accepted, per listener and shard; the kernel has a limit of its own
        /// (net.core.somaxconn).
        /// Allowed: 1 to 65535; default 4096.
        pub listen_backlog: u32 = 4096, Count(1..=65535);
    }
}
