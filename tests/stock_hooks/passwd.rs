//! `moormq passwd`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::program::Place;

#[test]
fn users_are_added_changed_and_removed_and_the_rest_stays() {
    let place = Place::new();
    assert_eq!(place.passwd(&["users", "alice"], "one"), "users: user alice added\n");
    let text = place.read("users");
    assert!(text.starts_with("alice:$argon2id$v=19$m=19456,t=2,p=1$") && text.lines().count() == 1, "{text}");
    assert_eq!(fs::metadata(place.path("users")).unwrap().permissions().mode() & 0o777, 0o600);

    place.write("users", &format!("# ours\n{text}\n"));
    fs::set_permissions(place.path("users"), fs::Permissions::from_mode(0o640)).unwrap();
    place.passwd(&["users", "bob"], "two");
    assert_eq!(place.passwd(&["users", "alice"], "three"), "users: user alice changed\n");
    let changed = place.read("users");
    let lines: Vec<&str> = changed.lines().collect();
    assert_eq!((lines[0], lines[2], lines.len()), ("# ours", "", 4));
    assert!(lines[1].starts_with("alice:") && lines[1] != text.trim_end() && lines[3].starts_with("bob:"));
    assert_eq!(fs::metadata(place.path("users")).unwrap().permissions().mode() & 0o777, 0o640);

    assert_eq!(place.passwd(&["--delete", "users", "alice"], ""), "users: user alice removed\n");
    assert_eq!(place.read("users"), format!("# ours\n\n{}\n", lines[3]));
}

#[test]
fn scram_users_have_a_file_of_their_own() {
    let place = Place::new();
    place.passwd(&["--scram", "scram", "alice"], "one");
    place.passwd(&["--scram", "--iterations", "4096", "scram", "bob"], "two");
    let text = place.read("scram");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("$decoy$"), "{text}");
    assert!(lines[1].starts_with("alice:SCRAM-SHA-256$100000:"), "{text}");
    assert!(lines[2].starts_with("bob:SCRAM-SHA-256$4096:"), "{text}");
    let output = place.run(&["passwd", "scram", "carol"], "three\n");
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("moormq: scram:1: "), "one kind of file is not mistaken for the other: {error}");
    assert_eq!(place.read("scram"), text);
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let place = Place::new();
    place.write("broken", "# ours\nnonsense\n");
    for (args, input, problem) in [
        (&["users", "a:b"][..], "x\n", "a user name must not"),
        (&["users", ""], "x\n", "a user name must not"),
        (&["users", "alice"], "", "the password must not be empty"),
        (&["users", "alice"], "\n", "the password must not be empty"),
        (&["--delete", "users", "alice"], "", "users: there is no such file"),
        (&["--delete", "broken", "alice"], "", "broken: has no user alice"),
        (&["broken", "alice"], "x\n", "broken:2: must be user:hash"),
        (&["--scram", "users", "alice"], "\u{7}\n", "the password is not allowed"),
        (&["missing/users", "alice"], "x\n", "missing/users: cannot be replaced"),
    ] {
        let output = place.run(&[&["passwd"], args].concat(), input);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.starts_with(&format!("moormq: {problem}")), "{args:?}: {error}");
    }
    assert!(!place.path("users").exists());
    assert_eq!(place.read("broken"), "# ours\nnonsense\n");
}

#[test]
fn at_a_terminal_it_asks_twice_and_shows_nothing_of_what_is_typed() {
    let place = Place::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stock_hooks/terminal.py");
    let typed = |first, second| {
        let program = [env!("CARGO_BIN_EXE_moormq"), "passwd", "users", "alice"];
        let mut command = Command::new("python3");
        command.args([script, "2", first, second]).args(program).current_dir(place.path("."));
        let output = command.output().expect("python3 can be run");
        (output.status.success(), String::from_utf8(output.stdout).expect("it is text"))
    };
    let questions = "New password: \r\nOnce more: \r\n";
    let differ = format!("{questions}moormq: the two passwords are not the same\r\n");
    assert_eq!(typed("secret", "secrets"), (false, differ));
    assert!(!place.path("users").exists());
    assert_eq!(typed("secret", "secret"), (true, format!("{questions}users: user alice added\r\n")));
    let program = place.start("password_file.path = 'users'\n");
    assert_eq!(program.connect(program.address(), &["-u", "alice", "-P", "secret"]), Ok(()));
}
