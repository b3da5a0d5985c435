//! The grammar of lifecycle hooks, for each subscriber id, and what follows from it for wills.
//!
//! ```text
//! no session --wakeup-->   online
//! online     --offline-->  offline     the session was kept
//! online     --gone-->     no session  it ended with its connection
//! offline    --wakeup-->   online      session present
//! offline    --expired-->  no session
//! ```

use moormq::client::{EndReason, ExpiredReason};
use moormq::codec::{ProtocolVersion, ReasonCode};
use moormq::shard::TurnLimits;

use crate::history::MIRROR;
use crate::judge::{Judge, Session, Stage, Will};

const GRAMMAR: &str = "lifecycle: the grammar of hooks";
const REASON: &str = "lifecycle: reasons are true";
const WILL: &str = "wills: published exactly when they must be";

impl Judge {
    fn ungrammatical(&mut self, subject: usize, what: &str) {
        let one = &self.subjects[subject];
        let detail = format!("{}: {what} while {:?}, registering {:?}", one.id, one.stage, one.registering);
        self.find(GRAMMAR, detail);
    }

    /// Whether the end of a session that leaves a lot may come before the client is registered that it makes way for: when it does not take
    /// many messages to be a lot.
    fn ends_may_come_first(&self) -> bool {
        // What is in pages has to be read first.
        let is_paged = self.setup.is_stored() && self.setup.paging().is_some();
        let waits = self.setup.turn() != TurnLimits::default() || self.setup.has_small_mailboxes();
        waits || is_paged || self.pressure.was_congested
    }

    pub fn registered(&mut self, subject: usize, serial: u32, number: u64) {
        if self.subjects[subject].registering.is_some() || self.subjects[subject].unsubscribed {
            self.ungrammatical(subject, "on_register");
        }
        let one = &mut self.subjects[subject];
        if number <= one.number {
            let detail = format!("{}: {number} after {}", one.id, one.number);
            self.find("lifecycle: session numbers rise", detail);
        }
        self.must_be_authenticated(serial);
        if self.subjects[subject].session.is_none() && !self.subjects[subject].made_way {
            self.must_have_memory(serial);
        }
        self.must_be_noticed(subject);
        let one = &mut self.subjects[subject];
        (one.number, one.made_way) = (number, false);
        one.registering = Some(serial);
    }

    pub fn woke_up(&mut self, subject: usize, serial: u32, present: bool) {
        let one = &self.subjects[subject];
        let clean = self.connections[serial as usize].options.clean;
        let fits = one.registering == Some(serial)
            && !one.unsubscribed
            && one.stage != Stage::Online
            && present == (one.stage == Stage::Offline)
            && !(clean && present);
        if !fits {
            self.ungrammatical(subject, &format!("on_client_wakeup, session present {present}"));
        }
        let session = match self.subjects[subject].session.filter(|_| present) {
            Some(session) => session,
            None => {
                let is_mirror = *self.subjects[subject].id.client_id == *format!("c{MIRROR}");
                self.sessions.push(Session { subject, is_mirror, ..Session::default() });
                self.sessions.len() - 1
            }
        };
        if let Some(forgotten) = self.sessions[session].will.take() {
            self.forget_will(forgotten.message);
        }
        self.sessions[session].serial = serial;
        let is_kept = self.is_stored(serial);
        let disk = &mut self.sessions[session].disk;
        disk.serials.push(serial);
        disk.gone_for = None;
        // With a connection that it ends with it is kept no more.
        disk.promised = disk.promised.filter(|_| is_kept);
        self.sessions[session].woke_at = self.rests;
        self.sessions[session].expires = None;
        let one = &mut self.subjects[subject];
        (one.registering, one.stage, one.session) = (None, Stage::Online, Some(session));
        let connection = self.connection(serial);
        (connection.session, connection.woke) = (Some(session), Some(present));
    }

