//! From a publication to its receivers: who they are, here and on other shards.

use std::sync::Arc;

use super::audience::{Audience, Origin, Target};
use super::mail::{Mail, Share};
use super::realm::PROGRAM;
use super::{Effect, Shard};
use crate::config::SharedPolicy;
use crate::hooks::Chain;
use crate::message::{Message, Publication};
use crate::session::PublicationId;
use crate::topic::TopicFilter;

/// How often a message for a shared subscription is sent on when the shard it came to has lost its members.
const MAX_HOPS: u8 = 8;

impl<C: Chain> Shard<C> {
    /// Brings a publication that was made on this shard to everybody. Says how many receivers there are, a shard with
    /// subscribers counting for one.
    pub(super) fn route(&mut self, realm: u32, publication: &Publication<'_>, origin: Origin) -> usize {
        let continues = self.continues_batch(realm, publication);
        let mut audience = if continues { self.audience.take().unwrap_or_default() } else { self.lent_audience() };
        self.sequence += 1;
        self.source = PublicationId { shard: self.id, sequence: self.sequence };
        let number = if publication.retain { self.retain(realm, publication) } else { 0 };
        if !continues {
            let Shard { realms, random, id, .. } = self;
            realms[realm].tree.matching(publication.topic, &mut |routes| audience.add(routes, origin, *id, random));
        }
        let remote = if self.shards > 1 { self.send_copies(realm, publication, number, &audience, origin) } else { 0 };
        let receivers = audience.targets.len() + remote;
        if continues || self.begins_batch(&audience, publication) {
            self.audience = Some(audience);
            self.gather(realm, publication);
        } else {
            self.deliver_all(audience, publication);
        }
        self.source = PublicationId::NONE;
        receivers
    }

    /// Sends one copy to every shard that has receivers.
    fn send_copies(
        &mut self,
        realm: u32,
        publication: &Publication<'_>,
        number: u64,
        audience: &Audience,
        origin: Origin,
    ) -> usize {
        let mut shards = audience.remote;
        audience.shares.iter().for_each(|(shard, _)| shards.insert(*shard));
        let connection = self.publishing.map(|(_, connection)| connection);
        let mut count = 0;
        for shard in shards.iter() {
            count += 1;
            let (mountpoint, message) = (self.realms[realm].name.clone(), publication.keep());
            let groups: Vec<_> =
                audience.shares.iter().filter(|(to, _)| *to == shard).map(|(_, group)| group.clone()).collect();
            let mail = if groups.is_empty() {
                Mail::Publish { sequence: self.sequence, mountpoint, message, number, publisher: connection }
            } else {
                let plain = audience.remote.contains(shard);
                let Origin { publisher, policy, .. } = origin;
                let (sequence, hops) = (self.sequence, 1);
                let share =
                    Share { sequence, mountpoint, message, number, groups, plain, connection, publisher, policy, hops };
                Mail::Share(Box::new(share))
            };
            self.post(shard, mail);
        }
        count
    }

    /// Whether what was published last goes to a shard whose mailbox is full.
    pub(super) fn last_went_to_congested(&self) -> bool {
        let Some(audience) = self.audience.as_deref().filter(|_| !self.congested.is_empty()) else { return false };
        audience.remote.intersects(&self.congested)
            || audience.shares.iter().any(|(shard, _)| self.congested.contains(*shard))
    }

    /// A message that another shard routed here, as the publication `source`; `number` as in [`Mail::Publish`].
    pub(super) fn route_from_mail(&mut self, source: PublicationId, mountpoint: &Arc<str>, message: &Message, number: u64) {
        self.has_heard(source.shard, source.sequence);
        self.source = source;
        let realm = self.realms.number(mountpoint);
        let publication = message.publication();
        if number > 0 {
            self.note_live_retained(realm, &publication, source.shard, number);
        }
        let mut audience = self.lent_audience();
        self.realms[realm].tree.matching(publication.topic, &mut |routes| audience.add_plain(routes));
        self.deliver_all(audience, &publication);
        self.source = PublicationId::NONE;
    }

