//! The configuration: files, the messages about their errors, and the program around them.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use moormq::config::{
    Config, ConfigError, HookDeadline, Limit, ListenerConfig, LogFormat, OnDeadline, Protocol, QueueType, SessionsFull,
    SharedPolicy, StockHook, UnauthorizedPublish,
};

/// The error message for a file with this text.
fn refusal(text: &str) -> String {
    match Config::from_toml(text, "moormq.toml") {
        Ok(config) => panic!("accepted: {text}\n{config:?}"),
        Err(error) => error.to_string(),
    }
}

fn accepted(text: &str) -> Config {
    Config::from_toml(text, "moormq.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn listener(name: &str, address: &str) -> ListenerConfig {
    ListenerConfig {
        name: name.to_owned(),
        address: address.parse().expect("the test writes valid addresses"),
        ..ListenerConfig::default()
    }
}

#[test]
fn an_empty_file_means_the_defaults_and_lets_nobody_in_unasked() {
    let config = accepted("");
    assert_eq!(config, Config::default());
    assert_eq!(config.check(), Ok(()));
    let [only] = &config.listeners[..] else { panic!("one listener") };
    assert_eq!(only.address, SocketAddr::from(([127, 0, 0, 1], 1883)));
    assert!(!config.allows_anonymous(only));
}

#[test]
fn without_a_file_this_machine_may_connect() {
    let config = Config::quick_start();
    assert_eq!(config.check(), Ok(()));
    assert!(config.allows_anonymous(&config.listeners[0]));
    assert!(config.listeners.iter().all(|listener| listener.address.ip().is_loopback()));
}

#[test]
fn the_printed_defaults_are_the_defaults() {
    let printed = Config::print_default();
    assert_eq!(accepted(&printed), Config::default());
    for line in
        ["[listeners.default]", "[session]", "[runtime]", "max_packet_size = \"8MiB\"", "max_queue_bytes = \"64MiB\""]
    {
        assert!(printed.lines().any(|printed| printed == line), "{line}");
    }
}

/// Every printed setting is read back where it was printed: a value that fits nowhere is found on its line, under its
/// key.
#[test]
fn every_printed_setting_is_read() {
    let printed = Config::print_default();
    let lines: Vec<&str> = printed.lines().collect();
    let mut section = String::new();
    let mut settings = 0;
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((name, _)) = line.split_once(" = ") {
            let wrong = format!("{name} = 1979-05-27");
            let text = [&lines[..at], &[&wrong], &lines[at + 1..]].concat().join("\n");
            let start = format!("moormq.toml:{}: {section}{name}: must be ", at + 1);
            let refusal = refusal(&text);
            assert!(refusal.starts_with(&start) && refusal.ends_with(", not 1979-05-27"), "{refusal}");
            settings += 1;
        }
    }
    assert!(settings > 60, "only {settings} settings were found");
}