    /// `on_client_offline` or `on_client_gone`.
    pub fn left(&mut self, subject: usize, serial: u32, reason: EndReason, kept: bool) {
        let one = &self.subjects[subject];
        let taken_over = reason == EndReason::TakenOver;
        let session = one.session.filter(|session| self.sessions[*session].serial == serial);
        let Some(session) = session.filter(|_| one.stage == Stage::Online) else {
            return self.ungrammatical(subject, &format!("the end of connection {serial} ({reason:?})"));
        };
        let fits = match taken_over {
            true => one.registering.is_some() || self.ends_may_come_first(),
            false => one.registering.is_none(),
        };
        if !fits || one.unsubscribed == kept {
            self.ungrammatical(subject, &format!("leaving ({reason:?}), kept {kept}"));
        }
        let (mut keeps, mut expiry) = self.session_settings(serial);
        let connection = &self.connections[serial as usize];
        if let (EndReason::ClientDisconnect(_), Some(seconds)) = (reason, connection.new_expiry) {
            (keeps, expiry) = (seconds > 0, Some(u64::from(seconds) * 1000));
        }
        if keeps != kept {
            self.ungrammatical(subject, &format!("leaving, kept {kept}, and it had to be {keeps}"));
        }
        self.check_end(subject, serial, reason);
        self.leave_will(session, serial, reason, kept, expiry);
        self.connection(serial).ended = Some(reason);
        self.sessions[session].subscriptions.iter_mut().for_each(|one| one.confirmed &= !one.fresh);
        let now = self.now;
        let one = &mut self.subjects[subject];
        one.leaving = false;
        if kept {
            one.stage = Stage::Offline;
            let expires = expiry.map(|after| now + after);
            self.sessions[session].expires = expires;
            self.sessions[session].disk.left.push((serial, expires, self.rests));
        } else {
            self.subjects[subject].made_way = taken_over && self.subjects[subject].registering.is_none();
            self.end(subject, session);
        }
    }

    fn end(&mut self, subject: usize, session: usize) {
        let one = &mut self.subjects[subject];
        (one.stage, one.session, one.unsubscribed, one.ending) = (Stage::NoSession, None, false, false);
        self.sessions[session].ended = true;
        self.sessions[session].disk.ended_at = self.rests;
    }

    /// Checks that something has happened for which a connection may end with `reason`.
    fn check_end(&mut self, subject: usize, serial: u32, reason: EndReason) {
        let connection = &self.connections[serial as usize];
        let v311 = connection.options.version == ProtocolVersion::V311;
        let fits = match reason {
            EndReason::ClientDisconnect(code) => {
                let code_fits = |with_will: bool| (code == ReasonCode::DisconnectWithWill) == with_will;
                connection.sent_disconnect.is_some_and(code_fits)
            }
            // Whoever takes it over does not wait for what it has begun.
            EndReason::ConnectionLost => {
                let is_cut_short = self.stopping || self.drained.contains(&serial);
                connection.hung_up && (!connection.has_said_goodbye || is_cut_short)
            }
            EndReason::TakenOver => {
                let by = self.subjects[subject].registering;
                !connection.leaves_first || by.is_none_or(|by| by < serial)
            }
            EndReason::KeepAlive => connection.options.keep_alive > 0,
            EndReason::Admin => !self.subjects[subject].admin.is_empty(),
            EndReason::NotAuthorized | EndReason::HookFailure => {
                (v311 && connection.refusing) || self.may_fail_to_authenticate(serial)
            }
            EndReason::ServerShutdown => self.stopping,
            EndReason::ServerCrash => self.is_starting,
            EndReason::ProtocolError(_) | EndReason::Quota(_) | EndReason::MaximumLifetime => false,
        };
        if !fits {
            let detail = format!("{}: connection {serial} ended for {reason:?}", self.subjects[subject].id);
            self.find(REASON, detail);
        }
    }

    fn leave_will(&mut self, session: usize, serial: u32, reason: EndReason, kept: bool, expiry: Option<u64>) {
        let connection = &self.connections[serial as usize];
        let Some(message) = connection.will else { return };
        let is_v5 = connection.options.version == ProtocolVersion::V5;
        let forgotten = match reason {
            EndReason::ClientDisconnect(code) => !is_v5 || code == ReasonCode::Success,
            EndReason::TakenOver => self.setup.suppress_will,
            _ => false,
        };
        let delay = connection.options.will.map_or(0, |will| u64::from(will.delay) * 1000);
        let delay = if is_v5 { delay } else { 0 };
        // Shards stop one after the other, and one that does has no time for delays.
        let has_time = !self.stopping || self.messages[message as usize].times_as_will() == 0;
        let delayed = kept && delay > 0 && reason != EndReason::ServerShutdown && has_time;
        if !forgotten && delayed {
            let due = self.now + expiry.map_or(delay, |expiry| expiry.min(delay));
            self.sessions[session].will = Some(Will { message, due });
            return;
        }
        if forgotten {
            self.forget_will(message);
        } else {
            self.messages[message as usize].must = Some(true);
        }
        let times = self.messages[message as usize].times_as_will();
        if times != usize::from(!forgotten) {
            let detail = format!("of connection {serial}, which ended for {reason:?}: {times} times");
            self.find(WILL, detail);
        }
    }

