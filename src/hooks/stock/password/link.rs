//! The link that asks for passwords.

use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};

use futures_channel::oneshot;

use super::failures::Origin;
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
/// | has no user name | *Next* |
/// | has one that the table does not know | *Next*, after the time that a password takes |
/// | sends no password, or the wrong one | *Error*: invalid credentials (4, 0x86) |
/// | sends the right one | *Ok* |
/// | comes while too many passwords wait to be checked | *Error*: unavailable (3, 0x88) |
///
/// A client with a user name to which every link says *Next* is refused as with a wrong password: which names exist shows
/// neither in the answer nor in the time that it takes.
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
        let Some(user) = &client.username else { return Answer::Next };
        let table = self.table.get();
        let stored = table.get(user);
        let is_user = stored.is_some();
        let Some(password) = password else {
            return if is_user { Answer::Error(ConnectRefusal::InvalidCredentials) } else { Answer::Next };
        };
        let Some(stored) = stored.or_else(|| table.decoy(user)) else { return Answer::Next };
        let origin = Origin::new(client.peer.ip(), user.clone());
        match self.queue.check(origin, (stored, is_user), password) {
            Ok(result) => Answer::later(Checked { result, is_user }),
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
struct Checked {
    result: oneshot::Receiver<bool>,
    is_user: bool,
}

impl Future for Checked {
    type Output = Answer<RegisterModifiers, ConnectRefusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let is_user = self.is_user;
        Pin::new(&mut self.result).poll(cx).map(|result| match result {
            Ok(true) => Answer::ok(),
            Ok(false) if is_user => Answer::Error(ConnectRefusal::InvalidCredentials),
            Ok(false) => Answer::Next,
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
    use std::time::Duration;

    use super::*;
    use crate::codec::{ConnectProperties, ProtocolVersion};
    use crate::hooks::stock::{HashWork, HashWorker, hash_queue};
    use crate::hooks::tests::client;
    use crate::hooks::{Chain, ConnectCode, HookAnswer, HookFuture, Linked, NoHooks, PendingAnswer, Verdict};
    use crate::time::Time;

    /// SHA-512 of `secret` and the bytes 1 to 12; by Python's hashlib.
    const FILE: &str = "alice:$6$AQIDBAUGBwgJCgsM$\
        XtaqFTpVqKCBusKxL7SramYPpHVSOw+CXtRUIv0PpX6q57MW1a1RUVsLMxkhMn6XOYi3uYMZcGrMAEzcnh9EoA==";

    type Asked = Verdict<RegisterModifiers, ConnectRefusal>;

    /// The link, and whoever checks for it.
    struct Trial {
        chain: Linked<NoHooks, PasswordFile>,
        work: HashWork,
        worker: HashWorker,
        now: Time,
    }

    impl Trial {
        fn new(capacity: usize) -> Self {
            let (queue, work) = hash_queue(capacity, Duration::from_secs(2));
            let link = PasswordFile::new(Live::fixed(PasswordTable::parse(FILE).unwrap()), queue);
            Trial { chain: NoHooks.hook(link), worker: work.worker(), work, now: Time::ZERO }
        }

        fn ask(&mut self, username: Option<&str>, password: Option<&[u8]>) -> Asked {
            self.ask_from("10.0.0.1", username, password)
        }

        fn ask_from(&mut self, address: &str, username: Option<&str>, password: Option<&[u8]>) -> Asked {
            ask(&mut self.chain, address, username, password)
        }

        /// Checks what may be checked by now, and says how much that was.
        fn work(&mut self) -> usize {
            self.work.run_until_idle(&mut self.worker, self.now)
        }
    }

    fn ask(
        chain: &mut Linked<NoHooks, PasswordFile>,
        address: &str,
        username: Option<&str>,
        password: Option<&[u8]>,
    ) -> Asked {
        let peer = (address.parse::<std::net::IpAddr>().unwrap(), 1).into();
        let client = Client { username: username.map(Into::into), peer, ..client(ProtocolVersion::V311) };
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

    /// What an answer that has come says: nothing if it is *Next*.
    fn refusal(future: &mut HookFuture) -> Option<ConnectRefusal> {
        match poll(future) {
            Poll::Ready(HookAnswer::Register(Answer::Error(refusal))) => Some(refusal),
            Poll::Ready(HookAnswer::Register(Answer::Next)) => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_decides_about_users_it_knows() {
        let mut trial = Trial::new(9);
        assert!(matches!(trial.ask(None, Some(b"secret")), Verdict::Exhausted));
        let refused = |asked| matches!(asked, Verdict::Refused(ConnectRefusal::InvalidCredentials));
        assert!(refused(trial.ask(Some("alice"), None)));
        assert!(matches!(trial.ask(Some("bob"), None), Verdict::Exhausted));
        assert_eq!(trial.work(), 0, "nothing had to be checked");

        let mut right = later(trial.ask(Some("alice"), Some(b"secret")));
        let mut wrong = later(trial.ask(Some("alice"), Some(b"Secret")));
        assert!(poll(&mut right).is_pending() && poll(&mut wrong).is_pending());
        assert_eq!(trial.work(), 2);
        assert!(matches!(poll(&mut right), Poll::Ready(HookAnswer::Register(Answer::Ok(_)))));
        assert_eq!(refusal(&mut wrong), Some(ConnectRefusal::InvalidCredentials));
    }

    #[test]
    fn a_user_that_does_not_exist_costs_what_one_costs_who_does() {
        let mut trial = Trial::new(9);
        for password in [&b"secret"[..], b"wrong"] {
            let mut asked = later(trial.ask(Some("bob"), Some(password)));
            assert!(poll(&mut asked).is_pending());
            assert_eq!(trial.work(), 1, "a password was checked");
            assert_eq!(refusal(&mut asked), None, "those that follow are asked");
        }
    }

    #[test]
    fn mqtt_5_is_told_in_its_own_words() {
        let mut trial = Trial::new(9);
        let client = Client { username: Some("alice".into()), ..client(ProtocolVersion::V5) };
        let properties = &ConnectProperties::default();
        let register = RegisterM5 { password: Some(b"no"), clean_start: true, keep_alive: 0, will: None, properties };
        let asked = trial.chain.auth_on_register_m5(0, &client, &mut Default::default(), &register);
        let Verdict::Later(PendingAnswer { mut future, .. }) = asked else { panic!("later") };
        assert_eq!(trial.work(), 1);
        let Poll::Ready(HookAnswer::RegisterM5(Answer::Error(refusal))) = poll(&mut future) else { panic!("refused") };
        assert_eq!(refusal.code, Some(ConnectCode::BadUserNameOrPassword));
    }

    #[test]
    fn a_full_queue_turns_away_and_one_that_is_gone_too() {
        let mut trial = Trial::new(1);
        let mut waiting = later(trial.ask(Some("alice"), Some(b"secret")));
        let mut one_too_many = later(trial.ask(Some("alice"), Some(b"secret")));
        assert_eq!(trial.work(), 1);
        assert!(matches!(poll(&mut waiting), Poll::Ready(HookAnswer::Register(Answer::Ok(_)))));
        assert_eq!(refusal(&mut one_too_many), Some(ConnectRefusal::Unavailable));
        let Trial { mut chain, work, .. } = trial;
        drop(work);
        let asked = ask(&mut chain, "10.0.0.1", Some("alice"), Some(b"secret"));
        assert!(matches!(asked, Verdict::Refused(ConnectRefusal::Unavailable)));
    }

    /// One that keeps on asking has half of the room, and others get in.
    #[test]
    fn an_address_that_asks_too_much_is_told_so_and_others_are_not() {
        let mut trial = Trial::new(100);
        let mut flood: Vec<_> = (0..90).map(|_| later(trial.ask(Some("alice"), Some(b"guess")))).collect();
        // What waits is sorted when somebody looks at it.
        assert_eq!(trial.work(), 50);
        let refusals: Vec<_> = flood.iter_mut().filter_map(refusal).collect();
        let unavailable = refusals.iter().filter(|refusal| **refusal == ConnectRefusal::Unavailable).count();
        assert_eq!((refusals.len(), unavailable), (90, 40));
        // By now the address has failed, and so has the user: both wait, and are answered all the same.
        let mut right = later(trial.ask_from("10.0.0.2", Some("alice"), Some(b"secret")));
        let mut other = later(trial.ask_from("10.0.0.1", Some("bob"), Some(b"guess")));
        assert_eq!(trial.work(), 0, "not yet");
        trial.now = Time::from_millis(2000);
        assert_eq!(trial.work(), 2);
        assert!(matches!(poll(&mut right), Poll::Ready(HookAnswer::Register(Answer::Ok(_)))));
        assert_eq!(refusal(&mut other), None);
    }

    #[test]
    fn what_nobody_waits_for_is_not_computed() {
        let mut trial = Trial::new(9);
        let gone: Vec<_> = (0..4).map(|_| later(trial.ask(Some("alice"), Some(b"secret")))).collect();
        drop(gone);
        let mut stays = later(trial.ask(Some("alice"), Some(b"secret")));
        assert_eq!(trial.work(), 1);
        assert!(matches!(poll(&mut stays), Poll::Ready(HookAnswer::Register(Answer::Ok(_)))));
    }

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn other_threads_wake_who_waits_and_end_when_nobody_can_ask_any_more() {
        let Trial { mut chain, work, worker, .. } = Trial::new(9);
        let client = Client { username: Some("alice".into()), ..client(ProtocolVersion::V311) };
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut ask = |password| {
            let register = Register { password: Some(password), clean_session: true, keep_alive: 0, will: None };
            later(chain.auth_on_register(0, &client, &mut Default::default(), &register))
        };
        let mut futures = [ask(b"secret"), ask(b"wrong")];
        for future in &mut futures {
            assert!(future.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        }
        let threads = [thread::spawn(move || worker.run()), thread::spawn(move || work.run(|| Time::ZERO))];
        drop(chain);
        threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
        assert!(woken.0.load(Ordering::SeqCst));
        assert!(matches!(poll(&mut futures[0]), Poll::Ready(HookAnswer::Register(Answer::Ok(_)))));
        assert_eq!(refusal(&mut futures[1]), Some(ConnectRefusal::InvalidCredentials));
    }
}
