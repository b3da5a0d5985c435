//! All stock hooks in one link, as the program runs them: each listener with its own choice of them.

use std::sync::Arc;

use super::{AclFile, PasswordFile, Ruling, ScramFile, ScramState};
use crate::client::Client;
use crate::config::StockHook;
use crate::hooks::{
    Answer, AuthExchange, AuthStep, ConnectRefusal, ConnectRefusalM5, Context, Hook, PublishModifiers,
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
        if self.uses(client, StockHook::Password)
            && let Some(link) = &mut self.password
        {
            match link.ask(client, password) {
                Answer::Next => {}
                answer => return answer,
            }
        }
        if self.uses(client, StockHook::Scram)
            && let (Some(link), Some(user)) = (&mut self.scram, &client.username)
            && link.knows(user)
        {
            // The same as for a user that nobody knows where anonymous clients are refused: this is not for them to learn.
            return Answer::Error(ConnectRefusal::NotAuthorized);
        }
        Answer::Next
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

impl Hook for Stock {
    type State = ScramState;

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
            return Answer::ok();
        }
        self.register(cx.client(), register.password).convert()
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
