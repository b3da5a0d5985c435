//! The programs in `examples/`, started on a free port and put to what they promise.

#[path = "../stock_hooks/client.rs"]
mod client;
#[path = "../stock_hooks/exchange.rs"]
mod exchange;
mod program;
mod rumqtt_client;

use moormq::codec::ReasonCode;

use client::{Connection, Reply};
use exchange::Exchange;
use program::Program;
use rumqtt_client::RumqttClient;

/// The code of the CONNACK for a user with this password.
fn connack_code(program: &Program, username: &str, password: &str) -> u8 {
    let mut connection = Connection::open(program.address());
    connection.connect_with_password("client", username, password);
    connection.connack()
}

#[test]
fn authentication() {
    let program = Program::start("authentication");
    assert_eq!(connack_code(&program, "ann", "secret"), 0);
    assert_eq!(connack_code(&program, "bob", "hunter2"), 0);
    assert_eq!(connack_code(&program, "ann", "hunter2"), 0x86);
    assert_eq!(connack_code(&program, "eve", "secret"), 0x86, "a wrong user name is answered like a wrong password");
    // The same client id in two mountpoints, which receive nothing from each other.
    let [mut ann, mut bob] = [("ann", "secret"), ("bob", "hunter2")]
        .map(|(user, password)| RumqttClient::with(&program, "same", user, password));
    ann.subscribe("news");
    bob.subscribe("news");
    bob.publish("news", "for bob");
    assert_eq!(bob.message(), ("news".to_owned(), "for bob".to_owned()));
    ann.publish("news", "for ann");
    assert_eq!(ann.message(), ("news".to_owned(), "for ann".to_owned()));
    program.stop();
}

#[test]
fn slow_backend() {
    let program = Program::start("slow_backend");
    assert_eq!(connack_code(&program, "ann", "any"), 0);
    assert_eq!(connack_code(&program, "bob", "any"), 0x86);
    let mut ann = RumqttClient::with(&program, "c", "ann", "any");
    ann.subscribe("#");
    ann.publish("ann/a", "where the backend lets her");
    assert_eq!(ann.message(), ("ann/a".to_owned(), "where the backend lets her".to_owned()));
    program.stop();
}

#[test]
fn presence() {
    let program = Program::start("presence");
    let mut watcher = RumqttClient::new(&program, "watcher");
    watcher.subscribe("presence/lamp");
    let lamp = RumqttClient::new(&program, "lamp");
    let mut states = Vec::new();
    while states.last().map(String::as_str) != Some("online") {
        states.push(watcher.message().1);
    }
    assert_eq!(states, ["registers", "online"]);
    drop(lamp);
    assert_eq!(watcher.message(), ("presence/lamp".to_owned(), "gone".to_owned()));
    program.stop();
}

/// What a link keeps with a session is there when the program was killed, and starts again.
#[test]
fn metering() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = directory.path().join("store");
    let start = || Program::start_with("metering", &[store.to_str().expect("a path of text")]);
    let program = start();
    let mut ann = RumqttClient::kept(&program, "ann");
    (0..3).for_each(|_| ann.publish("t", "hello"));
    program.kill();
    let program = start();
    let mut watcher = RumqttClient::new(&program, "watcher");
    watcher.subscribe("meter/#");
    assert_eq!(watcher.message(), ("meter/ann".to_owned(), "3".to_owned()));
    program.stop();
}

#[test]
fn rewriting() {
    let program = Program::start("rewriting");
    assert_eq!(connack_code(&program, "nobody", "any"), 0x86, "without a company");
    let [mut ann, mut guest, mut eve, mut bob] =
        [("same", "ann@acme"), ("guest", "guest@acme"), ("same", "eve@rival"), ("bob", "bob@acme")]
            .map(|(id, user)| RumqttClient::with(&program, id, user, "any"));
    for client in [&mut ann, &mut guest, &mut eve] {
        client.subscribe("news/#");
    }
    bob.publish("news/today", "42 lamps sold");
    assert_eq!(ann.message(), ("news/today".to_owned(), "42 lamps sold".to_owned()));
    assert_eq!(guest.message(), ("news/today".to_owned(), "## lamps sold".to_owned()));
    eve.publish("news/today", "7");
    assert_eq!(eve.message(), ("news/today".to_owned(), "7".to_owned()), "the first that she receives");
    ann.unsubscribe("news/#");
    ann.subscribe("other");
    bob.publish("news/today", "not for ann any more");
    bob.publish("other", "but this");
    assert_eq!(ann.message(), ("other".to_owned(), "but this".to_owned()));
    program.stop();
}

#[test]
fn scram() {
    let program = Program::start("scram");
    for (password, code) in [("pencil", 0), ("pen", 0x86)] {
        let mut connection = Connection::open(program.address());
        let exchange = Exchange::new("ann", password);
        connection.connect_with_method("client", "SCRAM-SHA-256", &exchange.first());
        let Reply::Auth { code: 0x18, data } = connection.receive() else { panic!("no question") };
        let (last, verifier) = exchange.last(&data);
        connection.auth(ReasonCode::ContinueAuthentication, "SCRAM-SHA-256", &last);
        let data = (code == 0).then_some(verifier);
        assert_eq!(connection.receive(), Reply::Connack { code, data, assigned: false });
    }
    for (answer, code, data) in [("4321", 0, Some("welcome")), ("1234", 0x86, None)] {
        let mut connection = Connection::open(program.address());
        connection.connect_with_method("client", "PIN", "1234");
        assert_eq!(connection.receive(), Reply::Auth { code: 0x18, data: "and backwards?".to_owned() });
        connection.auth(ReasonCode::ContinueAuthentication, "PIN", answer);
        let data = data.map(str::to_owned);
        assert_eq!(connection.receive(), Reply::Connack { code, data, assigned: false });
        if code == 0 {
            assert_eq!(connection.subscribe(&["t"]), [0]);
            connection.ping();
            assert_eq!(connection.receive(), Reply::Pingresp);
        }
    }
    program.stop();
}
