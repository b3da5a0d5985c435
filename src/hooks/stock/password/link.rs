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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context as TaskContext, Wake, Waker};
    use std::thread;

    use super::*;
    use crate::codec::{ConnectProperties, ProtocolVersion};
    use crate::hooks::stock::{HashWork, hash_queue};
    use crate::hooks::tests::client;
    use crate::hooks::{Chain, ConnectCode, HookAnswer, HookFuture, Linked, NoHooks, PendingAnswer, Verdict};

    /// SHA-512 of `secret` and the bytes 1 to 12; by Python's hashlib.
    const FILE: &str = "alice:$6$AQIDBAUGBwgJCgsM$\
        XtaqFTpVqKCBusKxL7SramYPpHVSOw+CXtRUIv0PpX6q57MW1a1RUVsLMxkhMn6XOYi3uYMZcGrMAEzcnh9EoA==";

    type Asked = Verdict<RegisterModifiers, ConnectRefusal>;

    fn chain(capacity: usize) -> (Linked<NoHooks, PasswordFile>, HashWork) {
        let (queue, work) = hash_queue(capacity);
        (NoHooks.hook(PasswordFile::new(Live::fixed(PasswordTable::parse(FILE).unwrap()), queue)), work)
    }

    fn ask(chain: &mut impl Chain<State = ((), ())>, username: Option<&str>, password: Option<&[u8]>) -> Asked {
        let client = Client { username: username.map(Into::into), ..client(ProtocolVersion::V311) };
        let register = Register { password, clean_session: true, keep_alive: 0, will: None };
        chain.auth_on_register(0, &client, &mut Default::default(), &register)
    }

    fn later(asked: Asked) -> HookFuture {
        let Verdict::Later(PendingAnswer { future, .. }) = asked else { panic!("{asked:?} is no later answer") };
        future
    }

    fn poll(future: &mut HookFuture) -> Poll<HookAnswer> {
        future.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()))
    }

    #[test]
    fn it_decides_about_users_it_knows() {
        let (mut chain, work) = chain(9);
        assert!(matches!(ask(&mut chain, None, Some(b"secret")), Verdict::Exhausted));
        assert!(matches!(ask(&mut chain, Some("bob"), Some(b"secret")), Verdict::Exhausted));
        let refused = |asked| matches!(asked, Verdict::Refused(ConnectRefusal::InvalidCredentials));
        assert!(refused(ask(&mut chain, Some("alice"), None)));
        assert!(!work.run_one(), "nothing had to be checked");

        let mut right = later(ask(&mut chain, Some("alice"), Some(b"secret")));
        let mut wrong = later(ask(&mut chain, Some("alice"), Some(b"Secret")));
        assert!(poll(&mut right).is_pending() && poll(&mut wrong).is_pending());
        assert!(work.run_one() && work.run_one());
        assert!(matches!(poll(&mut right), Poll::Ready(HookAnswer::Register(Answer::Ok(_)))));
        let Poll::Ready(HookAnswer::Register(Answer::Error(refusal))) = poll(&mut wrong) else { panic!("refused") };
        assert_eq!(refusal, ConnectRefusal::InvalidCredentials);
    }

    #[test]
    fn mqtt_5_is_told_in_its_own_words() {
        let (mut chain, work) = chain(9);
        let client = Client { username: Some("alice".into()), ..client(ProtocolVersion::V5) };
        let properties = &ConnectProperties::default();
        let register = RegisterM5 { password: Some(b"no"), clean_start: true, keep_alive: 0, will: None, properties };
        let asked = chain.auth_on_register_m5(0, &client, &mut Default::default(), &register);
        let Verdict::Later(PendingAnswer { mut future, .. }) = asked else { panic!("later") };
        assert!(work.run_one());
        let Poll::Ready(HookAnswer::RegisterM5(Answer::Error(refusal))) = poll(&mut future) else { panic!("refused") };
        assert_eq!(refusal.code, Some(ConnectCode::BadUserNameOrPassword));
    }

    #[test]
    fn a_full_queue_turns_away_and_one_that_is_gone_too() {
        let (mut chain, work) = chain(1);
        let waiting = later(ask(&mut chain, Some("alice"), Some(b"secret")));
        let unavailable = |asked| matches!(asked, Verdict::Refused(ConnectRefusal::Unavailable));
        assert!(unavailable(ask(&mut chain, Some("alice"), Some(b"secret"))));
        drop((waiting, work));
        assert!(unavailable(ask(&mut chain, Some("alice"), Some(b"secret"))));
    }

    #[test]
    fn a_client_that_left_makes_room() {
        let (mut chain, work) = chain(1);
        drop(later(ask(&mut chain, Some("alice"), Some(b"secret"))));
        assert!(work.run_one());
        drop(later(ask(&mut chain, Some("alice"), Some(b"secret"))));
    }

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn another_thread_wakes_who_waits() {
        let (mut chain, work) = chain(1);
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let mut future = later(ask(&mut chain, Some("alice"), Some(b"secret")));
        let waker = Waker::from(Arc::clone(&woken));
        assert!(future.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        let worker = thread::spawn(move || work.run());
        drop(chain);
        worker.join().expect("it ends when nobody can hand in any more");
        assert!(woken.0.load(Ordering::SeqCst));
        assert!(matches!(poll(&mut future), Poll::Ready(HookAnswer::Register(Answer::Ok(_)))));
    }
}
