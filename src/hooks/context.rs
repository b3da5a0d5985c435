//! What a hook can reach besides its arguments: the client, and what its link keeps for the session.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::answer::{Answer, Later};
use crate::client::Client;

/// The client a conditional hook is asked about, and the link's state of its session.
///
/// A hook is an ordinary method, and can be tested as one:
///
/// ```
/// use moormq::client::Client;
/// use moormq::codec::ProtocolVersion;
/// use moormq::hooks::{Answer, ConnectRefusal, Context, Hook, Register, RegisterModifiers};
///
/// struct OneUser;
///
/// impl Hook for OneUser {
///     /// How often the client has tried.
///     type State = u32;
///
///     fn auth_on_register(
///         &mut self,
///         cx: &mut Context<'_, u32>,
///         register: &Register<'_>,
///     ) -> Answer<RegisterModifiers, ConnectRefusal> {
///         *cx.state() += 1;
///         match (cx.client().username.as_deref(), register.password) {
///             (Some("ann"), Some(b"secret")) => Answer::ok(),
///             _ => Answer::Error(ConnectRefusal::InvalidCredentials),
///         }
///     }
/// }
///
/// let client = Client { username: Some("ann".into()), ..Client::new("thermometer", ProtocolVersion::V311) };
/// let mut tries = 0;
/// let mut ask = |password| {
///     let register = Register { password: Some(password), ..Register::default() };
///     OneUser.auth_on_register(&mut Context::new(&client, &mut tries), &register)
/// };
/// assert!(matches!(ask(b"secret"), Answer::Ok(_)));
/// assert!(matches!(ask(b"guess"), Answer::Error(ConnectRefusal::InvalidCredentials)));
/// assert_eq!(tries, 2);
/// ```
pub struct Context<'a, S> {
    client: &'a Client,
    state: &'a mut S,
}

impl<'a, S> Context<'a, S> {
    /// What a hook is asked with. The broker makes it; so do tests of hooks.
    #[inline(always)]
    pub fn new(client: &'a Client, state: &'a mut S) -> Self {
        Context { client, state }
    }

    /// The client, as it is known now: earlier answers may have changed its subscriber id and user name.
    pub fn client(&self) -> &'a Client {
        self.client
    }

    /// What this link keeps for the session; see [`Hook::State`](super::Hook::State).
    pub fn state(&mut self) -> &mut S {
        self.state
    }

    /// An answer that comes later and has to do with the state: `finish` makes it, of what `future` has resolved to and of the state
    /// as it is then.
    ///
    /// `future` runs while nothing more is read from this client, as that of [`Answer::later`]. `finish` is called on the shard, before
    /// the packet goes on and before any other hook sees the state. Like a hook it must not block. If it answers
    /// *Later*, that is waited for, too. If it panics, the hook has panicked: the client is refused, and what was written stays.
    /// It is dropped uncalled if the connection ends before, by a takeover also, or the deadline passes.
    ///
    /// Until then deliveries to the client go on, and the hooks that have to do with them use the state.
    ///
    /// ```
    /// # use moormq::hooks::{Answer, ConnectRefusal, Context, Hook, Register, RegisterModifiers};
    /// # async fn tenant_of(username: &str) -> Option<String> { None }
    /// struct Tenants;
    ///
    /// impl Hook for Tenants {
    ///     /// The tenant of the client.
    ///     type State = String;
    ///
    ///     fn auth_on_register(
    ///         &mut self,
    ///         cx: &mut Context<'_, String>,
    ///         _: &Register<'_>,
    ///     ) -> Answer<RegisterModifiers, ConnectRefusal> {
    ///         let Some(username) = cx.client().username.clone() else { return Answer::Next };
    ///         cx.later(async move { tenant_of(&username).await }, |state, tenant| match tenant {
    ///             Some(tenant) => {
    ///                 *state = tenant;
    ///                 Answer::ok()
    ///             }
    ///             None => Answer::refuse(),
    ///         })
    ///     }
    /// }
    /// ```
    pub fn later<T, M, R>(
        &self,
        future: impl Future<Output = T> + 'static,
        finish: impl FnOnce(&mut S, T) -> Answer<M, R> + 'static,
    ) -> Answer<M, R>
    where
        S: 'static,
        T: 'static,
        M: 'static,
        R: 'static,
    {
        Answer::Later(Later::finished_with(future, finish))
    }

    /// Asks another link whose state is a `part` of this one's: for links that are made of others. A later answer of that link, too, finds
    /// its part of the state.
    pub fn part<T, M, R>(
        &mut self,
        part: fn(&mut S) -> &mut T,
        ask: impl FnOnce(&mut Context<'_, T>) -> Answer<M, R>,
    ) -> Answer<M, R>
    where
        S: 'static,
        T: 'static,
        M: 'static,
        R: 'static,
    {
        ask(&mut Context::new(self.client, part(self.state))).of_part(part)
    }
}

