//! The stages between CONNECT and session: one type each, with what is known by then. A transition consumes one and
//! gives the next.

use std::ops::ControlFlow;

use super::accepted::AcceptedConnect;
use super::candidate::Candidate;
use super::listener::Listener;
use super::refusal::Refusal;
use super::request::AuthPacket;
use super::settings::Agreement;
use crate::client::Client;
use crate::codec::ReasonCode;
use crate::config::Config;
use crate::hooks::{AuthSuccess, PendingAnswer, RegisterModifiersM5};
use crate::session::Will;
use crate::time::Time;

/// A client that named an authentication method, and of which `on_auth_m5` is to be asked.
pub struct Unauthenticated<S> {
    pub(super) candidate: Box<Candidate<S>>,
    /// The AUTH it is asked about; none: the CONNECT.
    pub(super) packet: Option<AuthPacket>,
    /// By when the exchange must be over; [`Time::NEVER`] before it began.
    pub(super) due: Time,
}

/// A client that is to answer an AUTH.
pub struct AwaitingAuth<S> {
    pub(super) candidate: Box<Candidate<S>>,
    /// By when the exchange must be over.
    pub(super) due: Time,
}

/// A client of which `auth_on_register` is to be asked: it is authenticated, if it named a method.
pub struct Authenticated<S> {
    pub(super) candidate: Box<Candidate<S>>,
    pub(super) auth: Option<Box<AuthSuccess>>,
}

/// A client that `auth_on_register` accepted; if it has a will, `auth_on_publish` is to be asked about that.
pub struct Registered<S> {
    pub(super) candidate: Box<Candidate<S>>,
    pub(super) auth: Option<Box<AuthSuccess>>,
    pub(super) modifiers: RegisterModifiersM5,
}

impl<S> Registered<S> {
    /// All have accepted.
    pub(super) fn accept(self, will: Option<Will>, config: &Config, listener: &Listener) -> Box<AcceptedConnect<S>> {
        let Registered { candidate, auth, modifiers } = self;
        let Candidate { client, state, request, listener: number, assigned_id } = *candidate;
        let agreement = Agreement {
            config,
            listener,
            version: client.version,
            request: &request,
            auth: auth.as_deref(),
            by: &modifiers,
        };
        let (settings, clean_start) = (agreement.settings(), agreement.clean_start());
        Box::new(AcceptedConnect {
            client,
            state,
            settings,
            will,
            clean_start,
            listener: number,
            unread: Vec::new(),
            replaces: None,
            request,
            auth,
            modifiers,
            assigned_id,
        })
    }
}

/// The next question to the hooks about a connecting client.
pub enum Question<S> {
    /// `on_auth_m5`.
    Authenticate(Unauthenticated<S>),
    /// `auth_on_register`.
    Register(Authenticated<S>),
    /// `auth_on_publish` for the will.
    Will(Box<Registered<S>>),
}

impl<S> Question<S> {
    pub(super) fn candidate(&self) -> &Candidate<S> {
        match self {
            Question::Authenticate(stage) => &stage.candidate,
            Question::Register(stage) => &stage.candidate,
            Question::Will(stage) => &stage.candidate,
        }
    }

    /// By when an exchange of AUTH packets must be over; else [`Time::NEVER`].
    pub fn due(&self) -> Time {
        match self {
            Question::Authenticate(stage) => stage.due,
            Question::Register(_) | Question::Will(_) => Time::NEVER,
        }
    }
}

/// How far the hooks let a client come.
pub enum Progress<S> {
    /// All have accepted.
    Accepted(Box<AcceptedConnect<S>>),
    /// A hook answers later: then the question is to be asked again, with its answer.
    Later(Question<S>, PendingAnswer),
    /// These bytes, an AUTH, are to be sent; the client answers.
    Continue(AwaitingAuth<S>, Vec<u8>),
    /// The client is refused.
    Refused(Refusal),
}

/// The next question, or how it ended.
pub(super) type Answered<S> = ControlFlow<Progress<S>, Question<S>>;

/// The stage of a connection between CONNECT and session, as its record holds it.
pub enum PendingConnect<S> {
    /// The client is to send AUTH.
    AwaitingAuth(AwaitingAuth<S>),
    /// A hook answers later.
    AwaitingHook {
        /// The number under which it runs.
        task: u64,
        /// The link of the chain that answers.
        link: usize,
        /// What to ask with its answer.
        question: Question<S>,
    },
    /// Accepted by all: waits for its session, for tasks of notifications about its subscriber id, or to be handed to
    /// its owner.
    Accepted(Box<AcceptedConnect<S>>),
}

