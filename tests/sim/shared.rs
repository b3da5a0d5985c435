//! Rules for shared subscriptions: each message has one member that gets it.

use moormq::codec::QoS;

use crate::deliveries::TWICE;
use crate::history::{FILTERS, FIRST_SHARED_FILTER, FIRST_SHARED_TOPIC, matches};
use crate::judge::{Judge, Member, Message, Session, Stage, Subscription};

impl Judge {
    /// How many shared subscriptions the session may have had that match `topic`.
    pub fn groups_of(&self, session: usize, topic: usize) -> usize {
        let ever = self.sessions[session].ever;
        (FIRST_SHARED_FILTER..FILTERS.len()).filter(|filter| ever & 1 << filter != 0 && matches(*filter, topic)).count()
    }

    /// How many shared subscriptions there have been in a mountpoint that match `topic`.
    fn all_groups(&self, mount: usize, topic: usize) -> usize {
        let sessions = self.sessions.iter().filter(|session| self.mount_of(session.subject) == mount);
        let ever = sessions.fold(0, |ever, session| ever | session.ever);
        (FIRST_SHARED_FILTER..FILTERS.len()).filter(|filter| ever & 1 << filter != 0 && matches(*filter, topic)).count()
    }

    /// A copy for one member: at QoS 2 no other member may have it.
    pub fn see_shared(&mut self, session: usize, number: u32, qos: QoS, anew: bool) {
        // A client that has forgotten what it had cannot say whether it is a new one.
        if qos != QoS::ExactlyOnce || !anew || self.sessions[session].is_forgetful {
            return;
        }
        let message = &mut self.messages[number as usize];
        message.groups += 1;
        let (copies, routes, topic) = (message.groups as usize, message.routes.len(), message.topic);
        let groups = self.all_groups(self.mount_of(self.sessions[session].subject), topic);
        if copies > groups * routes {
            let detail = format!("{copies} members of {groups} shared subscriptions got message {number}");
            self.find(TWICE, detail);
        }
    }

    /// Whether a member of a shared subscription is one still.
    fn holds(&self, member: &Member) -> bool {
        let session = &self.sessions[member.session];
        !session.ended && session.subscriptions.iter().any(|one| one.number == member.number)
    }

    /// Whether what one member was sent of it may go to another one: not at QoS 2, for the client may have had it.
    fn may_go_to_others(&self, message: &Message) -> bool {
        message.qos == QoS::AtLeastOnce && !self.setup.upgrades_qos
    }

    /// Whether a message that ended with the session of `session` could have gone to somebody else.
    pub fn could_be_passed_on(&self, session: usize, number: u32) -> bool {
        let (message, ending) = (&self.messages[number as usize], &self.sessions[session]);
        // The end of a will's own session may be observed before its publication is.
        let topic = if message.routes.is_empty() { message.meant_for.unwrap_or_default() } else { message.topic };
        if !self.may_go_to_others(message) || topic < FIRST_SHARED_TOPIC {
            return false;
        }
        let mount = self.mount_of(ending.subject);
        let has_other = |filter: usize| {
            let is_member = |other: &Session| {
                // With many memberships these end one after another, and the hooks are told behind the last one.
                let shared = |one: &&Subscription| one.filter >= FIRST_SHARED_FILTER;
                if other.subscriptions.iter().filter(shared).count() > self.setup.turn().at_once {
                    return false;
                }
                let known = |one: &Subscription| one.filter == filter && one.confirmed && one.since < self.rests;
                !other.ended && self.mount_of(other.subject) == mount && other.subscriptions.iter().any(known)
            };
            let mut others = self.sessions.iter().enumerate().filter(|(at, _)| *at != session);
            self.careless[mount] & 1 << filter == 0 && others.any(|(_, other)| is_member(other))
        };
        let mut through = (FIRST_SHARED_FILTER..FILTERS.len())
            .filter(|filter| ending.ever & 1 << filter != 0 && matches(*filter, topic));
        through.all(has_other)
    }

    /// Everything has come to rest: what shared subscriptions got while one of their members was online, and is still, waits
    /// for nobody who has left.
    pub fn judge_passed_on(&mut self) {
        for at in 0..self.messages.len() {
            let message = &self.messages[at];
            if !message.is_due || !self.may_go_to_others(message) {
                continue;
            }
            let accounted: usize = self.sessions.iter().map(|session| session.accounted(at as u32)).sum();
            let mount = self.mount_of(message.subject);
            let due = |(filter, members): &&(usize, Vec<Member>)| {
                let stays = |member: &Member| self.holds(member) && self.has_stayed(member);
                let careful = self.careless[mount] & 1 << *filter == 0;
                careful && members.iter().any(stays) && !self.is_held_up(mount, *filter)
            };
            if accounted < message.shared.iter().filter(due).count() {
                let detail = format!("message {at} came to {accounted}, and there are members that it could go to");
                return self.find("messages: a member that is online gets what another one leaves", detail);
            }
            self.messages[at].is_due = accounted < message.shared.len();
        }
    }

    /// Whether a member has the connection that it had when the message was published.
    fn has_stayed(&self, member: &Member) -> bool {
        let session = &self.sessions[member.session];
        let is_online = self.subjects[session.subject].stage == Stage::Online;
        member.online == Some(session.serial) && is_online && self.connections[session.serial as usize].ended.is_none()
    }

    /// Whether somebody who has, or had, this shared subscription is online and takes nothing: it may be his.
    fn is_held_up(&self, mount: usize, filter: usize) -> bool {
        let mut sessions = self.sessions.iter().filter(|session| !session.ended && session.ever & 1 << filter != 0);
        sessions.any(|session| {
            self.mount_of(session.subject) == mount
                && self.subjects[session.subject].stage == Stage::Online
                && !self.connections[session.serial as usize].is_responsive
        })
    }

    pub fn judge_shared(&mut self) {
        for at in 0..self.messages.len() {
            let message = &self.messages[at];
            let careless = self.careless[self.mount_of(message.subject)];
            let holds = |member: &Member| self.holds(member);
            let careful = message.shared.iter().filter(|(filter, _)| careless & 1 << filter == 0);
            let due = careful.filter(|(_, members)| members.iter().any(holds)).count();
            if due == 0 {
                continue;
            }
            let accounted: usize = self.sessions.iter().map(|session| session.accounted(at as u32)).sum();
            if accounted < due {
                let detail =
                    format!("message {at} is accounted for {accounted} times of {due} in its shared subscriptions");
                self.find("messages: none is lost of a shared subscription", detail);
            }
        }
    }
}
