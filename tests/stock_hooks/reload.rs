//! Files that change while the broker runs.

use crate::password::VERNEMQ;
use crate::program::Place;

const KNOWN: &[&str] = &["-u", "vernemq", "-P", "secret"];

#[test]
fn a_changed_file_is_taken_over_and_a_broken_one_is_not() {
    let place = Place::new();
    place.write("users", VERNEMQ);
    place.write("rules", "topic a\n");
    let program = place.start("password_file.path = 'users'\nacl_file.path = 'rules'\nreload.interval = '10ms'\n");
    let new = &["-u", "new", "-P", "pass"];
    program.connect(program.address(), new).expect_err("not yet");
    program.place.passwd(&["users", "new"], "pass");
    program.wait_for("\"message\":\"read again\",\"file\":\"users\",\"entries\":2");
    assert_eq!(program.connect(program.address(), new), Ok(()));

    assert!(program.may_publish(KNOWN, "a") && !program.may_publish(KNOWN, "b"));
    program.place.write("rules", "topic b\n");
    program.wait_for("\"message\":\"read again\",\"file\":\"rules\",\"entries\":1");
    assert!(!program.may_publish(KNOWN, "a") && program.may_publish(KNOWN, "b"));

    program.place.write("rules", "topic a\ntopic b\ntopics c\n");
    program.wait_for("rules:3: begins with topics, which must be");
    assert!(!program.may_publish(KNOWN, "a") && program.may_publish(KNOWN, "b"));

    program.place.passwd(&["--delete", "users", "new"], "");
    program.wait_for("\"message\":\"read again\",\"file\":\"users\",\"entries\":1");
    program.connect(program.address(), new).expect_err("not any more");
    assert_eq!(program.connect(program.address(), KNOWN), Ok(()));
}

#[test]
fn sighup_has_all_files_read() {
    let place = Place::new();
    place.write("users", VERNEMQ);
    place.write("rules", "topic a\n");
    let program = place.start("password_file.path = 'users'\nacl_file.path = 'rules'\nreload.interval = 'never'\n");
    program.place.write("rules", "topic a\ntopic b\n");
    program.kill("-HUP");
    program.wait_for("\"message\":\"read again\",\"file\":\"users\",\"entries\":1");
    program.wait_for("\"message\":\"read again\",\"file\":\"rules\",\"entries\":2");
    assert!(program.may_publish(KNOWN, "b"));
    program.place.write("users", "nonsense\n");
    program.kill("-HUP");
    program.wait_for("users:1: must be user:hash");
    assert_eq!(program.connect(program.address(), KNOWN), Ok(()));
}

/// The configuration holds until the next start. Whoever changes it and sends SIGHUP is told so, and what he made wrong.
#[test]
fn sighup_says_what_of_the_configuration_it_does_not_take() {
    let program = Place::new().start("allow_anonymous = true\n");
    let text = program.place.read("moormq.toml");
    program.kill("-HUP");
    program.wait_for("nothing in the configuration has changed since the start");
    program.place.write("moormq.toml", &format!("{text}limits.max_packet_size = '2 MiB'\nqueue.queue_type = 'lifo'\n"));
    program.kill("-HUP");
    let line = program.wait_for("these settings have changed, and hold from the next start on");
    assert!(line.contains("\"changed\":\"limits.max_packet_size, queue.queue_type\""), "{line}");
    program.place.write("moormq.toml", &format!("{text}limits.max_packet_size = 0\nfoo = 1\n"));
    program.kill("-HUP");
    program.wait_for("limits.max_packet_size: must be a size from");
    program.wait_for("foo: is not a setting");
    program.wait_for("a broker would not start with it, this one goes on as it is");
    assert_eq!(program.connect(program.address(), &[]), Ok(()));
}

#[test]
fn sighup_without_files_harms_nobody() {
    let program = Place::new().start("allow_anonymous = true\n");
    program.kill("-HUP");
    assert_eq!(program.connect(program.address(), &[]), Ok(()));
}
