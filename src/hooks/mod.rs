//! Hooks: what a program that embeds the broker decides, and is told, along the life of a client's session.
//!
//! [`Hook`] is the trait to implement; links are put together to a [`Chain`], which is a type, with
//! `NoHooks.hook(first).hook(second)`. Names and meaning of the hooks are VerneMQ's.
//!
//! # Answers
//!
//! *Conditional* hooks are asked, link by link, until one says yes ([`Answer::Ok`], with modifiers) or no
//! ([`Answer::Error`]). [`Answer::Next`] asks the following link. When every link says so, or there is none, the answer
//! is no. *Notifications* go to every link, in order, and nothing comes back.
//!
//! An answer is given *now*, in an ordinary call on the shard that must not block, or *later*, by a future
//! ([`Answer::Later`]) that the shard runs while it reads nothing more from this client. A later answer has a deadline. Its
//! future may be woken by any thread, at any time. What its link keeps for the session it may read and write when it is here:
//! [`Context::later`].
//!
//! A hook that panics is caught and logged: a conditional hook then counts as *no*, a notification is given up. The
//! shard and other clients are not affected.
//!
//! Modifiers change nothing unless a field is set. Strings and binary data that go into a packet are cut at the 65,535
//! bytes that MQTT allows.
//!
//! A program that knows its users, and lets them do everything once they are in:
//!
//! ```
//! use moormq::hooks::stock::AllowAll;
//! use moormq::hooks::{Answer, Chain, ConnectRefusal, Context, Hook, NoHooks, Register, RegisterModifiers, V3Only};
//!
//! struct OneUser;
//!
//! impl Hook for OneUser {
//!     type State = ();
//!
//!     fn auth_on_register(
//!         &mut self,
//!         cx: &mut Context<'_, ()>,
//!         register: &Register<'_>,
//!     ) -> Answer<RegisterModifiers, ConnectRefusal> {
//!         match (cx.client().username.as_deref(), register.password) {
//!             (Some("ann"), Some(b"secret")) => Answer::Ok(RegisterModifiers::default().mountpoint("ann")),
//!             (Some("ann"), _) => Answer::Error(ConnectRefusal::InvalidCredentials),
//!             _ => Answer::Next,
//!         }
//!     }
//! }
//!
//! // `V3Only`: v5 clients are asked the same question.
//! let chain = NoHooks.hook(V3Only(OneUser)).hook(AllowAll);
//! # let _ = chain;
//! ```
//!
//! A hook is an ordinary method, and can be tested as one: see [`Context`] and [`Notice`].

// The questions, the answers and the order of asking. It touches no session and runs no future: the shard calls the chain and acts
// on its `Verdict`, and the runtime runs a `HookFuture` and brings its `HookAnswer` back.

mod answer;
pub(crate) mod ask;
mod auth;
mod barrier;
mod boxed;
mod chain;
mod context;
mod counts;
mod deliver;
mod expiry;
mod hook;
mod lifecycle;
mod list;
mod modifiers;
mod notified;
mod optional;
mod publish;
mod register;
mod report;
#[cfg(feature = "stock")]
pub mod stock;
mod stored_state;
mod subscribe;
mod tally;
mod v3_only;
mod verdict;

#[cfg(test)]
mod tests;

pub use answer::{Answer, DeliverAnswer, Later};
pub use auth::{AuthContinue, AuthExchange, AuthStage, AuthStep, AuthSuccess};
pub use boxed::Boxed;
pub use chain::{Chain, Linked, NoHooks};
pub use context::{Context, Notice};
pub use counts::HookCounts;
pub use deliver::{DeliverChanges, DeliverModifiers, DeliverModifiersM5, Delivery, DeliveryM5};
pub use expiry::Expiry;
pub use hook::Hook;
pub use lifecycle::{DroppedMessage, OfflineMessage};
pub use publish::{
    PublishChanges, PublishCode, PublishModifiers, PublishModifiersM5, PublishRefusal, PublishRefusalM5,
    PublishRequest, PublishRequestM5, Published, PublishedM5,
};
pub use register::{
    ConnectCode, ConnectRefusal, ConnectRefusalM5, Register, RegisterM5, RegisterModifiers, RegisterModifiersM5,
};
pub use report::HookReport;
pub use stored_state::MOST_STATE_BYTES;
pub use subscribe::{
    FilterGrant, RequestedFilter, SubscribeCode, SubscribeModifiers, SubscribeModifiersM5, SubscribeRefusal,
    SubscribeRefusalM5, SubscribeRequest, SubscribeRequestM5, Subscribed, SubscribedM5, UnsubscribeModifiers,
    UnsubscribeModifiersM5, UnsubscribeRequest, UnsubscribeRequestM5, Unsubscribed,
};
pub use v3_only::V3Only;

// What a chain tells the shard and the runtime.
#[doc(hidden)]
pub use {
    counts::{CountsByHook, LinkCounts},
    notified::Notified,
    stored_state::{StateWriter, StoredStates},
    tally::{HookClock, Outcome},
    verdict::{HookAnswer, HookFuture, PendingAnswer, Unfinished, Verdict},
};
