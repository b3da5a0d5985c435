//! Password files: of Mosquitto, of VerneMQ and our own.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Socket, Type};

use crate::client::{Connection, Reply};
use crate::program::{Place, Program};

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
    for version in ["311", "5"] {
        for nobody in [&["-V", version, "-u", "stranger", "-P", "p 1"][..], &["-V", version, "-u", "stranger"]] {
            let refusal = program.connect(program.address(), nobody).expect_err("nobody knows this client");
            assert!(refusal.to_lowercase().contains("bad user name or password"), "as for one who exists: {refusal}");
        }
    }
    let refusal = program.connect(program.address(), &[]).expect_err("nobody knows this client");
    assert!(refusal.to_lowercase().contains("not authori"), "{refusal}");
}

/// A user with a hash that takes long to check and that no password fits.
fn heavy() -> String {
    let hash = "A".repeat(86) + "==";
    format!("heavy:$7$10000$AQIDBAUGBwgJCgsM${hash}\n")
}

/// A connection from an address of the loopback network.
fn open_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

fn try_as(program: &Program, from: [u8; 4], user: &str, password: &str) -> Connection {
    try_at(program.address(), from, "", user, password)
}

fn try_at(to: SocketAddr, from: [u8; 4], client_id: &str, user: &str, password: &str) -> Connection {
    let mut client = Connection::over(open_from(from, to));
    client.connect_with_password(client_id, user, password);
    client
}

/// Whether the broker has sent anything yet.
fn has_answer(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let answer = stream.peek(&mut [0]).is_ok();
    stream.set_nonblocking(false).unwrap();
    answer
}

/// It is done by turns: whoever sends many wrong passwords is not done when others have their answer.
#[test]
fn who_sends_many_wrong_passwords_keeps_nobody_else_out() {
    let place = Place::new();
    place.write("users", &(heavy() + VERNEMQ));
    let program = place.start(&format!("{CONFIG}\npassword_file.threads = 1"));
    let flood: Vec<_> = (0..100)
        .map(|_| {
            let stream = open_from([127, 0, 0, 1], program.address());
            Connection::over(stream.try_clone().unwrap()).connect_with_password("", "heavy", "guess");
            stream
        })
        .collect();
    for from in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        assert_eq!(try_as(&program, from, "vernemq", "secret").connack(), 0, "from {from:?}");
    }
    let waiting = flood.iter().filter(|stream| !has_answer(stream)).count();
    assert!(waiting > 50, "only {waiting} of 100 wrong passwords still wait");
}

#[test]
fn for_whom_there_is_no_time_the_service_is_unavailable() {
    let place = Place::new();
    place.write("users", &(heavy() + VERNEMQ));
    let late = "[hooks.auth_on_register_m5]\nlater_deadline = '200ms'";
    let program = place.start(&format!("{CONFIG}\npassword_file.threads = 1\n{late}"));
    let mut flood: Vec<_> = (0..100).map(|_| try_as(&program, [127, 0, 0, 1], "heavy", "guess")).collect();
    let codes: Vec<_> = flood.iter_mut().map(Connection::connack).collect();
    assert!(codes.contains(&0x88) && codes.iter().all(|code| [0x86, 0x88].contains(code)), "{codes:x?}");
}

#[test]
fn for_whom_there_is_no_room_the_service_is_unavailable() {
    let place = Place::new();
    place.write("users", &(heavy() + VERNEMQ));
    let program = place.start(&format!("{CONFIG}\npassword_file.threads = 1\npassword_file.max_waiting = 8"));
    let mut flood: Vec<_> = (0..20).map(|_| try_as(&program, [127, 0, 0, 1], "heavy", "guess")).collect();
    assert_eq!(try_as(&program, [127, 0, 0, 2], "vernemq", "secret").connack(), 0, "an address leaves room for others");
    let codes: Vec<_> = flood.iter_mut().map(Connection::connack).collect();
    assert!(codes.contains(&0x88) && codes.contains(&0x86), "{codes:x?}");
    assert!(codes.iter().all(|code| [0x86, 0x88].contains(code)), "{codes:x?}");
}

/// Ends what others do until then, however the test goes.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Some at a time there is no room for, and that is what they are told, never that they may not come: they come again, and all get
/// in, while somebody else sends wrong passwords, for their user, too.
#[test]
fn a_thousand_devices_at_once_get_in_while_somebody_sends_wrong_passwords() {
    rlimit::increase_nofile_limit(4096).unwrap();
    let place = Place::new();
    place.mosquitto_passwd(&["-H", "sha512", "-c", "-b", "users", "ann", "right"]);
    place.write("users", &(place.read("users") + VERNEMQ));
    let program = place.start(&format!("{CONFIG}\npassword_file.max_waiting = 256"));
    let (address, are_in) = (program.address(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let attack = scope.spawn(|| {
            let mut codes = [0; 256];
            while !are_in.load(Ordering::Relaxed) {
                let mut guesses: Vec<_> = (0..50)
                    .map(|number| {
                        let user = ["vernemq", "ann", "stranger"][number % 3];
                        try_at(address, [127, 0, 0, 9], "", user, "guess")
                    })
                    .collect();
                guesses.iter_mut().for_each(|guess| codes[usize::from(guess.connack())] += 1);
            }
            codes
        });
        let until = Until(&are_in);
        // Two gateways, of which each has 500 devices.
        let mut out: Vec<(u8, usize)> = (0..1000).map(|number| (1 + (number % 2) as u8, number)).collect();
        let (mut devices, mut refused) = (Vec::new(), 0);
        while !out.is_empty() {
            let mut tries: Vec<_> = out
                .drain(..)
                .map(|(gateway, number)| {
                    let id = format!("device-{number}");
                    (try_at(address, [127, 0, 0, gateway], &id, "vernemq", "secret"), gateway, number)
                })
                .collect();
            for (mut device, gateway, number) in tries.drain(..) {
                match device.connack() {
                    0 => devices.push(device),
                    0x88 => {
                        refused += 1;
                        out.push((gateway, number));
                    }
                    code => panic!("device {number} has the right password, and is refused with {code:#x}"),
                }
            }
        }
        drop(until);
        let codes = attack.join().unwrap();
        let wrong = codes[0x86] + codes[0x88];
        println!("1,000 devices are in, after {refused} refusals; {wrong} wrong passwords meanwhile");
        assert!(refused > 0, "there is room for 256");
        assert!(codes[0x86] > 0 && codes.iter().sum::<usize>() == wrong, "{codes:?}");
        for device in &mut devices {
            device.ping();
            assert_eq!(device.receive(), Reply::Pingresp);
        }
    });
}

/// The memory of Argon2 is used again while there is work, and given back afterwards.
#[test]
fn the_memory_that_passwords_take_is_given_back() {
    let place = Place::new();
    place.passwd(&["users", "ann"], "secret");
    let program = place.start(&format!("{CONFIG}\npassword_file.threads = 2"));
    let before = program.resident_kib();
    let mut clients: Vec<_> = (0..20).map(|_| try_as(&program, [127, 0, 0, 1], "ann", "secret")).collect();
    assert!(clients.iter_mut().all(|client| client.connack() == 0));
    let busy = program.resident_kib();
    let mut idle = busy;
    for _ in 0..600 {
        idle = program.resident_kib();
        if idle < before + (10 << 10) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    println!("resident: {before} KiB before 20 logins, {busy} KiB at their end, {idle} KiB when idle");
    assert!(idle < before + (10 << 10), "{before} KiB before, {busy} KiB at the end, {idle} KiB much later");
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
