//! All stock hooks in one link, as the program runs them: each listener with its own choice of them.

use std::sync::Arc;

use super::{AclFile, PasswordFile, Ruling, ScramFile, ScramState};
use crate::client::Client;
use crate::codec::ConnectProperties;
use crate::config::StockHook;
use crate::hooks::counts::{CountsByHook, HookCounts};
use crate::hooks::{
    Answer, AuthExchange, AuthStep, ConnectRefusal, ConnectRefusalM5, Context, Hook, Notice, PublishModifiers,
    PublishModifiersM5, PublishRefusal, PublishRefusalM5, PublishRequest, PublishRequestM5, Register, RegisterM5,
    RegisterModifiers, RegisterModifiersM5, RequestedFilter, SubscribeModifiers, SubscribeModifiersM5,
    SubscribeRefusal, SubscribeRefusalM5, SubscribeRequest, SubscribeRequestM5,
};

/// The stock hooks of a broker that has no others.
///
/// Each listener names the hooks its clients are put to. A client that has proven itself by SCRAM is not asked for a
/// password too, and one that only says that it is a user of the SCRAM file is refused instead of left to
/// `allow_anonymous`. So no two of the hooks decide about the same client, and their order makes no difference.
///
/// What clients may publish and subscribe to is decided here for good. At a listener with access rules, what these do
/// not grant is refused, `allow_anonymous` or not; at one without, everything is allowed to whoever may connect. A chain in
/// which others have a say is built of [`PasswordFile`], [`AclFile`] and [`ScramFile`] themselves.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    listeners: Arc<[Listener]>,
    password: Option<PasswordFile>,
    acl: Option<AclFile>,
    scram: Option<ScramFile>,
    by_scram: ByScram,
}

/// What SCRAM has decided where users and passwords are asked about: it counts as its own.
#[derive(Clone, Copy, Debug, Default)]
struct ByScram {
    /// Clients that had proven themselves.
    proven: u64,
    /// Clients of MQTT 3, and of 5.0, that only said that they are users of the SCRAM file, and that nobody else knows.
    refused: [u64; 2],
}

#[derive(Debug)]
struct Listener {
    name: Box<str>,
    hooks: Box<[StockHook]>,
}

impl Stock {
    /// Hooks for these listeners, by name; none of the hooks is there yet, and one that is not decides nothing.
    pub fn new<'a>(listeners: impl IntoIterator<Item = (&'a str, Vec<StockHook>)>) -> Self {
        let listeners = listeners.into_iter().map(|(name, hooks)| Listener { name: name.into(), hooks: hooks.into() });
        Stock { listeners: listeners.collect(), ..Stock::default() }
    }

    /// With a password file.
    #[must_use]
    pub fn password(self, link: PasswordFile) -> Self {
        Stock { password: Some(link), ..self }
    }

    /// With access rules.
    #[must_use]
    pub fn acl(self, link: AclFile) -> Self {
        Stock { acl: Some(link), ..self }
    }

    /// With a SCRAM file.
    #[must_use]
    pub fn scram(self, link: ScramFile) -> Self {
        Stock { scram: Some(link), ..self }
    }

    /// The hooks of the client's listener.
    #[inline]
    fn hooks_of(&self, client: &Client) -> &[StockHook] {
        let listener = self.listeners.iter().find(|listener| *listener.name == *client.listener);
        listener.map_or(&[StockHook::Scram, StockHook::Password, StockHook::Acl], |listener| &listener.hooks)
    }

    #[inline]
    fn uses(&self, client: &Client, hook: StockHook) -> bool {
        self.hooks_of(client).contains(&hook)
    }

    /// Whether the client may connect, if SCRAM has not decided that.
    fn register(&mut self, client: &Client, password: Option<&[u8]>) -> Answer<RegisterModifiers, ConnectRefusal> {
        let must_prove = self.uses(client, StockHook::Scram)
            && self.scram.as_mut().zip(client.username.as_ref()).is_some_and(|(link, user)| link.knows(user));
        let answer = if self.uses(client, StockHook::Password)
            && let Some(link) = &mut self.password
        {
            link.ask(client, password)
        } else {
            Answer::Next
        };
        if !must_prove {
            return answer;
        }
        if matches!(answer, Answer::Next) {
            self.by_scram.refused[usize::from(client.version.is_v5())] += 1;
        }
        last(answer)
    }

    #[inline]
    fn publish<M: Default, R: Default>(&mut self, client: &Client, topic: &str) -> Answer<M, R> {
        if self.acl.is_none() || !self.uses(client, StockHook::Acl) {
            return Answer::ok();
        }
        match self.acl.as_mut().map(|link| link.publish(client, topic)) {
            Some(Ruling::Granted) | None => Answer::ok(),
            Some(Ruling::Denied | Ruling::Silent) => Answer::refuse(),
        }
    }

    fn connected(&mut self, client: &Client) {
        if self.uses(client, StockHook::Acl)
            && let Some(link) = &mut self.acl
        {
            link.connected(client);
        }
    }

    fn subscribe(
        &mut self,
        client: &Client,
        filters: &[RequestedFilter<'_>],
    ) -> Answer<SubscribeModifiers, SubscribeRefusal> {
        if !self.uses(client, StockHook::Acl) {
            return Answer::ok();
        }
        match self.acl.as_mut().map(|link| link.subscribe(client, filters)) {
            None => Answer::ok(),
            Some(Answer::Next) => Answer::refuse(),
            Some(answer) => answer,
        }
    }
}

