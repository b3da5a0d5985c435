//! From CONNECT to session: the questions that are asked about a connecting client, and what is agreed on with it.
//!
//! ```text
//!  CONNECT ──► checked ──► Unauthenticated ──────► Authenticated ──────► Registered ─────────► AcceptedConnect
//!                 │         on_auth_m5             auth_on_register      auth_on_publish (will)
//!                 │          │   ▲ AUTH                  │                    │
//!                 │      AUTH▼   │                       │                    │
//!                 │         AwaitingAuth                 │                    │
//!                 └────────────┴───── Refusal ───────────┴────────────────────┘
//! ```
//!
//! A client without an authentication method begins as [`Authenticated`], one without a will is accepted when it is
//! registered. Each stage is a type that owns what is known by then; a transition consumes one and gives the next.
//! Between two of them a connection holds a [`PendingConnect`].
//!
//! Owns: the listeners as a shard uses them, and the generator of client ids. Trusts nothing in a first packet; it is
//! decoded once, into an owned request. Never touches a session before all hooks have accepted, never sends a byte,
//! never runs a hook's future: what is to be sent, run or counted is in the values it returns.

mod accepted;
mod candidate;
mod connack;
mod exchange;
mod first_packet;
mod listener;
mod reauthentication;
mod refusal;
mod registration;
mod request;
mod settings;
mod stages;
mod stranger;
#[cfg(test)]
mod tests;
mod will;

use std::ops::ControlFlow;
use std::sync::Arc;

pub use accepted::{AcceptedConnect, ReplacedSession};
pub use exchange::NextPacket;
pub use first_packet::{FirstPacket, NewConnection};
pub use listener::Listener;
pub use reauthentication::{LiveConnection, Reauthentication};
pub use refusal::Refusal;
pub use settings::expiry_at_disconnect;
pub use stages::{PendingConnect, Progress, Question};
pub use stranger::stranger;

use crate::codec::Auth;
use crate::config::Config;
use crate::connection::Violation;
use crate::hooks::Chain;
use crate::hooks::ask::Resumed;
use crate::random::Random;
use crate::time::Time;

/// What a shard needs to let clients in. One per shard.
pub struct Handshake {
    listeners: Vec<Listener>,
    random: Random,
    config: Arc<Config>,
}

impl Handshake {
    /// The handshake of this configuration, which has been checked. `random` makes up client ids.
    pub fn new(config: Arc<Config>, random: Random) -> Self {
        let listeners = config.listeners.iter().map(|listener| Listener::new(listener, &config)).collect();
        Handshake { listeners, random, config }
    }

    /// The listener at this place in the configuration.
    pub fn listener(&self, number: usize) -> &Listener {
        &self.listeners[number]
    }

    /// A listener accepted a connection: by when its CONNECT must be complete.
    pub fn accepted(&self, listener: usize, now: Time) -> Time {
        now + self.listeners[listener].connect_timeout
    }

    /// What is made of the first packet of a connection: `raw`, a whole one, which must be a CONNECT [MQTT-3.1.0-1].
    pub fn first_packet<S: Default>(&mut self, raw: &[u8], origin: NewConnection) -> FirstPacket<S> {
        let listener = &self.listeners[origin.listener];
        first_packet::first_packet(raw, origin, &self.config, listener, &mut self.random)
    }

    /// Asks the questions that are left, from `question` on, until a hook answers later, the client is to answer, it is
    /// refused, or all have accepted. `resumed` is the answer to `question`, if a hook had put that off.
    pub fn ask<C: Chain>(
        &self,
        chain: &mut C,
        mut question: Question<C::State>,
        mut resumed: Option<Resumed>,
        now: Time,
    ) -> Progress<C::State> {
        let config = &*self.config;
        loop {
            let listener = &self.listeners[question.candidate().listener];
            let resumed = resumed.take();
            let answered = match question {
                Question::Authenticate(stage) => stage.ask(chain, resumed, now + config.limits.auth_timeout),
                Question::Register(stage) => stage.ask(chain, resumed, config, listener),
                Question::Will(stage) => stage.ask(chain, resumed, config, listener),
            };
            match answered {
                ControlFlow::Continue(next) => question = next,
                ControlFlow::Break(progress) => return progress,
            }
        }
    }

    /// AUTH on a live connection, or the answer that a hook had put off: what becomes of it. A success changes user
    /// name, rate, sizes and lifetime of the connection and its session at once.
    ///
    /// # Errors
    ///
    /// The client used another method than in its CONNECT, or none there; or the AUTH continues no exchange.
    pub fn reauthenticate<C: Chain>(
        &self,
        chain: &mut C,
        mut live: LiveConnection<'_, C::State>,
        auth: &Auth<'_>,
        resumed: Option<Resumed>,
        now: Time,
    ) -> Result<Reauthentication, Violation> {
        let lifetime = self.listeners[live.listener].lifetime;
        let limits = reauthentication::Limits { due: now + self.config.limits.auth_timeout, lifetime };
        live.reauthenticate(chain, auth, resumed, limits, now)
    }
}
