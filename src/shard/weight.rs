//! What messages between shards weigh: about the bytes of memory that they hold on to. Queues are bounded by that.

use super::counters::Counted;
use super::message::{ShardMessage, Share};
use crate::client::SessionFound;
use crate::hooks::HookReport;
use crate::message::Message;
use crate::migration::{FILTER, weight_of};
use crate::retained::{RetainedPage, RetainedQuestion};
use crate::topic::TopicFilter;

/// A number for each shard.
const NUMBER: usize = size_of::<u64>();

impl ShardMessage {
    /// About how many bytes of memory it holds on to, those of a shared message included.
    pub fn weight(&self) -> usize {
        let held = match self {
            ShardMessage::Publish { mountpoint, message, .. } | ShardMessage::Retain { mountpoint, message } => {
                mountpoint.len() + message.size()
            }
            ShardMessage::Share(share) => of_share(share),
            ShardMessage::Subscribe { mountpoint, filters, .. } => mountpoint.len() + of_filters(filters),
            ShardMessage::Subscribed { sent, .. } => size_of_val(&**sent),
            ShardMessage::AskRetained(question) => of_question(question),
            ShardMessage::Retained(page) => of_page(page),
            ShardMessage::Unsubscribe { mountpoint, filter } | ShardMessage::Group { mountpoint, filter, .. } => {
                mountpoint.len() + of_filter(filter)
            }
            ShardMessage::SessionComes(announcement) => announcement.weight(),
            ShardMessage::Subscriptions { portion, .. } => size_of_val(&**portion) + weight_of(portion),
            ShardMessage::SlotsMoved(moved) => size_of_val(&**moved) + size_of_val(&*moved.slots),
            ShardMessage::Pull { subscriber }
            | ShardMessage::NotHere { subscriber }
            | ShardMessage::SessionRequest { subscriber, .. } => subscriber.size(),
            ShardMessage::SessionAnswer { found, .. } => found.as_deref().map_or(0, of_found),
            ShardMessage::Counters(counted) => of_counted(counted),
            ShardMessage::Leaving { .. }
            | ShardMessage::Flushed { .. }
            | ShardMessage::AskSubscriptions { .. }
            | ShardMessage::Abandoned { .. }
            | ShardMessage::SlotsSeen { .. }
            | ShardMessage::SlotEmptied { .. }
            | ShardMessage::MakeRoom
            | ShardMessage::Publisher { .. }
            | ShardMessage::WillsPublished
            | ShardMessage::Committed(_)
            | ShardMessage::Stored { .. }
            | ShardMessage::Decided(_)
            | ShardMessage::Cut(_) => 0,
        };
        size_of::<ShardMessage>() + held
    }
}

fn of_filter(filter: &TopicFilter) -> usize {
    FILTER + filter.as_str().len()
}

fn of_filters(filters: &[TopicFilter]) -> usize {
    filters.iter().map(of_filter).sum()
}

fn of_share(share: &Share) -> usize {
    let groups = share.groups.iter().map(|filter| of_filter(filter)).sum::<usize>();
    size_of::<Share>() + share.mountpoint.len() + share.message.size() + groups
}

fn of_question(question: &RetainedQuestion) -> usize {
    let texts = question.mountpoint.len() + question.from.len() + of_filters(question.filters.filters());
    size_of::<RetainedQuestion>() + texts + (question.sent.len() + question.after.len()) * NUMBER
}

fn of_page(page: &RetainedPage) -> usize {
    let entry = |(_, message): &(u32, Message)| size_of::<(u32, Message)>() + message.size();
    let messages = page.messages.iter().map(entry).sum::<usize>();
    let next = page.next.as_ref().map_or(0, |next| next.len());
    size_of::<RetainedPage>() + messages + next + page.applied.len() * NUMBER
}

fn of_found(found: &SessionFound) -> usize {
    size_of::<SessionFound>() + found.client.size()
}