    /// A message that another shard routed here for members of shared subscriptions.
    pub(super) fn route_share(&mut self, from: usize, share: Share) {
        self.has_heard(from, share.sequence);
        self.publishing = share.connection.map(|connection| (from, connection));
        if share.plain {
            let source = PublicationId { shard: from, sequence: share.sequence };
            self.route_from_mail(source, &share.mountpoint, &share.message, share.number);
        }
        for group in &share.groups {
            self.offer_to_group(&share.mountpoint, group, &share.message, share.policy, share.publisher, share.hops);
        }
        self.publishing = None;
    }

    /// Gives `message` to one member of a shared subscription: an online one if there is one on any shard. Which shard's turn it is
    /// is asked once: one that it was sent to (`hops`) does not pass it on if it has a member that will do.
    pub(super) fn offer_to_group(
        &mut self,
        mountpoint: &Arc<str>,
        filter: &Arc<TopicFilter>,
        message: &Message,
        policy: SharedPolicy,
        publisher: u16,
        hops: u8,
    ) {
        use super::share::Choice;
        let realm = self.realms.number(mountpoint);
        let Shard { realms, random, id, .. } = self;
        let choice = match realms[realm].group(filter) {
            None => Choice::Nobody,
            Some(group) => {
                let stays = group.has_online() || hops > 0 && !group.has_online_anywhere() || hops >= MAX_HOPS;
                let member = if stays { group.choose_here(policy, publisher, random) } else { None };
                member.map_or_else(|| group.choose(policy, publisher, *id, random), Choice::Member)
            }
        };
        match choice {
            Choice::Member(member) => {
                let mut audience = self.lent_audience();
                audience.add_member(&member, filter.clone());
                self.deliver_all(audience, &message.publication());
            }
            Choice::Shard(shard) if hops < MAX_HOPS => {
                let share = Share {
                    sequence: 0,
                    mountpoint: mountpoint.clone(),
                    message: message.clone(),
                    number: 0,
                    groups: vec![filter.clone()],
                    plain: false,
                    connection: None,
                    publisher,
                    policy,
                    hops: hops + 1,
                };
                self.post(shard, Mail::Share(Box::new(share)));
            }
            Choice::Shard(_) => {
                tracing::warn!(
                    filter = filter.as_str(),
                    "no member of the shared subscription was found: message dropped"
                );
            }
            // The last one left while it was on its way.
            Choice::Nobody => {}
        }
    }

    /// Room for receivers, empty. If it had those of a batch, that is delivered.
    fn lent_audience(&mut self) -> Box<Audience> {
        self.deliver_batch();
        let mut audience = self.audience.take().unwrap_or_default();
        audience.clear();
        audience
    }

    /// Delivers to everybody in `audience`, and takes it back.
    fn deliver_all(&mut self, mut audience: Box<Audience>, publication: &Publication<'_>) {
        self.frames.begin(audience.targets.len() > 1);
        for target in &audience.targets {
            self.deliver_to(target, publication);
        }
        audience.targets.clear();
        self.audience = Some(audience);
        self.frames.begin(false);
    }

    /// Delivers to one receiver, client or program.
    #[inline]
    pub(super) fn deliver_to(&mut self, target: &Target, publication: &Publication<'_>) {
        if target.session & PROGRAM != 0 {
            self.deliver_to_program(target.session, publication);
        } else {
            self.deliver(target, publication, target.retain_as_published && publication.retain);
        }
    }

    fn deliver_to_program(&mut self, subscriber: u32, publication: &Publication<'_>) {
        if let Some(subscription) = self.program.number(subscriber) {
            self.effects.push(Effect::Deliver { subscription, message: publication.keep() });
        }
    }
}
