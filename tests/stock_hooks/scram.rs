//! SCRAM-SHA-256 from end to end.

use moormq::codec::ReasonCode;

use crate::client::{Connection, Reply};
use crate::exchange::Exchange;
use crate::program::{Place, Program};

const METHOD: &str = "SCRAM-SHA-256";

fn start(config: &str) -> Program {
    let place = Place::new();
    place.passwd(&["--scram", "--iterations", "4096", "scram", "user"], "pencil");
    place.passwd(&["--scram", "--iterations", "4096", "scram", "other"], "pen");
    place.start(&format!("scram_file.path = 'scram'\n{config}"))
}

/// What the broker asks a client that wants to authenticate as `user`.
fn question(connection: &mut Connection) -> String {
    match connection.receive() {
        Reply::Auth { code: 0x18, data } => data,
        other => panic!("{other:?} is no question"),
    }
}

/// Connects and authenticates; the CONNACK, and the data that it must have for the client to trust the broker.
fn connect(connection: &mut Connection, user: &str, password: &'static str) -> (Reply, String) {
    let exchange = Exchange::new(user, password);
    connection.connect_with_method("client", METHOD, &exchange.first());
    let (last, verifier) = exchange.last(&question(connection));
    connection.auth(ReasonCode::ContinueAuthentication, METHOD, &last);
    (connection.receive(), verifier)
}

/// Authenticates again on a live connection, with a PINGREQ in the middle; the last packet from the broker.
fn reauthenticate(connection: &mut Connection, user: &str, password: &'static str) -> (Reply, String) {
    let exchange = Exchange::new(user, password);
    connection.auth(ReasonCode::ReAuthenticate, METHOD, &exchange.first());
    let question = question(connection);
    connection.ping();
    assert_eq!(connection.receive(), Reply::Pingresp, "normal traffic goes on");
    let (last, verifier) = exchange.last(&question);
    connection.auth(ReasonCode::ContinueAuthentication, METHOD, &last);
    (connection.receive(), verifier)
}

#[test]
fn who_knows_the_password_gets_in_and_learns_that_the_broker_knows_the_keys() {
    let program = start("");
    for _ in 0..3 {
        let mut connection = Connection::open(program.address());
        let (reply, verifier) = connect(&mut connection, "user", "pencil");
        assert_eq!(reply, Reply::Connack { code: 0, data: Some(verifier), assigned: false });
        connection.ping();
        assert_eq!(connection.receive(), Reply::Pingresp);
    }
}

#[test]
fn who_does_not_is_refused_and_does_not_learn_which_users_there_are() {
    let program = start("");
    let address = program.address();
    for (user, password) in [("user", "pen"), ("nobody", "pencil"), ("other", "pencil")] {
        let mut connection = Connection::open(address);
        let (reply, _) = connect(&mut connection, user, password);
        assert_eq!(reply, Reply::Connack { code: 0x86, data: None, assigned: false }, "{user}");
        assert_eq!(connection.receive(), Reply::Closed);
    }
    let ask = |user: &str| {
        let mut connection = Connection::open(address);
        connection.connect_with_method("client", METHOD, &Exchange::new(user, "").first());
        question(&mut connection).split_once(",s=").expect("a salt").1.to_owned()
    };
    assert_eq!(ask("nobody"), ask("nobody"), "the same salt each time, on every shard, as a user would have");
    assert_ne!(ask("nobody"), ask("anybody"));
    assert!(ask("nobody").len() == ask("user").len() && ask("nobody").ends_with(",i=4096"));
}

#[test]
fn another_way_in_is_no_way_in() {
    let program = start("allow_anonymous = true\n");
    let address = program.address();
    program.connect(address, &["-u", "user", "-P", "pencil"]).expect_err("a user of SCRAM has to use it");
    assert_eq!(program.connect(address, &["-u", "stranger"]), Ok(()), "that one is anonymous");
    let mut connection = Connection::open(address);
    connection.connect_with_method("client", "SCRAM-SHA-1", "n,,n=user,r=x");
    assert_eq!(connection.connack(), 0x8c);
    let mut connection = Connection::open(address);
    connection.connect_with_method("client", METHOD, "p=tls-unique,,n=user,r=x");
    assert_eq!(connection.connack(), 0x87);
}

#[test]
fn a_client_authenticates_again_while_its_traffic_goes_on() {
    let program = start("");
    let mut connection = Connection::open(program.address());
    assert!(matches!(connect(&mut connection, "user", "pencil").0, Reply::Connack { code: 0, .. }));
    for _ in 0..2 {
        let (reply, verifier) = reauthenticate(&mut connection, "user", "pencil");
        assert_eq!(reply, Reply::Auth { code: 0, data: verifier });
    }
    assert_eq!(reauthenticate(&mut connection, "user", "pen").0, Reply::Disconnect(0x87));
    assert_eq!(connection.receive(), Reply::Closed);
}

#[test]
fn a_client_stays_who_it_is() {
    let program = start("");
    let mut connection = Connection::open(program.address());
    assert!(matches!(connect(&mut connection, "user", "pencil").0, Reply::Connack { code: 0, .. }));
    assert_eq!(reauthenticate(&mut connection, "other", "pen").0, Reply::Disconnect(0x87));
}

/// The name that counts afterwards is the one that was proven, not the one CONNECT claimed.
#[test]
fn rules_are_for_the_user_that_was_proven() {
    let place = Place::new();
    place.passwd(&["--scram", "--iterations", "4096", "scram", "user"], "pencil");
    place.write("rules", "user user\ntopic allowed\nuser somebody else\ntopic other\n");
    let program = place.start("scram_file.path = 'scram'\nacl_file.path = 'rules'\n");
    let mut connection = Connection::open(program.address());
    assert!(matches!(connect(&mut connection, "user", "pencil").0, Reply::Connack { code: 0, .. }));
    assert_eq!(connection.subscribe(&["allowed", "other"]), [0, 0x87]);
}
