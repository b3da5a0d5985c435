//! What the desk of the archive has answered: pages are persisted, or were read.

use super::clients::Clients;
use super::machine::Shard;
use super::paging::queue_moved;
use super::pubsub::PubSub;
use super::turn;
use crate::archive::{Answer, ReadResult};
use crate::client::log_client;
use crate::config::QueueType;
use crate::hooks::Chain;
use crate::persistence::{PageNews, PageOf};
use crate::records::{WallClock, read_page};
use crate::session::{Key, OutgoingMessage, Session, StoreNumber};

/// So many messages of a page are decoded in a unit of work.
const DECODED: usize = 4;

/// The desk of the archive has answered.
pub(super) fn archive_answered<C: Chain>(shard: &mut Shard<C>, answer: Answer) {
    if let Some(persistence) = &mut shard.pubsub.clients.persistence {
        persistence.archive_answered(answer);
    }
    while let Some(news) = shard.pubsub.clients.persistence.as_mut().and_then(|one| one.next_page_news()) {
        match news {
            PageNews::Persisted(page) => persisted(&mut shard.pubsub, page),
            PageNews::Read(page, result) => was_read(&mut shard.pubsub, page, result),
        }
    }
}

/// The session that a page belongs to: in the table, or among those that have ended, whatever it was when that was asked for. Also whether it has ended.
fn session_of<C: Chain>(clients: &mut Clients<C>, page: PageOf) -> Option<(&mut Session<C::State>, bool)> {
    let (index, instance) = page.session;
    if clients.sessions.get(index).is_some_and(|session| session.instance == instance) {
        return Some((clients.sessions.get_mut(index)?, false));
    }
    Some((clients.agenda.remnants.ended_mut(instance)?, true))
}

/// The order in which pages of a session are read. Those of one that has ended are gone through from the first to the last.
fn order_of<S>(session: &Session<S>, has_ended: bool) -> QueueType {
    if has_ended { QueueType::Fifo } else { session.settings.queue.order }
}

fn persisted<C: Chain>(pubsub: &mut PubSub<C>, page: PageOf) {
    let clients = &mut pubsub.clients;
    clients.agenda.turn.did(turn::LEFTOVER);
    if let Some((session, has_ended)) = session_of(clients, page) {
        let order = order_of(session, has_ended);
        let messages = session.outbound.queue.paged_mut().persisted(page.first, order);
        clients.agenda.turn.did(turn::LEFTOVER * messages as u32);
        if !has_ended {
            queue_moved(clients, page.session.0);
        }
    }
}

fn was_read<C: Chain>(pubsub: &mut PubSub<C>, page: PageOf, result: ReadResult) {
    let clients = &mut pubsub.clients;
    let Some(wall) = clients.persistence.as_ref().map(|persistence| persistence.wall()) else { return };
    let Some((session, has_ended)) = session_of(clients, page) else { return };
    let id = session.outbound.queue.pages_id();
    let (messages, problem) = match decoded(id, page.first, result, wall) {
        Ok(messages) => (messages, "it has fewer messages than it had".to_owned()),
        Err(problem) => (Vec::new(), problem),
    };
    let many = messages.len();
    let order = order_of(session, has_ended);
    let is_wanted = has_ended || session.connection.is_some();
    let missing = session.outbound.queue.paged_mut().was_read(page.first, messages, (order, is_wanted));
    if missing > 0 {
        log_client!(
            error,
            session.client,
            messages = missing,
            "messages of its queue are lost with a page of the archive: {problem}"
        );
    }
    clients.agenda.turn.begin_share();
    clients.agenda.turn.did((many / DECODED) as u32);
    if has_ended {
        clients.agenda.remnants.page_has_come(page.session.1);
    } else {
        clients.send_waiting(page.session.0);
        queue_moved(clients, page.session.0);
    }
}

/// The messages of a page; or why it is lost.
fn decoded(
    id: Option<StoreNumber>,
    first: Key,
    result: ReadResult,
    wall: WallClock,
) -> Result<Vec<OutgoingMessage>, String> {
    let found = result.map_err(|error| error.to_string())?;
    let ((_, value), id) = found.zip(id).ok_or_else(|| "it is not in the archive".to_owned())?;
    read_page(id, first, &value, wall).map_err(|error| error.to_string())
}