fn of_counted(counted: &Counted) -> usize {
    let report = |report: &HookReport| size_of::<HookReport>() + report.link.len();
    size_of::<Counted>() + counted.hooks.iter().map(report).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::message::{Hold, SlotsMoved};
    use super::*;
    use crate::client::{Client, ConnectionId, SessionAction, SessionRequest, SubscriberId};
    use crate::codec::{ProtocolVersion, QoS, SubscriptionOptions};
    use crate::config::SharedPolicy;
    use crate::message::Publication;
    use crate::migration::SessionAnnouncement;
    use crate::routing::{MemberCounts, Turn};
    use crate::session::Subscription;
    use crate::session::testing::session;
    use crate::topic::{FilterSet, TopicName};

    /// As much as one field of a packet may have, nearly.
    const LONG: usize = 60_000;

    fn long() -> String {
        "x".repeat(LONG)
    }

    fn filter() -> TopicFilter {
        TopicFilter::parse(&format!("$share/g/{}", long()), 8).expect("a valid filter")
    }

    fn message() -> Message {
        Publication::new(TopicName::trusted("t"), long().as_bytes()).keep()
    }

    fn subscriber() -> SubscriberId {
        SubscriberId::new("", long())
    }

    /// One of each kind, with what it weighs at least.
    fn all() -> Vec<(ShardMessage, usize)> {
        let mountpoint: Arc<str> = "".into();
        let (connection, sequence, token) = (ConnectionId::new(1, 1), 1, 1);
        let filters: Arc<[TopicFilter]> = [filter(), filter()].into();
        let share = Share {
            token: 0,
            sequence,
            mountpoint: mountpoint.clone(),
            message: message(),
            number: 0,
            groups: vec![Arc::new(filter())],
            plain: false,
            publisher: None,
            turn: Turn::new(SharedPolicy::Random, 0),
        };
        let question = RetainedQuestion {
            token,
            mountpoint: mountpoint.clone(),
            filters: Arc::new(FilterSet::new(vec![filter()])),
            from: long().into(),
            sent: vec![0; 1000].into(),
            after: vec![0; 1000].into(),
        };
        let page = RetainedPage {
            token,
            owner: 0,
            messages: vec![(0, message()), (0, message())],
            next: Some(long().into()),
            applied: vec![0; 1000].into(),
        };
        let mut leaving = session();
        leaving.client.subscriber = subscriber();
        let options = SubscriptionOptions::new(QoS::AtLeastOnce);
        leaving.subscriptions.put(filter(), Subscription { options, id: 0 });
        let found = SessionFound { client: Client::new(long(), ProtocolVersion::V5), ..leaving.found() };
        let moved = SlotsMoved { token, to: 1, slots: vec![0; 4096].into(), next_number: 1 };
        let report = HookReport { position: 0, link: long(), hook: "on_publish", counts: Default::default() };
        let request = SessionRequest { action: SessionAction::Find, asked_by: None };
        vec![
            (
                ShardMessage::Publish {
                    sequence,
                    mountpoint: long().into(),
                    message: message(),
                    number: 0,
                    publisher: None,
                },
                2 * LONG,
            ),
            (ShardMessage::Share(Box::new(share)), 2 * LONG),
            (ShardMessage::Subscribe { mountpoint: mountpoint.clone(), filters, flush: None }, 2 * LONG),
            (ShardMessage::Subscribed { sent: vec![(0, 0); 1000].into(), sequence }, 16_000),
            (ShardMessage::AskRetained(Box::new(question)), 2 * LONG + 16_000),
            (ShardMessage::Retained(Box::new(page)), 3 * LONG + 8000),
            (ShardMessage::Unsubscribe { mountpoint: mountpoint.clone(), filter: filter() }, LONG),
            (
                ShardMessage::Group {
                    mountpoint: mountpoint.clone(),
                    filter: filter(),
                    members: MemberCounts::default(),
                },
                LONG,
            ),
            (ShardMessage::Retain { mountpoint: mountpoint.clone(), message: message() }, LONG),
            (ShardMessage::Leaving { token }, 0),
            (ShardMessage::Flushed { token, sequence }, 0),
            (ShardMessage::SessionComes(Box::new(SessionAnnouncement::of(token, &leaving, 1, 1))), 2 * LONG),
            (ShardMessage::AskSubscriptions { token, begin: 0 }, 0),
            (ShardMessage::Subscriptions { token, portion: Box::new(leaving.subscriptions.all()) }, LONG),
            (ShardMessage::Abandoned { token }, 0),
            (ShardMessage::SlotsMoved(Box::new(moved)), 8192),
            (ShardMessage::SlotsSeen { token }, 0),
            (ShardMessage::SlotEmptied { slot: 1 }, 0),
            (ShardMessage::Pull { subscriber: subscriber() }, LONG),
            (ShardMessage::NotHere { subscriber: subscriber() }, LONG),
            (ShardMessage::MakeRoom, 0),
            (ShardMessage::SessionRequest { subscriber: subscriber(), request }, LONG),
            (ShardMessage::SessionAnswer { ticket: 1, found: Some(Box::new(found)) }, LONG),
            (ShardMessage::Publisher { connection, wait: true, hold: Hold::WithCredit }, 0),
            (ShardMessage::WillsPublished, 0),
            (ShardMessage::Counters(Box::new(Counted { hooks: vec![report], ..Counted::default() })), LONG),
        ]
    }

    /// Less would let more into a queue than it may hold, much more would have others wait for nothing.
    #[test]
    fn each_message_weighs_what_it_holds() {
        let all = all();
        for (message, least) in &all {
            let (weight, own) = (message.weight(), size_of::<ShardMessage>());
            assert!(
                (least + own..least + own + 2500).contains(&weight),
                "{weight} for {least}: {:.80}",
                format!("{message:?}")
            );
        }
        let kinds: std::collections::HashSet<_> =
            all.iter().map(|(message, _)| std::mem::discriminant(message)).collect();
        assert_eq!(kinds.len(), all.len(), "each kind once");
    }
}
