//! Asking and telling the hooks. Here the two forms of each hook, for MQTT 3 and for MQTT 5, become one.

use std::convert::Infallible;
use std::time::Duration;

use super::verdict::Finished;
use super::{
    Answer, AuthExchange, AuthStep, Chain, ConnectRefusalM5, HookAnswer, Notified, PendingAnswer, PublishModifiersM5,
    PublishRefusalM5, PublishRequestM5, PublishedM5, RegisterM5, RegisterModifiersM5, SubscribeModifiersM5,
    SubscribeRefusalM5, SubscribeRequestM5, SubscribedM5, Unfinished, UnsubscribeModifiersM5, UnsubscribeRequestM5,
    Verdict,
};
use crate::client::Client;
use crate::codec::ConnectProperties;

/// What a question that was put off came to.
#[derive(Debug)]
pub enum Resumed {
    /// The link `link` has answered.
    Answered {
        /// Which.
        link: usize,
        /// With what: boxed, since nearly every packet is served without.
        answer: Box<HookAnswer>,
        /// How long that took.
        waited: Duration,
    },
    /// It did not answer in time, and the configuration lets the client pass.
    Allowed,
}

/// Asks from the first link, or goes on where an earlier question stopped.
#[inline]
fn ask<C: Chain, M: Default, R>(
    chain: &mut C,
    state: &mut C::State,
    resumed: Option<Resumed>,
    typed: impl FnOnce(HookAnswer) -> Option<Answer<M, R>>,
    ask_from: impl FnOnce(&mut C, &mut C::State, usize) -> Verdict<M, R>,
) -> Verdict<M, R> {
    let (link, answer, waited) = match resumed {
        None => return ask_from(chain, state, 0),
        Some(Resumed::Allowed) => return Verdict::Ok(M::default()),
        Some(Resumed::Answered { link, answer, waited }) => (link, answer, waited),
    };
    let answer = match *answer {
        HookAnswer::TooLate => return Verdict::TooLate { link },
        HookAnswer::Unfinished(unfinished) => match finish(chain, state, link, unfinished, waited) {
            Ok(answer) => answer,
            Err(pending) => return Verdict::Later(pending),
        },
        answer => answer,
    };
    match typed(answer) {
        Some(Answer::Ok(modifiers)) => Verdict::Ok(modifiers),
        Some(Answer::Error(refusal)) => Verdict::Refused(refusal),
        Some(Answer::Next | Answer::Absent) => ask_from(chain, state, link + 1),
        Some(Answer::Later(_)) | None => Verdict::Failed { link },
    }
}

/// Makes an answer with the state of the link that was asked, and counts it.
///
/// # Errors
///
/// The link answers later still.
#[cold]
fn finish<C: Chain>(
    chain: &mut C,
    state: &mut C::State,
    link: usize,
    unfinished: Unfinished,
    waited: Duration,
) -> Result<HookAnswer, PendingAnswer> {
    let hook = unfinished.hook();
    let finished = C::state_of(link, state).map(|state| unfinished.finish(state));
    let answer = match finished {
        Some(Finished::Answer(answer)) => *answer,
        Some(Finished::Later(future)) => return Err(PendingAnswer { hook, link, future }),
        None => HookAnswer::Failed,
    };
    if let Some(outcome) = answer.outcome() {
        chain.settle(link, hook, outcome, waited);
    }
    Ok(answer)
}

/// `auth_on_register` or `auth_on_register_m5`.
pub fn register<C: Chain>(
    chain: &mut C,
    client: &Client,
    state: &mut C::State,
    request: &RegisterM5<'_>,
    resumed: Option<Resumed>,
) -> Verdict<RegisterModifiersM5, ConnectRefusalM5> {
    let typed = |answer| match answer {
        HookAnswer::Register(answer) => Some(answer.convert()),
        HookAnswer::RegisterM5(answer) => Some(answer),
        _ => None,
    };
    ask(chain, state, resumed, typed, |chain, state, from| {
        if client.version.is_v5() {
            chain.auth_on_register_m5(from, client, state, request)
        } else {
            chain.auth_on_register(from, client, state, &request.without_properties()).convert()
        }
    })
}

