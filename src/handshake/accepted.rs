//! A client that all hooks have accepted.

use std::net::SocketAddr;

use super::connack::ConnackBuilder;
use super::refusal::{Refusal, log_refusal};
use super::request::Request;
use crate::client::Client;
use crate::codec::{ConnectProperties, ReasonCode};
use crate::hooks::{AuthSuccess, RegisterModifiersM5};
use crate::session::{SessionSettings, Will};
use crate::sharding::SessionPlace;
use crate::time::Time;

/// A client that was accepted, on its way to the shard and session that are its own. `S` is what the hooks keep for it.
pub struct AcceptedConnect<S> {
    /// Who it is, with the subscriber id and user name that the hooks settled on.
    pub client: Client,
    /// What the hooks keep for it.
    pub state: S,
    /// What was agreed on.
    pub settings: SessionSettings,
    /// Its will, if it has one that may be published.
    pub will: Option<Will>,
    /// Whether it begins with an empty session.
    pub clean_start: bool,
    /// The listener that accepted it, by its place in the configuration.
    pub listener: usize,
    /// Bytes behind its CONNECT: empty until its connection is handed to another shard.
    pub unread: Vec<u8>,
    /// The session that has ended for it, if that left too much for one turn and it had to wait for that.
    pub replaces: Option<ReplacedSession>,
    pub(super) request: Request,
    pub(super) auth: Option<Box<AuthSuccess>>,
    pub(super) modifiers: RegisterModifiersM5,
    pub(super) assigned_id: bool,
}

/// What is known still of a session that has ended so that another one of its client can begin.
#[derive(Debug)]
pub struct ReplacedSession {
    /// The place of the new one: nobody else can take it meanwhile.
    pub place: SessionPlace,
    /// The takeovers of the old one in the current window, and when that window began.
    pub takeovers: (u32, Time),
}

impl<S> AcceptedConnect<S> {
    /// The far end of its connection.
    pub fn peer(&self) -> SocketAddr {
        self.client.peer
    }

    /// The listener that accepted it, by its place in the configuration.
    pub fn listener(&self) -> usize {
        self.listener
    }

    /// The properties of its CONNECT: the default before MQTT 5.0.
    pub fn connect_properties(&self) -> ConnectProperties<'_> {
        self.request.properties()
    }

    /// The method of its enhanced authentication, if it used one.
    pub fn auth_method(&self) -> Option<&str> {
        self.request.auth_method()
    }

    /// Appends its CONNACK to `out`, shortened if it were larger than the client takes; false if it still is, and
    /// nothing was written [MQTT-3.1.2-24].
    pub fn connack(&self, session_present: bool, out: &mut Vec<u8>) -> bool {
        let connack = ConnackBuilder {
            client: &self.client,
            assigned_id: self.assigned_id,
            request: &self.request,
            settings: &self.settings,
            auth: self.auth.as_deref(),
            by: &self.modifiers,
        };
        connack.encode(session_present, out)
    }

    /// Its refusal after all, with this code and reason string.
    pub fn refuse(&self, code: ReasonCode, what: &'static str) -> Refusal {
        log_refusal(&self.client, code, what);
        Refusal::new(self.client.version, self.request.maximum_packet_size(), code).saying(what)
    }
}
