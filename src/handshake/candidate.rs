//! A client that is connecting.

use super::refusal::{Refusal, log_refusal};
use super::request::Request;
use crate::client::Client;
use crate::codec::ReasonCode;
use crate::connection::Violation;
use crate::hooks::{ConnectCode, ConnectRefusalM5};

/// A connecting client: who it is as far as that is known by now, and what it asks for. One for each connection between
/// CONNECT and session, handed from stage to stage. `S` is what the hooks keep for it.
pub struct Candidate<S> {
    /// Who it is; hooks may change that.
    pub client: Client,
    /// What the hooks keep for it.
    pub state: S,
    /// What it asks for.
    pub request: Request,
    /// The listener that accepted it, by its place in the configuration.
    pub listener: usize,
    /// Its client id was assigned by the broker.
    pub assigned_id: bool,
}

impl<S> Candidate<S> {
    /// A refusal with this code and reason string.
    pub fn refuse(&self, code: ReasonCode, what: &'static str) -> Refusal {
        log_refusal(&self.client, code, what);
        self.refusal(code).saying(what)
    }

    /// A refusal for what the client did wrong.
    pub fn refuse_violation(&self, violation: Violation) -> Refusal {
        let Violation { code, what } = violation;
        let refusal = self.refuse(code, what);
        if code == ReasonCode::MalformedPacket { refusal.where_there_are_words() } else { refusal }
    }

    /// A refusal with all that a hook has to say about it to the client; `why` is for the log.
    pub fn refuse_as_told(&self, by: ConnectRefusalM5, why: &str) -> Refusal {
        let code = by.code.unwrap_or_default().into();
        log_refusal(&self.client, code, by.reason_string.as_deref().unwrap_or(why));
        self.refusal(code).explained(by, self.request.auth_method())
    }

    /// A refusal because a hook failed.
    pub fn refuse_failed(&self) -> Refusal {
        let mut refusal = self.refuse_as_told(ConnectRefusalM5::default(), "a hook failed");
        refusal.hook_failed = true;
        refusal
    }

    /// A refusal because a hook did not answer in time: the client did nothing wrong and may come again.
    pub fn refuse_late(&self) -> Refusal {
        let mut refusal = self.refuse_as_told(
            ConnectRefusalM5::default().code(ConnectCode::ServerUnavailable),
            "a hook did not answer in time",
        );
        refusal.hook_failed = true;
        refusal
    }

    fn refusal(&self, code: ReasonCode) -> Refusal {
        Refusal::new(self.client.version, self.request.maximum_packet_size(), code)
    }
}
