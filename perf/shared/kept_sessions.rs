//! Kept sessions with a subscription each, whose clients are away, and what waits for them: the messages of a session are numbered from 0 on.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::under_test::Failure;
use crate::waiting_client::Client;

/// Clients at work at a time: so many share a commit.
const AT_ONCE: u32 = 64;
/// How many sessions are looked at in full.
const LOOKED_AT: u32 = 500;

/// Makes so many; how long that took.
pub fn make(address: SocketAddr, sessions: u32) -> Result<Duration, Failure> {
    in_parts(sessions, |of| {
        of.into_iter().try_for_each(|session| {
            let mut client = Client::connect(address, &name(session), true)?;
            client.subscribe(&topic(session))?;
            client.leave()
        })
    })
}

/// Some of the sessions have each of so many messages, once and in order. Nothing is acknowledged, so that all is there the next time.
pub fn check(address: SocketAddr, sessions: u32, expected: u32) -> Result<(), Failure> {
    for at in 0..LOOKED_AT.min(sessions) {
        let session = (u64::from(at) * u64::from(sessions) / u64::from(LOOKED_AT.min(sessions))) as u32;
        look_at(Client::connect(address, &name(session), true)?, expected)
            .map_err(|error| format!("{}: {error}", name(session)))?;
    }
    Ok(())
}

fn look_at(mut client: Client, expected: u32) -> Result<(), Failure> {
    for number in 0..expected {
        let payload = client.message()?;
        if payload.first_chunk() != Some(&number.to_be_bytes()) {
            return Err(
                format!("message {number} of {expected} is another one: {:?}", payload.first_chunk::<4>()).into()
            );
        }
    }
    match client.is_quiet()? {
        true => Ok(()),
        false => Err("there is more than was published".into()),
    }
}

/// Has several threads do a part each of so many sessions; how long that took.
pub fn in_parts(sessions: u32, act: impl Fn(Vec<u32>) -> Result<(), Failure> + Sync) -> Result<Duration, Failure> {
    let (began, act) = (Instant::now(), &act);
    thread::scope(|scope| {
        let parts = (0..AT_ONCE.min(sessions)).map(|part| {
            scope.spawn(move || act((0..sessions).skip(part as usize).step_by(AT_ONCE as usize).collect()))
        });
        let parts: Vec<_> = parts.collect();
        parts.into_iter().try_for_each(|part| part.join().map_err(|_| Failure::from("a thread panicked"))?)
    })?;
    Ok(began.elapsed())
}

/// The client id of a session.
pub fn name(session: u32) -> String {
    format!("session-{session}")
}

/// The topic of a session.
pub fn topic(session: u32) -> String {
    format!("s/{session}")
}

/// The payload of a message of a session: its number, then as many bytes as there are to be.
pub fn payload(number: u32, bytes: u32) -> Vec<u8> {
    let mut payload = vec![b'.'; bytes as usize];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    payload
}