/// `auth_on_publish` or `auth_on_publish_m5`.
#[inline]
pub fn publish<C: Chain>(
    chain: &mut C,
    client: &Client,
    state: &mut C::State,
    request: &PublishRequestM5<'_>,
    resumed: Option<Resumed>,
) -> Verdict<PublishModifiersM5, PublishRefusalM5> {
    let typed = |answer| match answer {
        HookAnswer::Publish(answer) => Some(answer.convert()),
        HookAnswer::PublishM5(answer) => Some(answer),
        _ => None,
    };
    ask(chain, state, resumed, typed, |chain, state, from| {
        if client.version.is_v5() {
            chain.auth_on_publish_m5(from, client, state, request)
        } else {
            chain.auth_on_publish(from, client, state, &request.without_properties()).convert()
        }
    })
}

/// `auth_on_subscribe` or `auth_on_subscribe_m5`.
pub fn subscribe<C: Chain>(
    chain: &mut C,
    client: &Client,
    state: &mut C::State,
    request: &SubscribeRequestM5<'_>,
    resumed: Option<Resumed>,
) -> Verdict<SubscribeModifiersM5, SubscribeRefusalM5> {
    let typed = |answer| match answer {
        HookAnswer::Subscribe(answer) => Some(answer.convert()),
        HookAnswer::SubscribeM5(answer) => Some(answer),
        _ => None,
    };
    ask(chain, state, resumed, typed, |chain, state, from| {
        if client.version.is_v5() {
            chain.auth_on_subscribe_m5(from, client, state, request)
        } else {
            chain.auth_on_subscribe(from, client, state, &request.without_properties()).convert()
        }
    })
}

/// `on_unsubscribe` or `on_unsubscribe_m5`.
pub fn unsubscribe<C: Chain>(
    chain: &mut C,
    client: &Client,
    state: &mut C::State,
    request: &UnsubscribeRequestM5<'_>,
    resumed: Option<Resumed>,
) -> Verdict<UnsubscribeModifiersM5, Infallible> {
    let typed = |answer| match answer {
        HookAnswer::Unsubscribe(answer) => Some(answer.convert()),
        HookAnswer::UnsubscribeM5(answer) => Some(answer),
        _ => None,
    };
    ask(chain, state, resumed, typed, |chain, state, from| {
        if client.version.is_v5() {
            chain.on_unsubscribe_m5(from, client, state, request)
        } else {
            chain.on_unsubscribe(from, client, state, &request.without_properties()).convert()
        }
    })
}

/// `on_auth_m5`.
pub fn auth<C: Chain>(
    chain: &mut C,
    client: &Client,
    state: &mut C::State,
    exchange: &AuthExchange<'_>,
    resumed: Option<Resumed>,
) -> Verdict<AuthStep, ConnectRefusalM5> {
    let typed = |answer| match answer {
        HookAnswer::Auth(answer) => Some(answer),
        _ => None,
    };
    ask(chain, state, resumed, typed, |chain, state, from| chain.on_auth_m5(from, client, state, exchange))
}

/// `on_register` or `on_register_m5`.
pub fn registered<C: Chain>(
    chain: &mut C,
    client: &Client,
    state: &mut C::State,
    properties: &ConnectProperties<'_>,
) -> Notified {
    if client.version.is_v5() {
        chain.on_register_m5(client, state, properties)
    } else {
        chain.on_register(client, state)
    }
}

/// `on_publish` or `on_publish_m5`.
#[inline]
pub fn published<C: Chain>(
    chain: &mut C,
    client: &Client,
    state: &mut C::State,
    published: &PublishedM5<'_>,
) -> Notified {
    if client.version.is_v5() {
        chain.on_publish_m5(client, state, published)
    } else {
        chain.on_publish(client, state, &published.without_properties())
    }
}

/// `on_subscribe` or `on_subscribe_m5`.
pub fn subscribed<C: Chain>(
    chain: &mut C,
    client: &Client,
    state: &mut C::State,
    subscribed: &SubscribedM5<'_>,
) -> Notified {
    if client.version.is_v5() {
        chain.on_subscribe_m5(client, state, subscribed)
    } else {
        chain.on_subscribe(client, state, &subscribed.without_properties())
    }
}

#[cfg(test)]
mod tests;