/// The answer to one who is nobody else's to decide about: the same, in the same time, as to a user that nobody knows where
/// anonymous clients are refused. Who is a user of the SCRAM file is not for him to learn.
fn last(answer: Answer<RegisterModifiers, ConnectRefusal>) -> Answer<RegisterModifiers, ConnectRefusal> {
    match answer {
        Answer::Next => Answer::Error(ConnectRefusal::InvalidCredentials),
        Answer::Later(future) => Answer::mapped(future, last),
        answer => answer,
    }
}

impl Hook for Stock {
    type State = ScramState;
    // Who runs the program cannot say so himself.
    const TIMED: bool = true;

    /// Each hook is that of one file, but for who may connect: SCRAM has a say in that, too. Where there is no file, what its hooks
    /// allowed is counted for the link itself.
    fn parts(&self, counted: &CountsByHook) -> Option<Vec<(&'static str, CountsByHook)>> {
        let there = [
            (self.password.is_some(), "PasswordFile"),
            (self.acl.is_some(), "AclFile"),
            (self.scram.is_some(), "ScramFile"),
        ];
        let mut parts: Vec<(&'static str, CountsByHook)> =
            there.into_iter().filter(|(is_there, _)| *is_there).map(|(_, name)| (name, Vec::new())).collect();
        parts.push((self.name(), Vec::new()));
        let mut add = |part: &str, hook, counts: HookCounts| {
            let own = parts.iter().position(|(name, _)| *name == part).unwrap_or(parts.len() - 1);
            if counts.calls > 0 {
                parts[own].1.push((hook, counts));
            }
        };
        for (hook, counts) in counted {
            let mut counts = *counts;
            match *hook {
                "auth_on_register" | "auth_on_register_m5" => {
                    let is_v5 = *hook == "auth_on_register_m5";
                    let ok = if is_v5 { self.by_scram.proven } else { 0 };
                    let refusals = self.by_scram.refused[usize::from(is_v5)];
                    let calls = ok + refusals;
                    add("ScramFile", *hook, HookCounts { calls, ok, refusals, ..HookCounts::default() });
                    counts.calls = counts.calls.saturating_sub(calls);
                    counts.ok = counts.ok.saturating_sub(ok);
                    counts.refusals = counts.refusals.saturating_sub(refusals);
                    add("PasswordFile", *hook, counts);
                }
                "on_auth_m5" => add("ScramFile", *hook, counts),
                _ => add("AclFile", *hook, counts),
            }
        }
        Some(parts)
    }

    fn auth_on_register(
        &mut self,
        cx: &mut Context<'_, ScramState>,
        register: &Register<'_>,
    ) -> Answer<RegisterModifiers, ConnectRefusal> {
        self.register(cx.client(), register.password)
    }

    fn auth_on_register_m5(
        &mut self,
        cx: &mut Context<'_, ScramState>,
        register: &RegisterM5<'_>,
    ) -> Answer<RegisterModifiersM5, ConnectRefusalM5> {
        if cx.state().is_proven() {
            self.by_scram.proven += 1;
            return Answer::ok();
        }
        self.register(cx.client(), register.password).convert()
    }

    fn on_register(&mut self, cx: &mut Notice<'_, ScramState>) {
        self.connected(cx.client());
    }

    fn on_register_m5(&mut self, cx: &mut Notice<'_, ScramState>, _: &ConnectProperties<'_>) {
        self.connected(cx.client());
    }

    fn on_auth_m5(
        &mut self,
        cx: &mut Context<'_, ScramState>,
        exchange: &AuthExchange<'_>,
    ) -> Answer<AuthStep, ConnectRefusalM5> {
        let is_used = self.uses(cx.client(), StockHook::Scram);
        match &mut self.scram {
            Some(link) if is_used => link.on_auth_m5(cx, exchange),
            _ => Answer::Next,
        }
    }

    #[inline]
    fn auth_on_publish(
        &mut self,
        cx: &mut Context<'_, ScramState>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        self.publish(cx.client(), publish.topic)
    }

    #[inline]
    fn auth_on_publish_m5(
        &mut self,
        cx: &mut Context<'_, ScramState>,
        publish: &PublishRequestM5<'_>,
    ) -> Answer<PublishModifiersM5, PublishRefusalM5> {
        self.publish(cx.client(), publish.topic)
    }

    fn auth_on_subscribe(
        &mut self,
        cx: &mut Context<'_, ScramState>,
        subscribe: &SubscribeRequest<'_>,
    ) -> Answer<SubscribeModifiers, SubscribeRefusal> {
        self.subscribe(cx.client(), subscribe.filters)
    }

    fn auth_on_subscribe_m5(
        &mut self,
        cx: &mut Context<'_, ScramState>,
        subscribe: &SubscribeRequestM5<'_>,
    ) -> Answer<SubscribeModifiersM5, SubscribeRefusalM5> {
        self.subscribe(cx.client(), subscribe.filters).convert()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::codec::{ProtocolVersion, SubscriptionOptions};
    use crate::hooks::stock::{AclRules, Live, Nonces, PasswordTable, ScramCredentials, ScramTable, hash_queue};
    use crate::hooks::tests::{PUBLISH, client};
    use crate::hooks::{Chain, Linked, NoHooks, Verdict};

    /// Knows alice by password and sam by SCRAM, and grants `a` to everyone. Its listeners are called by the hooks they
    /// have.
    fn chain() -> Linked<NoHooks, Stock> {
        use StockHook::{Acl, Password, Scram};
        let listeners = [
            ("none", vec![]),
            ("password", vec![Password]),
            ("scram", vec![Scram]),
            ("all", vec![Acl, Scram, Password]),
        ];
        let hash = "A".repeat(86) + "==";
        let passwords = PasswordTable::parse(&format!("alice:$6$AQID${hash}")).unwrap();
        let credentials = ScramCredentials::derive("x", b"salt", 4096).unwrap();
        let scram = ScramTable::parse(&format!("sam:{credentials}"), [0; 32]).unwrap();
        let stock = Stock::new(listeners)
            .password(PasswordFile::new(Live::fixed(passwords), hash_queue(9, Duration::ZERO).0))
            .acl(AclFile::new(Live::fixed(AclRules::parse("topic a").unwrap())))
            .scram(ScramFile::new(Live::fixed(scram), Nonces::new([0; 32])));
        NoHooks.hook(stock)
    }

    fn someone(listener: &str, username: &str) -> Client {
        Client { listener: listener.into(), username: Some(username.into()), ..client(ProtocolVersion::V311) }
    }

    #[test]
    fn each_listener_asks_its_own_hooks_who_may_connect() {
        let mut chain = chain();
        let mut register = |listener, username| {
            let register = Register { password: None, clean_session: true, keep_alive: 0, will: None };
            match chain.auth_on_register(0, &someone(listener, username), &mut Default::default(), &register) {
                Verdict::Refused(refusal) => Some(refusal),
                Verdict::Exhausted => None,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(register("none", "alice"), None);
        assert_eq!(register("scram", "alice"), None);
        assert_eq!(register("password", "alice"), Some(ConnectRefusal::InvalidCredentials));
        assert_eq!(register("all", "alice"), Some(ConnectRefusal::InvalidCredentials));
        assert_eq!(register("password", "sam"), None);
        assert_eq!(register("scram", "sam"), Some(ConnectRefusal::InvalidCredentials), "he has to prove it");
        assert_eq!(register("all", "sam"), Some(ConnectRefusal::InvalidCredentials));
        assert_eq!(register("all", "nobody"), None);
        assert_eq!(register("not configured", "alice"), Some(ConnectRefusal::InvalidCredentials), "all hooks hold");
    }

    #[test]
    fn each_file_has_its_own_counts() {
        let mut chain = chain();
        let register = Register { password: None, clean_session: true, keep_alive: 0, will: None };
        let state = &mut Default::default();
        // SCRAM refuses the first, the password file the second, and the third is nobody's.
        for user in ["sam", "alice", "nobody"] {
            let _ = chain.auth_on_register(0, &someone("all", user), state, &register);
        }
        for topic in ["a", "b"] {
            let _ = chain.auth_on_publish(0, &someone("all", "alice"), state, &PublishRequest { topic, ..PUBLISH });
        }
        let reports = crate::hooks::HookReport::of(&chain);
        let of = |link: &str| {
            let own = reports.iter().filter(|report| report.link == link);
            own.map(|report| (report.hook, report.counts.calls, report.counts.ok, report.counts.refusals))
                .collect::<Vec<_>>()
        };
        assert_eq!(of("ScramFile"), [("auth_on_register", 1, 0, 1)]);
        assert_eq!(of("PasswordFile"), [("auth_on_register", 2, 0, 1)]);
        assert_eq!(of("AclFile"), [("auth_on_publish", 2, 1, 1)]);
        assert!(of("Stock").is_empty() && reports.iter().all(|report| report.position == 0));
        // Without a file there is nobody whose counts they are but the link itself.
        let mut alone = NoHooks.hook(Stock::new([("all", vec![])]));
        let _ = alone.auth_on_publish(0, &someone("all", "alice"), state, &PUBLISH);
        let reports = crate::hooks::HookReport::of(&alone);
        assert_eq!((reports.len(), reports[0].link.as_str()), (1, "Stock"));
    }

    #[test]
    fn scram_is_spoken_where_it_is_asked_for() {
        let mut chain = chain();
        let mut begin = |listener| {
            let exchange = AuthExchange {
                stage: crate::hooks::AuthStage::Connect,
                method: crate::hooks::stock::SCRAM_SHA_256,
                data: Some(b"n,,n=sam,r=x"),
                reason_string: None,
                user_properties: Default::default(),
            };
            chain.on_auth_m5(0, &someone(listener, "sam"), &mut Default::default(), &exchange)
        };
        for (listener, speaks) in [("none", false), ("password", false), ("scram", true), ("all", true)] {
            match begin(listener) {
                Verdict::Ok(AuthStep::Continue(_)) => assert!(speaks, "{listener}"),
                Verdict::Exhausted => assert!(!speaks, "{listener}"),
                other => panic!("{listener}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_the_rules_do_not_grant_is_refused_and_without_rules_all_is_allowed() {
        let mut chain = chain();
        for (listener, topic, allowed) in
            [("all", "a", true), ("all", "b", false), ("password", "b", true), ("none", "b", true)]
        {
            let client = someone(listener, "alice");
            let publish = PublishRequest { topic, ..PUBLISH };
            let filters = &[RequestedFilter { filter: topic, options: SubscriptionOptions::default() }];
            let state = &mut Default::default();
            let published = match chain.auth_on_publish(0, &client, state, &publish) {
                Verdict::Ok(_) => true,
                Verdict::Refused(_) => false,
                other => panic!("{other:?}"),
            };
            let subscribed = match chain.auth_on_subscribe(0, &client, state, &SubscribeRequest { filters }) {
                Verdict::Ok(_) => true,
                Verdict::Refused(_) => false,
                other => panic!("{other:?}"),
            };
            assert_eq!((published, subscribed), (allowed, allowed), "{listener} {topic}");
        }
    }
}
