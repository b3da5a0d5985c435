//! Rules for subscriptions: requested, granted, and acknowledged.

use moormq::codec::{QoS, ReasonCode, RetainHandling, Suback};

use crate::history::{Ask, FIRST_SHARED_FILTER, TOPICS, matches};
use crate::judge::{Asked, Judge, Session, Subscription};

impl Judge {
    /// A SUBSCRIBE has come to the hooks: from now on its filters may be in effect.
    pub fn asked_to_subscribe(&mut self, subject: usize, serial: u32, asks: &[Ask]) {
        let Some(session) = self.subjects[subject].session else { return };
        let (mount, id) = (self.mount_of(subject), self.connections[serial as usize].subscription_id);
        let session = &mut self.sessions[session];
        session.changes += 1;
        for ask in asks {
            let (filter, qos, no_local) = (ask.filter, ask.options.qos, ask.options.no_local);
            session.ever |= 1 << filter;
            session.asked.push(Asked { filter, no_local, id, after: self.publications_at_rest });
            session.disk.subscribes(serial, filter, (qos, no_local, id));
            if filter >= FIRST_SHARED_FILTER && qos == QoS::AtMostOnce {
                self.careless[mount] |= 1 << filter;
            }
            let known = session.subscriptions.iter_mut().find(|one| one.filter == filter);
            let is_old = known.as_ref().is_some_and(|one| one.confirmed && !one.is_changing);
            let may_see = match ask.options.retain_handling {
                RetainHandling::SendIfNew => !is_old,
                _ => true,
            };
            if may_see && ask.wants_retained() {
                let topics = (0..TOPICS.len()).filter(|topic| matches(filter, *topic));
                topics.for_each(|topic| session.initial[topic].0 += 1);
            }
            let Some(one) = known else {
                let (since, confirmed, fresh, is_changing) = (0, false, false, true);
                let one = Subscription { filter, number: 0, qos, no_local, id, is_changing, confirmed, fresh, since };
                session.subscriptions.push(one);
                continue;
            };
            // While it changes it may be either.
            (one.qos, one.no_local) = (one.qos.min(qos), one.no_local || no_local);
            one.is_changing = true;
            for owed in session.owed.iter_mut().filter(|owed| owed.through.contains(&one.number)) {
                owed.qos = owed.qos.min(qos);
            }
        }
    }

    /// It has taken effect, and SUBACK follows: from now on nothing is missed.
    pub fn subscribed(&mut self, subject: usize, serial: u32, asks: &[Ask]) {
        let Some(session) = self.subjects[subject].session else {
            let detail = format!("{}: on_subscribe without a session", self.subjects[subject].id);
            return self.find("lifecycle: the grammar of hooks", detail);
        };
        let id = self.connections[serial as usize].subscription_id;
        self.sessions[session].changes += 1;
        for ask in asks {
            let (filter, qos, no_local) = (ask.filter, ask.options.qos, ask.options.no_local);
            self.subscription_numbers += 1;
            let number = self.subscription_numbers;
            let session = &mut self.sessions[session];
            session.disk.subscribes(serial, filter, (qos, no_local, id));
            if let Some(one) = session.subscriptions.iter_mut().find(|one| one.filter == filter) {
                let (number, since) = if one.confirmed { (one.number, one.since) } else { (number, self.rests) };
                let (confirmed, fresh, is_changing) = (true, true, false);
                *one = Subscription { filter, number, qos, no_local, id, is_changing, confirmed, fresh, since };
                if let Some(wanting) = self
                    .wanting
                    .iter_mut()
                    .find(|wanting| wanting.serial == serial && wanting.filter == filter && wanting.number == 0)
                {
                    wanting.number = number;
                }
            }
        }
    }

    pub fn unsubscribed(&mut self, subject: usize, filters: &[usize]) {
        let Some(session) = self.subjects[subject].session else { return };
        let one = &mut self.sessions[session];
        let serial = one.serial;
        filters.iter().for_each(|filter| one.disk.unsubscribes(serial, *filter));
        one.subscriptions.retain(|one| !filters.contains(&one.filter));
        self.sessions[session].changes += 1;
        self.wanting.retain(|wanting| wanting.session != session || !filters.contains(&wanting.filter));
    }

    /// SUBACK has come: an answer for each filter, and what it grants there is.
    pub fn subscription_answered(&mut self, serial: u32, asks: [Option<Ask>; 2], suback: Suback<'_>) {
        self.suback_promises(serial, asks, suback);
        let connection = &self.connections[serial as usize];
        let session = connection.session.filter(|_| connection.ended.is_none()).map(|session| &self.sessions[session]);
        let lasts = |session: &Session| !session.ended && !self.subjects[session.subject].unsubscribed;
        let Some(session) = session.filter(|session| lasts(session) && session.serial == serial) else { return };
        let asks: Vec<Ask> = asks.into_iter().flatten().collect();
        let codes: Vec<_> = suback.codes.iter().collect();
        let granted = |ask: &Ask| session.subscriptions.iter().any(|one| one.filter == ask.filter && one.confirmed);
        let fits = |(ask, code): (&Ask, &ReasonCode)| {
            code.is_error() || (code.value() == ask.options.qos as u8 && granted(ask))
        };
        if codes.len() != asks.len() || !asks.iter().zip(&codes).all(fits) {
            let detail = format!("connection {serial} asked for {asks:?} and receives {codes:?}");
            self.find("packets: SUBACK says what is", detail);
        }
        // Who is refused gets nothing of what is retained, and a later SUBSCRIBE may want none.
        for (ask, _) in asks.iter().zip(&codes).filter(|(_, code)| code.is_error()) {
            self.wanting.retain(|one| one.serial != serial || one.filter != ask.filter || one.number != 0);
        }
    }
}
