//! What a shard has in the store, for operators: sessions and retained messages are counted in portions, some in each turn.

use super::agenda::PutOff;
use super::clients::Clients;
use super::output::Output;
use super::pubsub::PubSub;
use super::recording::is_stored;
use super::store_report::{At, Counting, StoreReport};
use super::turn;
use crate::hooks::Chain;

/// So many sessions are looked at for a unit of work.
const SESSIONS: u32 = 16;
/// So many retained messages are looked at in one portion.
const RETAINED: usize = 64;

/// What is in the store is to be counted: [`Output::StoreReport`] answers all that ask until then.
pub(super) fn count_stored<C: Chain>(pubsub: &mut PubSub<C>) {
    if pubsub.clients.agenda.counting.is_none() {
        pubsub.clients.agenda.counting = Some(Counting::begin());
        count_some(pubsub);
    }
}

/// Goes on with the count.
pub(super) fn count_some<C: Chain>(pubsub: &mut PubSub<C>) {
    let Some(mut counting) = pubsub.clients.agenda.counting.take() else { return };
    while !pubsub.clients.agenda.turn.is_share_over() {
        counting.at = match counting.at {
            At::Session(index) => count_sessions(&mut pubsub.clients, index, &mut counting.report),
            At::Retained(mountpoint, from) => match count_retained(pubsub, (mountpoint, &from), &mut counting.report) {
                Some(next) => next,
                None => return finish(pubsub, counting.report),
            },
        };
    }
    pubsub.clients.agenda.counting = Some(counting);
    pubsub.clients.agenda.next_turn(PutOff::Counting);
}

fn count_sessions<C: Chain>(clients: &mut Clients<C>, index: u32, report: &mut StoreReport) -> At {
    let Clients { sessions, agenda, .. } = clients;
    let end = sessions.places().min(index + SESSIONS);
    agenda.turn.did(turn::LEFTOVER);
    for session in (index..end).filter_map(|at| sessions.get(at)).filter(|session| session.stored.is_some()) {
        report.sessions += 1;
        report.messages += (session.outbound.queue.len() + session.outbound.in_flight()) as u64;
        report.waiting_bytes += session.outbound.queue.bytes() as u64;
    }
    if end < sessions.places() { At::Session(end) } else { At::Retained(0, "".into()) }
}

fn count_retained<C: Chain>(
    pubsub: &mut PubSub<C>,
    (mountpoint, from): (u32, &str),
    report: &mut StoreReport,
) -> Option<At> {
    let (messages, next) = pubsub.retained.portion(mountpoint, from, RETAINED);
    pubsub.clients.agenda.turn.did(turn::LEFTOVER + messages.len() as u32 / 8);
    for message in messages.iter().filter(|message| is_stored(message)) {
        report.retained += 1;
        report.retained_bytes += message.size() as u64;
    }
    next.map(|(mountpoint, from)| At::Retained(mountpoint, from))
}

fn finish<C: Chain>(pubsub: &mut PubSub<C>, report: StoreReport) {
    let clients = &mut pubsub.clients;
    let journal = clients.persistence.as_ref().map(|persistence| persistence.journal_report());
    clients.agenda.output(Output::StoreReport(StoreReport { journal, ..report }));
}
