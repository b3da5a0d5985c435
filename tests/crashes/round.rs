//! What all clients of a campaign share: where the broker is, what time it is, and what has gone wrong.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use moormq::codec::{Connect, ProtocolVersion};

/// Kept for as long as a campaign may take.
pub const EXPIRY: u32 = 86_400;

/// What clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Whatever their habits are.
    Load,
    /// They come, and bring to an end what they have begun.
    Drain,
    /// The broker is being killed: whose connection fails is done for this round.
    Killed,
    /// They leave.
    Leave,
}

/// Shared by the clients.
#[derive(Default)]
pub struct Common {
    phase: AtomicU8,
    clock: AtomicU64,
    pub round: AtomicU32,
    faults: Mutex<Vec<String>>,
    /// Whether queues are gone through in order.
    pub is_ordered: bool,
}

impl Common {
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Load,
            1 => Phase::Drain,
            2 => Phase::Killed,
            _ => Phase::Leave,
        }
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    /// The next moment: later than all that were given before.
    pub fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn round(&self) -> u32 {
        self.round.load(Ordering::SeqCst)
    }

    pub fn fault(&self, what: String) {
        let mut faults = self.faults.lock().expect("nobody panics");
        if faults.len() < 30 {
            faults.push(format!("round {}: {what}", self.round()));
        }
    }

    pub fn faults(&self) -> Vec<String> {
        self.faults.lock().expect("nobody panics").clone()
    }
}

/// CONNECT of a client whose session is kept.
pub fn connect(version: ProtocolVersion, client_id: &str) -> Connect<'_> {
    let mut connect = Connect::new(version, client_id);
    connect.clean_start = false;
    if version.is_v5() {
        connect.properties.session_expiry = Some(EXPIRY);
    }
    connect
}

/// Where the broker listens in this round.
#[derive(Clone, Copy)]
pub struct Round<'a> {
    pub common: &'a Common,
    pub address: SocketAddr,
}