#[test]
fn every_section_of_a_file_is_taken_over() {
    let config = accepted(
        r#"
        shards = 2
        cpus = "0-3"
        allow_anonymous = true
        log = { filter = "warn,moormq::net=debug", format = "json" }
        shared.policy = "local_first"
        sys.interval = "0s"

        [listeners.plain]
        address = "[::1]:1884"
        mountpoint = "tenant"
        protocols = ["5"]
        max_connections = 10
        receive_maximum = 7
        max_connection_lifetime = "1h"

        [listeners.open]
        address = "0.0.0.0:1883"
        allow_anonymous = false

        [session]
        persistent_session_expiry = "2d"
        max_keep_alive = "20m"
        takeover_limit = 5
        unauthorized_publish = "ignore"

        [limits]
        max_packet_size = "2MiB"
        max_connections = 1000
        sessions_full = "expire"
        maximum_qos = 1

        [queue]
        max_online_messages = -1
        max_queue_bytes = 4096
        queue_type = "lifo"

        [retained]
        max_messages = 0

        [hooks]
        later_deadline = "2s"
        [hooks.on_deliver]
        on_deadline = "allow"

        [runtime]
        receive_buffers = 2048
        "#,
    );
    let mut expected = Config { shards: Some(2), cpus: Some("0-3".parse().unwrap()), ..Config::quick_start() };
    expected.log.filter = "warn,moormq::net=debug".to_owned();
    expected.log.format = LogFormat::Json;
    expected.shared.policy = SharedPolicy::LocalFirst;
    expected.sys.interval = Duration::ZERO;
    expected.listeners = vec![
        ListenerConfig {
            mountpoint: "tenant".to_owned(),
            protocols: vec![Protocol::V5],
            max_connections: Limit::at_most(10),
            receive_maximum: Some(7),
            max_connection_lifetime: Some(Duration::from_secs(3600)),
            ..listener("plain", "[::1]:1884")
        },
        ListenerConfig { allow_anonymous: Some(false), ..listener("open", "0.0.0.0:1883") },
    ];
    expected.session.persistent_session_expiry = Some(Duration::from_secs(2 * 24 * 3600));
    expected.session.max_keep_alive = Some(1200);
    expected.session.takeover_limit = Some(5);
    expected.session.unauthorized_publish = UnauthorizedPublish::Ignore;
    expected.limits.max_packet_size = 2 << 20;
    expected.limits.max_connections = Some(1000);
    expected.limits.sessions_full = SessionsFull::Expire;
    expected.limits.maximum_qos = 1;
    expected.queue.max_online_messages = Limit::UNLIMITED;
    expected.queue.max_queue_bytes = Limit::at_most(4096);
    expected.queue.queue_type = QueueType::Lifo;
    expected.retained.max_messages = Limit::at_most(0);
    expected.hooks.later_deadline = Duration::from_secs(2);
    expected.hooks.each = vec![HookDeadline {
        name: "on_deliver".to_owned(),
        on_deadline: Some(OnDeadline::Allow),
        ..HookDeadline::default()
    }];
    expected.runtime.receive_buffers = 2048;
    assert_eq!(config, expected);

    assert_eq!(config.limits_of(&config.listeners[0]).receive_maximum, 7);
    assert_eq!(config.limits_of(&config.listeners[0]).max_packet_size, 2 << 20);
    assert_eq!(config.limits_of(&config.listeners[1]).receive_maximum, 1024);
    assert_eq!(config.max_connection_lifetime_of(&config.listeners[0]), Some(Duration::from_secs(3600)));
    assert_eq!(config.max_connection_lifetime_of(&config.listeners[1]), None);
    assert_eq!(config.hooks.deadline_of("on_deliver"), (Duration::from_secs(2), OnDeadline::Allow));
    assert_eq!(config.hooks.deadline_of("on_publish"), (Duration::from_secs(2), OnDeadline::Refuse));
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    let cases = [
        ("[limits\n", "moormq.toml:1: not valid TOML: unclosed table, expected `]`"),
        ("shards = 1\nshards = 2\n", "moormq.toml:2: not valid TOML: duplicate key"),
        ("\n\nshards\n", "moormq.toml:3: not valid TOML: key with no value, expected `=`"),
    ];
    for (text, message) in cases {
        assert_eq!(refusal(text), message);
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_likely_one() {
    let cases = [
        (
            "[limits]\nrecieve_maximum = 5\n",
            "moormq.toml:2: limits.recieve_maximum: is not a setting, did you mean receive_maximum?",
        ),
        ("\nlisteners.a.adress = \"\"\n", "moormq.toml:2: listeners.a.adress: is not a setting, did you mean address?"),
        ("[sesion]\n", "moormq.toml:1: sesion: is not a setting, did you mean session?"),
        (
            "[limits]\nfavourite_colour = 1\n",
            "moormq.toml:2: limits.favourite_colour: is not a setting, `moormq print-config` shows all there are",
        ),
        (
            "[hooks.auth_on_registr]\n",
            "moormq.toml:1: hooks.auth_on_registr: is not a setting, did you mean auth_on_register?",
        ),
        (
            "hooks.later_deadlin = \"1s\"\n",
            "moormq.toml:1: hooks.later_deadlin: is not a setting, did you mean later_deadline?",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(refusal(text), message);
    }
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_what_is_expected() {
    let cases = [
        (
            "allow_anonymous = \"yes\"",
            r#"moormq.toml:1: allow_anonymous: must be true or false, not "yes": write true, without quotation marks"#,
        ),
        ("limits = 3", "moormq.toml:1: limits: must be a table, written [limits], not 3"),
        (
            "[[listeners]]\naddress = \"127.0.0.1:1\"",
            "moormq.toml:1: listeners: must be tables, written [listeners.NAME], not [[listeners]]",
        ),
        ("listeners.a = 1883", "moormq.toml:1: listeners.a: must be a table, written [listeners.a], not 1883"),
        (
            "password_file = \"users\"",
            "moormq.toml:1: password_file: must be a table, written [password_file], not \"users\": write password_file.path = ..",
        ),
        (
            "[listeners]\naddress = \"127.0.0.1:1\"",
            "moormq.toml:2: listeners.address: must be a table, written [listeners.address], not \"127.0.0.1:1\": give the \
             listener a name, and write [listeners.NAME] above address",
        ),
        ("hooks.on_publish = 1", "moormq.toml:1: hooks.on_publish: must be a table, written [hooks.on_publish], not 1"),
        (
            "[session]\n\nretry_interval = 20 # seconds\n",
            r#"moormq.toml:3: session.retry_interval: must be "never" or a duration from "1ms" to "1h", not 20: write the unit, too: "20ms", "20s", "20m" (minutes), "20h" or "20days""#,
        ),
        (
            "[session.retry_interval]",
            r#"moormq.toml:1: session.retry_interval: must be "never" or a duration from "1ms" to "1h", not a table"#,
        ),
        ("limits.receive_maximum = 1.5", "moormq.toml:1: limits.receive_maximum: must be 1 to 65535, not 1.5"),
        (
            "listeners.a.protocols = [\n  \"5\",\n  \"4\",\n]",
            r#"moormq.toml:1: listeners.a.protocols: must be a list of at least one, each once, of "3.1", "3.1.1" or "5", not that list"#,
        ),
        (
            "log.filter = '''\nmany\nlines'''",
            "moormq.toml:1: log.filter: must be a level such as \"info\", or directives such as \
             \"info,moormq::net=debug\", not that text",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(refusal(text), message);
    }
}

#[test]
fn a_value_out_of_bounds_is_refused_with_the_bounds() {
    let cases = [
        ("[limits]\nreceive_maximum = 0\n", "moormq.toml:2: limits.receive_maximum: must be 1 to 65535, not 0"),
        ("limits.maximum_qos = 3", "moormq.toml:1: limits.maximum_qos: must be 0 to 2, not 3"),
        ("shards = 0", r#"moormq.toml:1: shards: must be "auto" or 1 to 256, not 0"#),
        ("cpus = \"3-1\"", r#"moormq.toml:1: cpus: must be "all" or core numbers, such as "0-3,6", not "3-1""#),
        (
            "limits.max_packet_size = \"1GiB\"",
            r#"moormq.toml:1: limits.max_packet_size: must be a size from "64B" to "268435460B", not "1GiB""#,
        ),
        (
            "queue.max_offline_messages = -2",
            "moormq.toml:1: queue.max_offline_messages: must be \"unlimited\" or 0 to 1000000000, not -2",
        ),
        (
            "limits.max_wildcard_shapes = -2",
            "moormq.toml:1: limits.max_wildcard_shapes: must be \"unlimited\" or 0 to 1000000000, not -2",
        ),
        (
            "[listeners.a]\naddress = \"localhost\"",
            "moormq.toml:2: listeners.a.address: must be an address and port, such as \"127.0.0.1:1883\" or \
             \"localhost:1883\", not \"localhost\": add the port, such as \"localhost:1883\"",
        ),
        (
            "[listeners.a]\nmountpoint = \"a/+\"",
            "moormq.toml:2: listeners.a.mountpoint: must be at most 64 bytes of text without control characters, + \
             and #, not \"a/+\"",
        ),
        (
            "shared.policy = \"prefer_local\"",
            "moormq.toml:1: shared.policy: must be \"random\", \"round_robin\", \"sticky\", \"hash_publisher\" or \
             \"local_first\", not \"prefer_local\"",
        ),
        (
            "runtime.receive_buffers = 1000",
            "moormq.toml:1: runtime.receive_buffers: must be a power of two from 16 to 32768, not 1000",
        ),
        (
            "session.max_keep_alive = \"20h\"",
            "moormq.toml:1: session.max_keep_alive: must be \"unlimited\" or a duration of whole seconds from \"1s\" \
             to \"18h 12m 15s\", not \"20h\"",
        ),
        (
            "log.filter = \"verbose\"",
            "moormq.toml:1: log.filter: must be a level such as \"info\", or directives such as \
             \"info,moormq::net=debug\", not \"verbose\"",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(refusal(text), message);
    }
}

/// Whoever mends a file is told everything at once, in the order of the file.
#[test]
fn all_errors_of_a_file_are_told_at_once() {
    let text = "\
        shards = 0\n\
        [listeners.a]\n\
        address = \"127.0.0.1\"\n\
        [listeners.b]\n\
        mountpiont = \"x\"\n\
        [limits]\n\
        max_packet_size = \"10M\"\n\
        connect_timeout = 5\n\
        max_connections = 5\n\
        [queue]\n\
        max_packet_size = 7\n\
        [hooks.on_pulbish]\n\
        [retained]\n\
        max_total_bytes = \"1MiB\"\n\
        max_message_bytes = \"2MiB\"\n";
    let expected = "\
        moormq.toml:1: shards: must be \"auto\" or 1 to 256, not 0\n\
        moormq.toml:3: listeners.a.address: must be an address and port, such as \"127.0.0.1:1883\" or \"localhost:1883\", \
        not \"127.0.0.1\": add the port, such as \"127.0.0.1:1883\"\n\
        moormq.toml:5: listeners.b.mountpiont: is not a setting, did you mean mountpoint?\n\
        moormq.toml:7: limits.max_packet_size: must be a size from \"64B\" to \"268435460B\", not \"10M\": write \"10MiB\" \
        (1024) or \"10MB\" (1000)\n\
        moormq.toml:8: limits.connect_timeout: must be a duration from \"100ms\" to \"1h\", not 5: write the unit, too: \
        \"5ms\", \"5s\", \"5m\" (minutes), \"5h\" or \"5days\"\n\
        moormq.toml:11: queue.max_packet_size: is not a setting, did you mean limits.max_packet_size?\n\
        moormq.toml:12: hooks.on_pulbish: is not a setting, did you mean on_publish?\n\
        moormq.toml:15: retained.max_message_bytes: must not be more than retained.max_total_bytes";
    assert_eq!(refusal(text), expected);
    let said = refusal("[limits\nmaximum_qos = 3\n");
    assert_eq!(said.lines().count(), 1, "what stands below a broken head is not outside: {said}");
    // What is not valid TOML does not hide the rest, and is not told twice.
    let text = "shards = \nallow_anonymous = yes\n[limits]\nmaximum_qos = 3\n";
    let said = refusal(text);
    let [first, second, third] = &said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    assert!(first.starts_with("moormq.toml:1: not valid TOML: "), "{said}");
    assert!(second.starts_with("moormq.toml:2: not valid TOML: "), "{said}");
    assert_eq!(*third, "moormq.toml:4: limits.maximum_qos: must be 0 to 2, not 3");
}

/// A value that is wrong says nothing about others: the address of `a` is not what it would be by default.
#[test]
fn a_wrong_value_causes_no_other_error() {
    let said = refusal("[listeners.a]\naddress = 1883\n[listeners.b]\n");
    assert_eq!(said.lines().count(), 1, "{said}");
    let said = refusal("password_file.path = 7\n[listeners.a]\nhooks = [\"password\"]\n");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn shapes_of_filters_may_be_limited_or_not() {
    let most = |value: &str| accepted(&format!("limits.max_wildcard_shapes = {value}")).limits.max_wildcard_shapes;
    assert_eq!(["0", "4096", "\"unlimited\""].map(|value| most(value).get()), [Some(0), Some(4096), None]);
    assert_eq!(Config::default().limits.max_wildcard_shapes, Limit::at_most(4096));
}

/// "unlimited" wherever there is no limit, "never" for what does not happen; no number stands for either.
#[test]
fn the_printed_defaults_have_one_word_for_no_limit() {
    let printed = Config::print_default();
    for line in printed.lines().filter(|line| line.starts_with("# Allowed: ")) {
        assert!(!line.contains("-1") && !line.contains("\"off\""), "{line}");
    }
    // Nothing at all is a number like others; where it means no limit, there is the word for it.
    for words in ["0 is any", "0 is no", "0 means", "0 for no", "0 turns"] {
        assert!(!printed.contains(words), "{words}");
    }
    for setting in
        ["max_message_rate", "connection_rate", "takeover_limit", "persistent_session_expiry", "max_will_delay"]
    {
        assert!(printed.contains(&format!("\n{setting} = \"unlimited\"\n")), "{setting}");
    }
    assert!(printed.contains("\nretry_interval = \"never\"\n"));
    let as_vernemq =
        accepted("queue.max_offline_messages = -1\nlimits.max_message_rate = 0\nsession.retry_interval = \"0s\"");
    let words = accepted(
        "queue.max_offline_messages = \"unlimited\"\nlimits.max_message_rate = \"unlimited\"\nsession.retry_interval = \"never\"",
    );
    assert_eq!(as_vernemq, words);
    let any_rate = |word: &str| accepted(&format!("session.min_packet_rate = {word}"));
    assert_eq!(any_rate("\"unlimited\"").session.min_packet_rate, 0);
    assert_eq!((any_rate("0"), any_rate("\"0B\"")), (any_rate("\"unlimited\""), any_rate("-1")));
}

#[test]
fn a_configuration_of_another_broker_is_recognised() {
    let said =
        refusal("# Place your local configuration in /etc/mosquitto/conf.d/\nlistener 1883\nallow_anonymous true\n");
    assert!(
        said.starts_with("moormq.toml:2: this looks like a configuration of Mosquitto: moormq has its own"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1);
}

#[test]
fn combinations_that_cannot_work_are_refused() {
    let cases = [
        (
            "cpus = \"0-1\"\nshards = 4\n",
            "moormq.toml:2: shards: must be at most 2, the number of cores in cpus, not 4",
        ),
        (
            "[retained]\nmax_total_bytes = \"1MiB\"\nmax_message_bytes = \"2MiB\"\n",
            "moormq.toml:3: retained.max_message_bytes: must not be more than retained.max_total_bytes",
        ),
        ("[listeners]\n", "moormq.toml:1: listeners: must have at least one table [listeners.NAME] with an address"),
        (
            "[listeners.a]\n[listeners.b]\n",
            "moormq.toml:2: listeners.b.address: must differ from that of [listeners.a], which is 127.0.0.1:1883 too",
        ),
        ("[listeners.\"\"]\n", "moormq.toml:1: listeners: must each have a name that is not empty"),
        (
            "limits.max_connections = 5\n[listeners.a]\nmax_connections = 6\n",
            "moormq.toml:3: listeners.a.max_connections: must be at most limits.max_connections, which is 5, not 6",
        ),
        (
            "password_file.path = \"users\"\n[listeners.a]\nhooks = [\"password\", \"acl\"]\n",
            "moormq.toml:3: listeners.a.hooks: names \"acl\", which needs a file: set acl_file.path",
        ),
        (
            "limits.max_memory = \"100MiB\"\nstorage.path = \"store\"\nstorage.archive.cache_size = \"51MiB\"\n",
            "moormq.toml:3: storage.archive.cache_size: must be at most half of limits.max_memory, 50 MiB",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(refusal(text), message);
    }
    // What is not used does not matter.
    accepted("limits.max_memory = \"16MiB\"\n");
    accepted("limits.max_memory = \"16MiB\"\nstorage.path = \"store\"\nstorage.archive.enabled = false\n");
}

/// The hooks that come with the program: those a listener names, or all that have a file.
#[test]
fn a_listener_uses_the_stock_hooks_it_names() {
    let config = accepted(
        r#"
        password_file = { path = "users", threads = 4, max_waiting = 10 }
        acl_file.path = "rules"
        reload.interval = "never"

        [listeners.all]
        address = "127.0.0.1:1"
        [listeners.some]
        address = "127.0.0.1:2"
        hooks = ["acl"]
        [listeners.none]
        address = "127.0.0.1:3"
        hooks = []
        "#,
    );
    let hooks: Vec<_> = config.listeners.iter().map(|listener| config.stock_hooks_of(listener)).collect();
    assert_eq!(hooks, [vec![StockHook::Password, StockHook::Acl], vec![StockHook::Acl], vec![]]);
    assert_eq!(config.file_of(StockHook::Password), Some("users"));
    assert_eq!(config.file_of(StockHook::Scram), None);
    assert_eq!((config.password_file.threads, config.password_file.max_waiting), (4, 10));
    assert_eq!(config.reload.interval, None);
    assert!(refusal("[listeners.a]\nhooks = [\"acl\", \"acl\"]\n").contains("each at most once"));
    assert!(refusal("acl_file.path = \"\"").contains("must be \"none\" or the path of a file"));
}

#[test]
fn strangers_on_the_network_have_to_be_asked_for_at_the_listener() {
    let open =
        |address: &str, own: &str| format!("allow_anonymous = true\n[listeners.a]\n{own}\naddress = \"{address}\"\n");
    for address in ["0.0.0.0:1883", "192.168.1.5:1883", "[::]:1883", "[::ffff:10.0.0.1]:1883"] {
        assert_eq!(
            refusal(&open(address, "")),
            format!(
                "moormq.toml:4: listeners.a.address: {address} can be reached from other machines while anonymous \
                 clients are allowed: if that is meant, write allow_anonymous = true under [listeners.a] in a configuration \
                 file, else false"
            )
        );
        for own in ["allow_anonymous = true", "allow_anonymous = false"] {
            let config = accepted(&open(address, own));
            assert_eq!(config.allows_anonymous(&config.listeners[0]), own.ends_with("true"));
        }
    }
    for address in ["127.0.0.1:1883", "127.8.8.8:1883", "[::1]:1883", "[::ffff:127.0.0.1]:1883"] {
        accepted(&open(address, ""));
    }
    accepted("[listeners.a]\naddress = \"0.0.0.0:1883\"\n");
}

#[test]
fn a_configuration_built_in_code_has_the_same_limits() {
    let refusal = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config.check().expect_err("the change is wrong").to_string()
    };
    assert_eq!(
        refusal(|config| config.limits.receive_maximum = 0),
        "limits.receive_maximum: must be 1 to 65535, not 0"
    );
    assert_eq!(
        refusal(|config| config.listeners[0].connect_timeout = Some(Duration::ZERO)),
        r#"listeners.default.connect_timeout: must be "inherit" or a duration from "100ms" to "1h", not "0s""#
    );
    assert_eq!(
        refusal(|config| config.listeners[0].protocols.clear()),
        r#"listeners.default.protocols: must be a list of at least one, each once, of "3.1", "3.1.1" or "5", not []"#
    );
    assert_eq!(
        refusal(|config| config.listeners.push(listener("default", "127.0.0.1:1884"))),
        "listeners.default: must have a name that no other listener has"
    );
    assert_eq!(
        refusal(|config| config.listeners.clear()),
        "listeners: must have at least one table [listeners.NAME] with an address"
    );
    assert_eq!(
        refusal(|config| config.hooks.each.push(HookDeadline { name: "on_tea".to_owned(), ..HookDeadline::default() })),
        "hooks.on_tea: must be named after a hook, such as auth_on_register"
    );
}

#[test]
fn an_error_says_where_in_parts_too() {
    let errors = Config::from_toml("[limits]\nmaximum_qos = 3\n", "moormq.toml").expect_err("3 is too much");
    let error = ConfigError {
        file: Some("moormq.toml".to_owned()),
        line: Some(2),
        key: "limits.maximum_qos".to_owned(),
        problem: "must be 0 to 2, not 3".to_owned(),
    };
    assert_eq!(errors.into_iter().collect::<Vec<_>>(), [error]);
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_refused() {
    let missing = Config::load("/nowhere/moormq.toml").expect_err("there is no such file").to_string();
    assert_eq!(missing, "/nowhere/moormq.toml: cannot be read: No such file or directory (os error 2)");
    let file = TempFile::new("not-text", b"shards = 1\n\xff\xfe");
    let error = Config::load(&file.0).expect_err("this is not UTF-8").to_string();
    assert_eq!(error, format!("{}:2: not valid UTF-8", file.0));
}

/// A file that is gone when its test is.
struct TempFile(String);

impl TempFile {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = std::env::temp_dir().join(format!("moormq-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, content).expect("the temporary directory can be written");
        TempFile(path.display().to_string())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn moormq(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_moormq")).args(arguments).output().expect("the program was built")
}

/// Exit status, standard output, standard error.
fn outcome(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).expect("the program writes text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn check_config_says_ok_and_what_would_happen() {
    let file = TempFile::new(
        "good",
        "shards = 2\nlimits.max_memory = \"64 MiB\"\n[listeners.a]\naddress = \"0.0.0.0:0\"\nallow_anonymous = true\n\
         [listeners.b]\naddress = \"localhost:0\"\nprotocols = [\"5\"]\n",
    );
    let expected = format!(
        "{}: ok\n\
         listens on 0.0.0.0:0 (a): MQTT 3.1, 3.1.1, 5; anonymous clients are allowed\n\
         listens on 127.0.0.1:0 (b): MQTT 5; every client is refused: set allow_anonymous = true, or the path of a password_file or \
         scram_file\n\
         runs 2 shards on all cores it may use\n\
         holds at most 64 MiB of memory\n\
         keeps sessions and retained messages in memory alone: a restart forgets them\n\
         logs info as text\n",
        file.0
    );
    assert_eq!(outcome(&moormq(&["check-config", &file.0])), (Some(0), expected.as_str(), ""));
    let file =
        TempFile::new("one", "shards = 1\nallow_anonymous = true\nlisteners.default.address = \"127.0.0.1:0\"\n");
    let checked = moormq(&["check-config", &file.0]);
    let (_, said, _) = outcome(&checked);
    assert_eq!(said.lines().nth(2), Some("runs one shard on all cores it may use"));
    let memory = said.lines().nth(3).expect("it says how much memory");
    assert!(
        memory.starts_with("holds at most ") && memory.ends_with(" MiB of memory (auto: 70 % of what there is)"),
        "{memory}"
    );
}

#[test]
fn memory_may_be_limited_or_not() {
    let check = |value: &str| {
        let text = format!(
            "allow_anonymous = true\nlisteners.default.address = \"127.0.0.1:0\"\nlimits.max_memory = {value}\n"
        );
        let file = TempFile::new("memory", &text);
        let checked = moormq(&["check-config", &file.0]);
        let (_, said, error) = outcome(&checked);
        said.lines().nth(3).map_or(error.replace(&file.0, "FILE"), str::to_owned)
    };
    assert_eq!(check("\"unlimited\""), "holds any amount of memory");
    assert_eq!(check("\"2 GiB\""), "holds at most 2048 MiB of memory");
    let problem = "FILE:3: limits.max_memory: must be \"auto\" or \"unlimited\" or a size from \"16MiB\" to \"1TiB\", not \"1MiB\"\n";
    assert_eq!(check("\"1MiB\""), problem);
}

#[test]
fn check_config_refuses_with_one_sentence() {
    let file = TempFile::new("bad", "[limits]\nreceive_maximum = 0\n");
    let expected = format!("{}:2: limits.receive_maximum: must be 1 to 65535, not 0\n", file.0);
    assert_eq!(outcome(&moormq(&["check-config", &file.0])), (Some(1), "", expected.as_str()));
    assert_eq!(outcome(&moormq(&["--config", &file.0])), (Some(1), "", expected.as_str()));
}

/// What can be known before a start: all of it, with the lines of the file.
#[test]
fn check_config_looks_at_this_machine() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = taken.local_addr().expect("it is bound");
    let text = format!(
        "cpus = \"8191\"\n[listeners.a]\naddress = \"{address}\"\n[password_file]\npath = \"/nowhere/users\"\n\
         [control]\nsocket = \"/nowhere/control\"\n"
    );
    let file = TempFile::new("machine", &text);
    let checked = moormq(&["check-config", &file.0]);
    let (status, said, errors) = outcome(&checked);
    assert_eq!((status, said), (Some(1), ""));
    let own = std::fs::read_to_string("/proc/self/comm").expect("there is /proc");
    for (line, what) in [
        (5, "password_file.path: /nowhere/users: cannot be read: No such file or directory (os error 2)".to_owned()),
        (
            7,
            "control.socket: control socket /nowhere/control: there is no such folder, make the folder first: /nowhere"
                .to_owned(),
        ),
        (1, "cpus: names cores that this process may not use (8191): it may use ".to_owned()),
        (
            3,
            format!(
                "listeners.a.address: {address} is in use by {} (process {}): stop it, or set another address",
                own.trim(),
                std::process::id()
            ),
        ),
    ] {
        let start = format!("{}:{line}: {what}", file.0);
        assert!(errors.lines().any(|line| line.starts_with(&start)), "{start}\n{errors}");
    }
    assert_eq!(errors.lines().count(), 4, "{errors}");
}

#[test]
fn print_config_prints_a_file_that_check_config_accepts() {
    let printed = moormq(&["print-config"]);
    let (status, text, errors) = outcome(&printed);
    assert_eq!((status, errors), (Some(0), ""));
    assert_eq!(text, Config::print_default());
    // The port that the defaults have may be in use.
    let file = TempFile::new("printed", text.replace("127.0.0.1:1883\"", "127.0.0.1:0\""));
    let checked = moormq(&["check-config", &file.0]);
    let (status, said, errors) = outcome(&checked);
    assert_eq!((status, said.lines().next(), errors), (Some(0), Some(format!("{}: ok", file.0).as_str()), ""));
}

#[test]
fn the_command_line_cannot_open_the_broker_to_the_network() {
    let expected = "command line: listeners.default.address: 0.0.0.0:1883 can be reached from other machines while \
                    anonymous clients are allowed: if that is meant, write allow_anonymous = true under [listeners.default] in \
                    a configuration file, else false\n";
    assert_eq!(outcome(&moormq(&["--listen", "0.0.0.0:1883"])), (Some(1), "", expected));
}

#[test]
fn the_command_line_is_checked_like_a_file() {
    let shards = "command line: shards: must be at most 2, the number of cores in cpus, not 3\n";
    assert_eq!(outcome(&moormq(&["--shards", "3", "--cpus", "0-1"])), (Some(1), "", shards));

    let file = TempFile::new("named", "[listeners.a]\n");
    let listen = "command line: --listen: moves [listeners.default], which the file does not have: set the address \
                  in the file\n";
    assert_eq!(outcome(&moormq(&["--config", &file.0, "--listen", "127.0.0.1:1884"])), (Some(1), "", listen));

    let cpus = moormq(&["--cpus", "x"]);
    let (status, _, errors) = outcome(&cpus);
    assert_eq!(status, Some(2));
    assert!(errors.contains("must be core numbers such as 0-3,6, not x"), "{errors}");
}

#[test]
fn the_version_is_printed() {
    let expected = format!("moormq {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(outcome(&moormq(&["--version"])), (Some(0), expected.as_str(), ""));
}