impl<S> PendingConnect<S> {
    /// When the client is to be refused because its exchange of AUTH packets took too long; else [`Time::NEVER`].
    pub fn due(&self) -> Time {
        match self {
            PendingConnect::AwaitingAuth(waiting) => waiting.due,
            PendingConnect::AwaitingHook { question, .. } => question.due(),
            PendingConnect::Accepted(_) => Time::NEVER,
        }
    }

    /// The number of the hook that it waits for.
    pub fn task(&self) -> Option<u64> {
        match self {
            PendingConnect::AwaitingHook { task, .. } => Some(*task),
            PendingConnect::AwaitingAuth(_) | PendingConnect::Accepted(_) => None,
        }
    }

    /// What all have accepted, if they have.
    pub fn accepted(&self) -> Option<&AcceptedConnect<S>> {
        match self {
            PendingConnect::Accepted(accepted) => Some(accepted),
            PendingConnect::AwaitingAuth(_) | PendingConnect::AwaitingHook { .. } => None,
        }
    }

    /// The same, to be changed.
    pub fn accepted_mut(&mut self) -> Option<&mut AcceptedConnect<S>> {
        match self {
            PendingConnect::Accepted(accepted) => Some(accepted),
            PendingConnect::AwaitingAuth(_) | PendingConnect::AwaitingHook { .. } => None,
        }
    }

    /// What all have accepted, if they have.
    pub fn into_accepted(self) -> Option<Box<AcceptedConnect<S>>> {
        match self {
            PendingConnect::Accepted(accepted) => Some(accepted),
            PendingConnect::AwaitingAuth(_) | PendingConnect::AwaitingHook { .. } => None,
        }
    }

    /// The client, as far as it is known by now.
    pub fn client(&self) -> &Client {
        match self {
            PendingConnect::AwaitingAuth(waiting) => &waiting.candidate.client,
            PendingConnect::AwaitingHook { question, .. } => &question.candidate().client,
            PendingConnect::Accepted(accepted) => &accepted.client,
        }
    }

    /// Its refusal with this code and reason string, for what is none of the hooks' business.
    pub fn refuse(&self, code: ReasonCode, what: &'static str) -> Refusal {
        match self {
            PendingConnect::AwaitingAuth(waiting) => waiting.candidate.refuse(code, what),
            PendingConnect::AwaitingHook { question, .. } => question.candidate().refuse(code, what),
            PendingConnect::Accepted(accepted) => accepted.refuse(code, what),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::*;
    use super::*;
    use crate::codec::Connect;
    use crate::hooks::Answer;

    #[test]
    fn a_pending_connect_says_what_it_waits_for() {
        let script =
            Script { auth: one_question, register: |_| Answer::later(async { Answer::ok() }), ..Script::default() };
        let mut door = Door::new("limits.auth_timeout = '3s'", script);
        let (waiting, _) = awaiting(door.connect(with_method("M")));
        let waiting = PendingConnect::AwaitingAuth(waiting);
        assert_eq!((waiting.due(), waiting.task()), (NOW + Duration::from_secs(3), None));
        let bytes = told(&waiting.refuse(ReasonCode::NotAuthorized, "too slow"));
        assert_eq!(connack(&bytes, V5).properties.reason_string, Some("too slow"));

        let (question, pending) = later(door.connect(Connect::new(V311, "c")));
        let waiting = PendingConnect::AwaitingHook { task: 7, link: pending.link, question };
        assert_eq!((waiting.due(), waiting.task()), (Time::NEVER, Some(7)));
        assert_eq!(told(&waiting.refuse(ReasonCode::ServerShuttingDown, "stops")), [0x20, 2, 0, 3]);

        let accepted = Box::new(Door::open("").accept(Connect::new(V31, "c")));
        assert_eq!(told(&accepted.refuse(ReasonCode::QuotaExceeded, "full")), [0x20, 2, 0, 3]);
        let waiting = PendingConnect::Accepted(accepted);
        assert_eq!((waiting.due(), waiting.task()), (Time::NEVER, None));
        assert_eq!(waiting.into_accepted().map(|accepted| accepted.client.subscriber.to_string()), Some("c".into()));
    }

    /// What goes to another shard may.
    #[test]
    fn stages_can_be_sent() {
        fn send<T: Send>() {}
        send::<AcceptedConnect<State>>();
        send::<PendingConnect<State>>();
    }

    #[test]
    fn stages_are_small() {
        assert!(size_of::<Question<State>>() <= 80, "{}", size_of::<Question<State>>());
        assert!(size_of::<PendingConnect<State>>() <= 104, "{}", size_of::<PendingConnect<State>>());
    }
}