impl<S: fmt::Debug> fmt::Debug for Context<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("client", self.client).field("state", self.state).finish()
    }
}

/// Something a notification wants done before the client goes on.
pub(super) type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The client a notification is about, and the link's state of its session.
pub struct Notice<'a, S> {
    client: &'a Client,
    state: &'a mut S,
    tasks: Option<Vec<Task>>,
    /// The link does not have the hook.
    absent: bool,
    state_changed: bool,
}

impl<'a, S> Notice<'a, S> {
    /// What a hook is told with. The broker makes it; so do tests of hooks.
    ///
    /// ```
    /// # use moormq::client::{Client, EndReason};
    /// # use moormq::codec::ProtocolVersion;
    /// # use moormq::hooks::{Hook, Notice};
    /// struct Doorman(Vec<String>);
    ///
    /// impl Hook for Doorman {
    ///     type State = ();
    ///
    ///     fn on_client_gone(&mut self, cx: &mut Notice<'_, ()>, reason: EndReason) {
    ///         self.0.push(format!("{} {reason:?}", cx.client().subscriber));
    ///         cx.later(async { /* say it to somebody who takes his time */ });
    ///     }
    /// }
    ///
    /// let (client, mut doorman) = (Client::new("ann", ProtocolVersion::V5), Doorman(Vec::new()));
    /// let mut state = ();
    /// let mut cx = Notice::new(&client, &mut state);
    /// doorman.on_client_gone(&mut cx, EndReason::ConnectionLost);
    /// assert_eq!(doorman.0, ["ann ConnectionLost"]);
    /// assert_eq!(cx.tasks(), 1);
    /// ```
    #[inline(always)]
    pub fn new(client: &'a Client, state: &'a mut S) -> Self {
        Notice { client, state, tasks: None, absent: false, state_changed: false }
    }

    /// What the default methods of [`Hook`](super::Hook) do: say that there is no such hook.
    #[doc(hidden)]
    #[inline(always)]
    pub fn absent(&mut self) {
        self.absent = true;
    }

    /// Whether nothing but the default method was called.
    #[inline(always)]
    pub(super) fn is_absent(&self) -> bool {
        self.absent && self.tasks.is_none()
    }

    /// Says that what this link keeps for the session has changed, so that it is [stored](super::Hook::state_version) now: who is answered behind that,
    /// and waits for the disk, is answered when it is there. It costs a record in the journal, with what all links keep. Without effect if this link stores nothing of it, if the
    /// session is not stored, and in `on_register`, when it is not there yet.
    pub fn state_changed(&mut self) {
        self.state_changed = true;
    }

    /// Whether that was said.
    #[inline(always)]
    pub(super) fn has_state_changed(&self) -> bool {
        self.state_changed
    }

    /// What was handed over, in order.
    #[inline(always)]
    pub(super) fn into_tasks(self) -> Option<Vec<Task>> {
        self.tasks
    }

    /// How many tasks were handed over: for tests of hooks.
    pub fn tasks(&self) -> usize {
        self.tasks.as_ref().map_or(0, Vec::len)
    }

    /// The client, with the subscriber id and user name it has in the end.
    pub fn client(&self) -> &'a Client {
        self.client
    }

    /// What this link keeps for the session; see [`Hook::State`](super::Hook::State).
    pub fn state(&mut self) -> &mut S {
        self.state
    }

    /// Has the shard run `task` before this client goes on: before its next packet is looked at, before it sees anything
    /// that was written to it, and before another connection of the same subscriber id is registered. Other clients do not
    /// wait. `task` runs on the shard, so it must not block; it is given up at the deadline of its hook, which the tasks
    /// of one call share, or when it panics.
    ///
    /// All tasks of one subscriber id run one after the other, in the order in which their hooks were called, whatever
    /// hooks and links they are of. A hook itself is called at the moment it tells of, and does not wait for tasks of
    /// hooks before it: `on_client_offline` is called when the connection is lost, also while a task of
    /// `on_client_wakeup` is under way. What must come after that task belongs into a task, too.
    ///
    /// `on_message_drop` and `on_offline_message` are about messages, of which there may be any number. Nobody waits for their
    /// tasks: they run one after the other by themselves, in order, and the client goes on. There may be
    /// `hooks.max_message_tasks` of them on a shard; what is over that is dropped unrun, and counted
    /// ([`HookCounts::dropped`](super::HookCounts::dropped)). If the session moves to another shard, those of before and those
    /// of after may be under way together.
    ///
    /// What need not be waited for is better sent to a thread or task of your own.
    pub fn later(&mut self, task: impl Future<Output = ()> + 'static) {
        self.tasks.get_or_insert_default().push(Box::pin(task));
    }
}

impl<S: fmt::Debug> fmt::Debug for Notice<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notice").field("client", self.client).field("state", self.state).finish_non_exhaustive()
    }
}