    /// A will is not to be published any more.
    fn forget_will(&mut self, message: u32) {
        let rests = self.rests;
        let message = &mut self.messages[message as usize];
        (message.must, message.stored.decided_at) = (Some(false), rests);
    }

    pub fn unsubscribed_all(&mut self, subject: usize) {
        let one = &self.subjects[subject];
        if one.session.is_none() || one.unsubscribed {
            self.ungrammatical(subject, "on_topic_unsubscribed(all)");
        }
        let one = &mut self.subjects[subject];
        one.unsubscribed = true;
        if let Some(session) = one.session {
            self.sessions[session].subscriptions.clear();
            self.sessions[session].changes += 1;
        }
    }

    pub fn expired(&mut self, subject: usize, reason: ExpiredReason) {
        let one = &self.subjects[subject];
        let one_registers_later = one.registering.is_none();
        let Some(session) = one.session.filter(|_| one.stage == Stage::Offline && one.unsubscribed) else {
            return self.ungrammatical(subject, &format!("on_session_expired({reason:?})"));
        };
        let fits = match reason {
            ExpiredReason::Expiry => self.sessions[session].expires.is_some_and(|at| at <= self.now),
            ExpiredReason::CleanStart => {
                let by = one.registering.map(|serial| self.connections[serial as usize].options.clean);
                by.unwrap_or(self.ends_may_come_first())
            }
            ExpiredReason::Admin => one.admin.iter().any(|request| request.cleanup),
            ExpiredReason::Limit => false,
        };
        if !fits {
            let detail = format!("{}: its session ended for {reason:?}", one.id);
            self.find(REASON, detail);
        }
        if let Some(will) = &mut self.sessions[session].will {
            will.due = self.now;
        }
        self.subjects[subject].made_way = reason == ExpiredReason::CleanStart && one_registers_later;
        self.end(subject, session);
    }

    /// A will was published: it must be due, unless its connection is just ending, which is seen then.
    pub fn will_published(&mut self, message: u32) {
        let one = &self.messages[message as usize];
        let (times, must, serial) = (one.times_as_will(), one.must, one.serial);
        let pending = self.connections[serial as usize].session.and_then(|session| self.sessions[session].will);
        let pending = pending.filter(|will| will.message == message);
        let early = pending.is_some_and(|will| will.due > self.now && !self.stopping);
        if times > 1 || must == Some(false) || early {
            let detail = format!("of connection {serial}: {times} times, must be {must:?}, early {early}");
            self.find(WILL, detail);
        }
    }

    /// The checks when everything has arrived.
    pub fn judge_lifecycles(&mut self) {
        // The wheel is coarse, and the whole of a tick may pass.
        let late = self.now.saturating_sub(16);
        for at in 0..self.subjects.len() {
            let one = &self.subjects[at];
            if one.registering.is_some() || one.unsubscribed {
                self.ungrammatical(at, "nothing more");
            }
            let expired = |session: usize| self.sessions[session].expires.is_some_and(|at| at < late);
            if self.subjects[at].session.is_some_and(expired) {
                let detail = format!("{} is kept for longer than it should be", self.subjects[at].id);
                self.find("lifecycle: sessions end in time", detail);
            }
            self.judge_admin_requests(at);
        }
        for at in 0..self.sessions.len() {
            let Some(Will { message, due }) = self.sessions[at].will else { continue };
            let times = self.messages[message as usize].times_as_will();
            // One that is on disk waits for the next broker.
            let waits_on = self.stopping && self.setup.is_stored() && times == 0;
            if (due < late || self.stopping) && times != 1 && !waits_on {
                let detail = format!("of connection {}, delayed and due: {times} times", self.sessions[at].serial);
                self.find(WILL, detail);
            }
        }
        for at in 0..self.messages.len() {
            let one = &self.messages[at];
            if one.is_will && one.must.is_none() && !one.routes.is_empty() {
                let connection = &self.connections[one.serial as usize];
                if connection.ended.is_none() {
                    let detail = format!("of connection {}, which has not ended", one.serial);
                    self.find(WILL, detail);
                }
            }
        }
    }

    fn judge_admin_requests(&mut self, subject: usize) {
        for request in std::mem::take(&mut self.subjects[subject].admin) {
            let connected = request.serial.is_some_and(|serial| self.connections[serial as usize].ended.is_none());
            // Sessions that wait to move when the broker stops are not ended any more; their connections are.
            let kept = !self.stopping
                && request.cleanup
                && request.session.is_some_and(|session| !self.sessions[session].ended);
            if connected || kept {
                let detail = format!("{}: {request:?}", self.subjects[subject].id);
                self.find("lifecycle: an operator's request is carried out", detail);
            }
        }
    }
}
