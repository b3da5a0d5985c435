//! Password files: of Mosquitto, of VerneMQ and our own.

use crate::client::Connection;
use crate::program::Place;

/// User `vernemq`, password `secret`: SHA-512 of it and the bytes 1 to 12; by Python's hashlib.
pub const VERNEMQ: &str = "vernemq:$6$AQIDBAUGBwgJCgsM$\
    XtaqFTpVqKCBusKxL7SramYPpHVSOw+CXtRUIv0PpX6q57MW1a1RUVsLMxkhMn6XOYi3uYMZcGrMAEzcnh9EoA==\n";

const CONFIG: &str = "password_file.path = 'users'";

#[test]
fn users_of_every_format_get_in_with_their_password_and_not_with_another() {
    let place = Place::new();
    place.mosquitto_passwd(&["-c", "-b", "users", "pbkdf2", "p 1"]);
    place.mosquitto_passwd(&["-H", "sha512", "-b", "users", "sha512", "p 2"]);
    place.passwd(&["users", "argon2id"], "p 3");
    place.write("users", &(place.read("users") + "# by hand\n" + VERNEMQ));
    let program = place.start(CONFIG);
    for (user, password) in [("pbkdf2", "p 1"), ("sha512", "p 2"), ("argon2id", "p 3"), ("vernemq", "secret")] {
        for version in ["31", "311", "5"] {
            let connect = |password| program.connect(program.address(), &["-V", version, "-u", user, "-P", password]);
            assert_eq!(connect(password), Ok(()), "{user} with MQTT {version}");
            let refusal = connect("wrong").expect_err(user).to_lowercase();
            assert!(refusal.contains("bad user name or password"), "{user} with MQTT {version}: {refusal}");
        }
    }
    let refusal = program.connect(program.address(), &["-V", "311", "-u", "pbkdf2"]).expect_err("no password");
    assert!(refusal.to_lowercase().contains("bad user name or password"), "{refusal}");
    for nobody in [&["-u", "stranger", "-P", "p 1"][..], &[]] {
        let refusal = program.connect(program.address(), nobody).expect_err("nobody knows this client");
        assert!(refusal.to_lowercase().contains("not authori"), "{refusal}");
    }
}

#[test]
fn a_listener_uses_the_hooks_it_names() {
    let place = Place::new();
    place.write("users", VERNEMQ);
    place.write("rules", "topic allowed\n");
    let program = place.start(
        "password_file.path = 'users'\nacl_file.path = 'rules'\n\
         [listeners.open]\naddress = '127.0.0.1:0'\nallow_anonymous = true\nhooks = []\n\
         [listeners.half]\naddress = '127.0.0.1:0'\nallow_anonymous = true\nhooks = ['password']\n",
    );
    let wrong = &["-u", "vernemq", "-P", "wrong"];
    assert_eq!(program.connect(program.address_of("open"), wrong), Ok(()));
    program.connect(program.address_of("half"), wrong).expect_err("the password is wrong");
    assert_eq!(program.connect(program.address_of("half"), &[]), Ok(()), "this one is anonymous");
    program.connect(program.address(), &[]).expect_err("anonymous clients are refused here");
}

/// On every shard, answers come from other threads: none may be lost, and none mistaken for another's.
#[test]
fn many_clients_at_once_get_each_its_own_answer() {
    let place = Place::new();
    place.write("users", VERNEMQ);
    let program = place.start(CONFIG);
    for round in 0..5 {
        let mut clients: Vec<(Connection, bool)> = (0..100)
            .map(|number| {
                let is_right = (number + round) % 3 != 0;
                let mut client = Connection::open(program.address());
                let password = if is_right { "secret" } else { "guess" };
                client.connect_with_password(&format!("client{number}"), "vernemq", password);
                (client, is_right)
            })
            .collect();
        for (client, is_right) in &mut clients {
            assert_eq!(client.connack(), if *is_right { 0 } else { 0x86 });
        }
    }
}

#[test]
fn a_broken_file_fails_the_start() {
    let place = Place::new();
    place.write("users", &format!("{VERNEMQ}broken\n"));
    place.write("moormq.toml", "listeners.default.address = '127.0.0.1:0'\npassword_file.path = 'users'\n");
    for args in [&["--config", "moormq.toml"][..], &["check-config", "moormq.toml"]] {
        let output = place.run(args, "");
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("password_file.path: users:2: must be user:hash"), "{text}");
    }
    place.write("moormq.toml", "acl_file.path = 'nowhere'\n");
    let output = place.run(&["check-config", "moormq.toml"], "");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("moormq.toml:1: acl_file.path: nowhere: cannot be read: No such file"), "{text}");
}
