//! The link that asks for passwords.

use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};

use futures_channel::oneshot;

use super::hashing::Busy;
use super::{HashQueue, PasswordTable};
use crate::client::Client;
use crate::hooks::stock::Live;
use crate::hooks::{
    Answer, ConnectRefusal, ConnectRefusalM5, Context, Hook, Register, RegisterM5, RegisterModifiers,
    RegisterModifiersM5,
};

/// Lets in who knows a password of the table, and turns away whoever does not.
///
/// | the client | the answer |
/// |---|---|
/// | has no user name, or one that the table does not know | *Next* |
/// | sends no password, or the wrong one | *Error*: invalid credentials (4, 0x86) |
/// | sends the right one | *Ok* |
/// | comes while too many passwords wait to be checked | *Error*: unavailable (3, 0x88) |
///
/// The answer comes later, when whoever has the [`HashWork`](super::HashWork) has checked.
#[derive(Clone, Debug)]
pub struct PasswordFile {
    table: Live<PasswordTable>,
    queue: HashQueue,
}

impl PasswordFile {
    /// Asks for the passwords of `table`, and has them checked by way of `queue`.
    pub fn new(table: Live<PasswordTable>, queue: HashQueue) -> Self {
        PasswordFile { table, queue }
    }

    /// The answer to both forms of the hook.
    pub(in crate::hooks::stock) fn ask(
        &mut self,
        client: &Client,
        password: Option<&[u8]>,
    ) -> Answer<RegisterModifiers, ConnectRefusal> {
        let Some(stored) = client.username.as_deref().and_then(|user| self.table.get().get(user)) else {
            return Answer::Next;
        };
        let Some(password) = password else { return Answer::Error(ConnectRefusal::InvalidCredentials) };
        match self.queue.check(stored, password) {
            Ok(result) => Answer::later(Checked(result)),
            Err(Busy) => Answer::Error(ConnectRefusal::Unavailable),
        }
    }
}

impl Hook for PasswordFile {
    type State = ();

    fn auth_on_register(
        &mut self,
        cx: &mut Context<'_, ()>,
        register: &Register<'_>,
    ) -> Answer<RegisterModifiers, ConnectRefusal> {
        self.ask(cx.client(), register.password)
    }

    fn auth_on_register_m5(
        &mut self,
        cx: &mut Context<'_, ()>,
        register: &RegisterM5<'_>,
    ) -> Answer<RegisterModifiersM5, ConnectRefusalM5> {
        self.ask(cx.client(), register.password).convert()
    }
}

/// Becomes the answer when the password has been checked.
struct Checked(oneshot::Receiver<bool>);

impl Future for Checked {
    type Output = Answer<RegisterModifiers, ConnectRefusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| match result {
            Ok(true) => Answer::ok(),
            Ok(false) => Answer::Error(ConnectRefusal::InvalidCredentials),
            Err(oneshot::Canceled) => Answer::Error(ConnectRefusal::Unavailable),
        })
    }
}
