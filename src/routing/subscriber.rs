//! One subscription, as the filter tree holds it.

use crate::codec::QoS;
use crate::session::Subscription;

/// One session's subscription to one filter, as the filter tree holds it: one per subscription, so kept small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The session, by its place in the table; with [`PROGRAM`](crate::session::PROGRAM) set, a subscription of the embedding program.
    pub session: u32,
    /// The Subscription Identifier; zero without one.
    pub id: u32,
    /// The QoS that was granted.
    pub qos: QoS,
    /// The client wants nothing of its own.
    pub no_local: bool,
    /// The client wants to see the RETAIN flag as it was published.
    pub retain_as_published: bool,
}

impl Subscriber {
    pub fn new(session: u32, subscription: Subscription) -> Self {
        Subscriber {
            session,
            id: subscription.id,
            qos: subscription.options.qos,
            no_local: subscription.options.no_local,
            retain_as_published: subscription.options.retain_as_published,
        }
    }
}
