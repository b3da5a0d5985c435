//! Access files, as clients meet them.

use crate::program::Place;

#[test]
fn clients_publish_and_subscribe_to_what_is_granted() {
    let place = Place::new();
    place.passwd(&["users", "alice"], "a");
    place.passwd(&["users", "bob"], "b");
    place.write(
        "rules",
        "topic read news/#\n\
         pattern write dev/%c/up\n\
         pattern home/%u/#\n\
         deny pattern write home/%u/locked\n\
         user alice\n\
         topic one/+\n\
         deny read one/secret\n",
    );
    let program =
        place.start("password_file.path = 'users'\nacl_file.path = 'rules'\nqueue.max_offline_messages = 7\n");
    let (alice, bob) = (&["-u", "alice", "-P", "a", "-i", "c1"], &["-u", "bob", "-P", "b", "-i", "c2"]);
    for (client, topic, may) in [
        (alice, "news/x", false),
        (alice, "dev/c1/up", true),
        (alice, "dev/c2/up", false),
        (alice, "home/alice/door/1", true),
        (alice, "home/alice/locked", false),
        (alice, "home/bob/door", false),
        (alice, "one/x", true),
        (bob, "one/x", false),
        (bob, "dev/c2/up", true),
    ] {
        assert_eq!(program.may_publish(client, topic), may, "{client:?} {topic}");
    }
    let codes = program.subscribe(
        alice,
        &["news/#", "dev/c1/up", "home/alice/locked", "one/x", "one/+", "one/#", "one/secret", "$share/g/one/x", "#"],
    );
    assert_eq!(codes, [0, 135, 0, 0, 135, 135, 135, 0, 135]);
    assert_eq!(program.subscribe(bob, &["one/x"]), [135]);
    assert_eq!(program.subscribe(bob, &["news/today", "$share/g/news/+"]), [0, 0]);
}

/// The rules hold for whoever is let in, known or not.
#[test]
fn rules_apply_to_anonymous_clients() {
    let place = Place::new();
    place.write("rules", "topic open/#\npattern mine/%c\n");
    let program = place.start("allow_anonymous = true\nacl_file.path = 'rules'\n");
    assert!(program.may_publish(&[], "open/x"));
    assert!(!program.may_publish(&[], "closed"));
    let named = |name| ["-i", name];
    assert_eq!(program.subscribe(&named("c"), &["mine/c"]), [0]);
    assert_eq!(program.subscribe(&named("+"), &["mine/+", "mine/c", "mine/#"]), [135, 135, 135]);
    assert_eq!(program.subscribe(&named("#"), &["mine/#"]), [135]);
}

#[test]
fn rules_apply_to_wills() {
    let place = Place::new();
    place.write("rules", "topic write wills/#\n");
    let program = place.start("allow_anonymous = true\nacl_file.path = 'rules'\n");
    let with_will = |topic| program.connect(program.address(), &["--will-topic", topic, "--will-payload", "x"]);
    assert_eq!(with_will("wills/a"), Ok(()));
    with_will("other").expect_err("the will is refused, and the client with it");
}

#[test]
fn a_refused_publish_ends_the_connection_of_an_old_client() {
    let place = Place::new();
    place.write("rules", "user alice\ntopic write unused\n");
    let program = place.start("allow_anonymous = true\nacl_file.path = 'rules'\n");
    let publish = |user| program.connect(program.address(), &["-V", "311", "-q", "1", "-u", user]);
    assert_eq!(publish("alice"), Ok(()));
    publish("bob").expect_err("no acknowledgement, but the end");
    program.wait_for("connection closed: not authorized: it may not publish to");
}
