//! What is known of clients that were slow: the credit they have left, and whether they read.

use std::net::IpAddr;
use std::time::Duration;

use crate::client::{ConnectionId, network};
use crate::connection::Connection;
use crate::credit::Credit;
use crate::session::Session;
use crate::tables::PartedMap;
use crate::time::Time;

/// With less than this part of its credit a client is not waited for, and a publisher not held.
const TOO_LITTLE: u32 = 10;

/// Whose credit is spent while publishers wait for a client. It begins with what those from its address have left that were slow until they
/// went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    holder: Holder,
    address: IpAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    /// A session which is kept, by its instance number.
    Session(u64),
    /// The connection of a session that ends with it.
    Connection(ConnectionId),
}

impl Account {
    /// That of the client of a session on this connection.
    pub fn of<S, A>(session: &Session<S>, connection: &Connection<A>) -> Self {
        let address = connection.peer.ip();
        match session.is_kept() {
            true => Account::of_session(session.instance, address),
            false => Account::of_connection(connection.id, address),
        }
    }

    /// That of a session which is kept, by its instance number.
    pub(crate) fn of_session(instance: u64, address: IpAddr) -> Self {
        Account { holder: Holder::Session(instance), address: network(address) }
    }

    /// That of the connection of a session that ends with it.
    pub(crate) fn of_connection(id: ConnectionId, address: IpAddr) -> Self {
        Account { holder: Holder::Connection(id), address: network(address) }
    }
}

#[derive(Clone, Copy, Default)]
struct Standing {
    credit: Credit,
    /// When it last took something of what waited for it.
    took: Option<Time>,
}

/// That of all clients of a shard.
pub struct Standings {
    /// The credit of a client, or of a publisher.
    patience: Duration,
    of: PartedMap<Holder, Standing>,
    /// What is left to new clients, where that is not all.
    addresses: PartedMap<IpAddr, Credit>,
    /// Which credits are looked at next: whether they are whole.
    next: Next,
}

/// A part of the clients, or of the addresses, which come when all clients were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Client(usize),
    Address(usize),
}

impl Standings {
    /// All have credit of this length. Addresses are hashed with `hasher`.
    pub fn new(patience: Duration, hasher: ahash::RandomState) -> Self {
        let of = PartedMap::with_hasher(hasher.clone());
        Standings { patience, of, addresses: PartedMap::with_hasher(hasher), next: Next::Client(0) }
    }

    /// The credit of a client, or of a publisher.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// What is left of a credit; none if it is too little to wait for.
    pub fn left(&self, credit: &Credit, now: Time) -> Option<Duration> {
        let left = credit.left(self.patience, now);
        (!left.is_zero() && left >= self.patience / TOO_LITTLE).then_some(left)
    }

    /// Publishers begin to wait for a client, if it has enough credit. Gives when that is used up.
    pub fn begin(&mut self, account: Account, now: Time) -> Option<Time> {
        let mut standing = self.of.get(&account.holder).copied().unwrap_or_default();
        if standing.credit.is_whole(self.patience, now) {
            // Whether it was forgotten by now makes no difference.
            standing.credit = self.addresses.get(&account.address).copied().unwrap_or_default();
        }
        let left = self.left(&standing.credit, now);
        if left.is_some() {
            standing.credit.begin(self.patience, now);
        }
        self.of.insert(account.holder, standing);
        Some(now + left?)
    }

    /// Publishers wait for it no more.
    pub fn end(&mut self, account: Account, now: Time) {
        if let Some(standing) = self.of.get_mut(&account.holder) {
            standing.credit.end(self.patience, now);
        }
    }

    /// When the credit is used up which is being spent; none if it is.
    pub fn used_up_at(&self, account: Account, now: Time) -> Option<Time> {
        let left = self.of.get(&account.holder)?.credit.left(self.patience, now);
        (!left.is_zero()).then(|| now + left)
    }

    /// A client took something of what waits for it.
    pub fn took(&mut self, account: Account, now: Time) {
        if let Some(standing) = self.of.get_mut(&account.holder) {
            standing.took = Some(now);
        }
    }

    /// Whether a client has taken something lately.
    pub fn reads(&self, account: Account, now: Time) -> bool {
        let took = self.of.get(&account.holder).and_then(|standing| standing.took);
        took.is_some_and(|took| now.since(took) < self.patience)
    }

    /// A connection is gone. If its client was slow to the last, with this account, new ones from its address begin with no more credit than
    /// it had.
    pub fn gone(&mut self, id: ConnectionId, was_slow: Option<Account>, now: Time) {
        if let Some(account) = was_slow
            && let Some(standing) = self.of.get(&account.holder)
        {
            let all = self.patience;
            let credit = self.addresses.get_or_insert_with(account.address, Credit::default);
            if standing.credit.left(all, now) < credit.left(all, now) {
                *credit = standing.credit;
            }
        }
        self.of.remove(&Holder::Connection(id));
    }

    /// Forgets credits that have come back whole, a part of them in each call. Whether that was the last part: then it begins anew. (What moves
    /// from a part to one that was looked at, because there are fewer now, is looked at the next time.)
    pub fn forget_whole(&mut self, now: Time) -> bool {
        let patience = self.patience;
        if let Next::Client(part) = self.next {
            let rest = self.of.retain_in(part, |_, standing| !standing.credit.is_whole(patience, now));
            self.next = rest.map_or(Next::Address(0), Next::Client);
        }
        if let Next::Address(part) = self.next {
            let rest = self.addresses.retain_in(part, |_, credit| !credit.is_whole(patience, now));
            self.next = rest.map_or(Next::Client(0), Next::Address);
            return rest.is_none();
        }
        false
    }

    /// Whether all credit there is is whole.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty() && self.addresses.is_empty()
    }
}
