//! The link that speaks SCRAM.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::exchange::{Exchange, Proven, ScramError};
use super::{ScramTable, hmac_of};
use crate::hooks::stock::Live;
use crate::hooks::stock::password::{Busy, HashQueue, Origin};
use crate::hooks::{
    Answer, AuthContinue, AuthExchange, AuthStage, AuthStep, AuthSuccess, ConnectCode, ConnectRefusalM5, Context, Hook,
    RegisterM5, RegisterModifiersM5,
};

/// The authentication method that the link knows.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// Lets in who proves, in an enhanced authentication with the method SCRAM-SHA-256, to know the password of a user of the
/// table. The user name is that of the exchange from then on, whatever CONNECT said.
///
/// | the client | the answer |
/// |---|---|
/// | uses another method, or none | *Next* |
/// | begins an exchange | *Ok*: continue, whether there is such a user or not |
/// | proves it | *Ok*: success; and *Ok* to the `auth_on_register_m5` that follows |
/// | does not | *Error*: bad user name or password (0x86, in DISCONNECT 0x87) |
/// | begins while too many others wait for it | *Error*: unavailable (0x88) |
/// | breaks the rules of the exchange | *Error*: not authorised (0x87), with a sentence |
/// | authenticates again as another user | *Error*: not authorised (0x87) |
///
/// It belongs before a link that asks for passwords: the client it let in may have none.
#[derive(Clone, Debug)]
pub struct ScramFile {
    table: Live<ScramTable>,
    nonces: Nonces,
    queue: Option<HashQueue>,
}

/// What the link keeps of a session: who the client has proven to be, and an exchange that is under way.
#[derive(Default)]
pub struct ScramState {
    user: Option<Arc<str>>,
    exchange: Option<Box<Exchange>>,
}

/// Nonces that nobody can foresee and that never repeat. Clones share the count.
#[derive(Clone)]
pub struct Nonces {
    key: [u8; 32],
    count: Arc<AtomicU64>,
}

impl Nonces {
    /// Nonces from `key`, which is random and secret, and another one each time the program runs.
    pub fn new(key: [u8; 32]) -> Self {
        Nonces { key, count: Arc::default() }
    }

    fn next(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        STANDARD_NO_PAD.encode(&hmac_of(&self.key, &count.to_be_bytes())[..24])
    }
}

impl ScramFile {
    /// Lets in the users of `table`.
    pub fn new(table: Live<ScramTable>, nonces: Nonces) -> Self {
        ScramFile { table, nonces, queue: None }
    }

    /// After failures of an address or a user name the answer to the beginning of an exchange waits, as that to a password does
    /// which is checked by way of `queue`.
    #[must_use]
    pub fn slowed_by(self, queue: HashQueue) -> Self {
        ScramFile { queue: Some(queue), ..self }
    }

    /// Whether the table has such a user.
    pub(in crate::hooks::stock) fn knows(&mut self, user: &str) -> bool {
        self.table.get().contains(user)
    }

    fn begin(
        &mut self,
        cx: &mut Context<'_, ScramState>,
        exchange: &AuthExchange<'_>,
    ) -> Answer<AuthStep, ConnectRefusalM5> {
        let first = exchange.data.unwrap_or_default();
        let (begun, answer) = match Exchange::begin(first, self.table.get(), &self.nonces.next()) {
            Ok(begun) => begun,
            Err(error) => return refuse(error),
        };
        let origin = Origin::new(cx.client().peer.ip(), begun.user().into());
        cx.state().exchange = Some(Box::new(begun));
        match self.queue.as_ref().map(|queue| queue.wait(origin)) {
            None => question(answer),
            Some(Ok(wait)) => Answer::later(async move {
                match wait.await {
                    Ok(()) => question(answer),
                    Err(_) => unavailable(),
                }
            }),
            Some(Err(Busy)) => unavailable(),
        }
    }

    fn finish(
        &mut self,
        cx: &mut Context<'_, ScramState>,
        exchange: &AuthExchange<'_>,
    ) -> Answer<AuthStep, ConnectRefusalM5> {
        let address = cx.client().peer.ip();
        let user = cx.state().exchange.as_ref().map(|begun| Arc::from(begun.user()));
        let answer = cx.state().finish(exchange.data.unwrap_or_default());
        if let (Some(queue), Some(user)) = (&self.queue, user) {
            queue.settle(Origin::new(address, user), matches!(answer, Answer::Ok(_)));
        }
        answer
    }
}

fn question(data: String) -> Answer<AuthStep, ConnectRefusalM5> {
    Answer::Ok(AuthContinue::default().data(data).into())
}

fn unavailable() -> Answer<AuthStep, ConnectRefusalM5> {
    Answer::Error(ConnectRefusalM5::default().code(ConnectCode::ServerUnavailable))
}

impl ScramState {
    /// Whether the client has proven who it is.
    pub(in crate::hooks::stock) fn is_proven(&self) -> bool {
        self.user.is_some()
    }

    fn finish(&mut self, last: &[u8]) -> Answer<AuthStep, ConnectRefusalM5> {
        let Some(exchange) = self.exchange.take() else {
            return refuse(ScramError::Message("no exchange has begun"));
        };
        let Proven { user, signature } = match exchange.finish(last) {
            Ok(proven) => proven,
            Err(error) => return refuse(error),
        };
        if self.user.as_deref().is_some_and(|before| before != user) {
            return refuse(ScramError::Message("the user must stay the same"));
        }
        let user: Arc<str> = user.into();
        self.user = Some(Arc::clone(&user));
        Answer::Ok(AuthSuccess::default().data(signature).username(user).into())
    }
}

fn refuse(error: ScramError) -> Answer<AuthStep, ConnectRefusalM5> {
    let refusal = ConnectRefusalM5::default();
    Answer::Error(match error {
        ScramError::Proof => refusal.code(ConnectCode::BadUserNameOrPassword),
        ScramError::Message(what) => {
            refusal.code(ConnectCode::NotAuthorized).reason_string(format!("{SCRAM_SHA_256}: {what}"))
        }
    })
}

impl Hook for ScramFile {
    type State = ScramState;

    fn on_auth_m5(
        &mut self,
        cx: &mut Context<'_, ScramState>,
        exchange: &AuthExchange<'_>,
    ) -> Answer<AuthStep, ConnectRefusalM5> {
        if exchange.method != SCRAM_SHA_256 {
            return Answer::Next;
        }
        match exchange.stage {
            AuthStage::Connect | AuthStage::Reauthenticate => self.begin(cx, exchange),
            AuthStage::Continue => self.finish(cx, exchange),
        }
    }

    fn auth_on_register_m5(
        &mut self,
        cx: &mut Context<'_, ScramState>,
        _: &RegisterM5<'_>,
    ) -> Answer<RegisterModifiersM5, ConnectRefusalM5> {
        if cx.state().is_proven() { Answer::ok() } else { Answer::Next }
    }
}

/// Nothing of the exchange.
impl fmt::Debug for ScramState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramState").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Nothing of the key.
impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::client::Client;
    use crate::codec::{ConnectProperties, ProtocolVersion};
    use crate::hooks::stock::scram::exchange::tests::{proof, table};
    use crate::hooks::tests::client;
    use crate::hooks::{Chain, Linked, NoHooks, Verdict};

    /// One session of one client, and the link.
    struct Session {
        chain: Linked<NoHooks, ScramFile>,
        state: ((), ScramState),
        client: Client,
    }

    impl Session {
        fn new() -> Self {
            let link = ScramFile::new(Live::fixed(table()), Nonces::new([7; 32]));
            Session { chain: NoHooks.hook(link), state: Default::default(), client: client(ProtocolVersion::V5) }
        }

        fn say(&mut self, stage: AuthStage, data: &str) -> Verdict<AuthStep, ConnectRefusalM5> {
            let exchange = AuthExchange {
                stage,
                method: SCRAM_SHA_256,
                data: Some(data.as_bytes()),
                reason_string: None,
                user_properties: Default::default(),
            };
            self.chain.on_auth_m5(0, &self.client, &mut self.state, &exchange)
        }

        /// Begins as `user`, and says what the client would with this password.
        fn prove(&mut self, stage: AuthStage, user: &str, password: &str) -> Verdict<AuthStep, ConnectRefusalM5> {
            let bare = format!("n={user},r=abc");
            let Verdict::Ok(AuthStep::Continue(question)) = self.say(stage, &format!("n,,{bare}")) else {
                panic!("every user is asked")
            };
            let question = String::from_utf8(question.data.expect("a question").to_vec()).unwrap();
            self.say(AuthStage::Continue, &proof(&bare, &question, password))
        }

        fn may_register(&mut self) -> bool {
            let properties = &ConnectProperties::default();
            let register = RegisterM5 { password: None, clean_start: true, keep_alive: 0, will: None, properties };
            match self.chain.auth_on_register_m5(0, &self.client, &mut self.state, &register) {
                Verdict::Ok(_) => true,
                Verdict::Exhausted => false,
                other => panic!("{other:?}"),
            }
        }
    }

    fn refusal(verdict: Verdict<AuthStep, ConnectRefusalM5>) -> (ConnectCode, String) {
        let Verdict::Refused(refusal) = verdict else { panic!("{verdict:?} is no refusal") };
        (refusal.code.unwrap(), refusal.reason_string.unwrap_or_default())
    }

    #[test]
    fn who_proves_it_is_in() {
        let mut session = Session::new();
        assert!(!session.may_register());
        let Verdict::Ok(AuthStep::Success(success)) = session.prove(AuthStage::Connect, "user", "pencil") else {
            panic!("the password is right")
        };
        assert_eq!(success.username.as_deref(), Some("user"));
        assert!(success.data.unwrap().starts_with(b"v="));
        assert!(session.may_register());
    }

    #[test]
    fn who_does_not_is_not() {
        let mut session = Session::new();
        for (user, password) in [("user", "pen"), ("nobody", "pencil")] {
            let refusal = refusal(session.prove(AuthStage::Connect, user, password));
            assert_eq!(refusal, (ConnectCode::BadUserNameOrPassword, String::new()), "{user}");
            assert!(!session.may_register());
        }
        let (code, why) = refusal(session.say(AuthStage::Connect, "nonsense"));
        assert!(code == ConnectCode::NotAuthorized && why.starts_with("SCRAM-SHA-256: "), "{code:?} {why}");
        let (code, why) = refusal(session.say(AuthStage::Continue, "c=biws,r=abc,p="));
        assert_eq!((code, why.as_str()), (ConnectCode::NotAuthorized, "SCRAM-SHA-256: no exchange has begun"));
    }

    #[test]
    fn authenticating_again_is_for_the_same_user() {
        let mut session = Session::new();
        let again = AuthStage::Reauthenticate;
        assert!(matches!(session.prove(AuthStage::Connect, "user", "pencil"), Verdict::Ok(_)));
        assert!(matches!(session.prove(again, "user", "pencil"), Verdict::Ok(AuthStep::Success(_))));
        assert_eq!(refusal(session.prove(again, "user", "pen")).0, ConnectCode::BadUserNameOrPassword);
        let (code, why) = refusal(session.prove(again, "other", "pencil"));
        assert_eq!((code, why.as_str()), (ConnectCode::NotAuthorized, "SCRAM-SHA-256: the user must stay the same"));
        assert_eq!(session.state.1.user.as_deref(), Some("user"));
    }

    #[test]
    fn other_methods_are_for_others() {
        let mut session = Session::new();
        let exchange = AuthExchange {
            stage: AuthStage::Connect,
            method: "SCRAM-SHA-1",
            data: None,
            reason_string: None,
            user_properties: Default::default(),
        };
        let Session { chain, client, state } = &mut session;
        assert!(matches!(chain.on_auth_m5(0, client, state, &exchange), Verdict::Exhausted));
    }

    #[test]
    fn nonces_do_not_repeat_across_shards() {
        let nonces = Nonces::new([1; 32]);
        let shards = [nonces.clone(), nonces];
        let drawn: HashSet<String> = shards.iter().flat_map(|nonces| (0..100).map(|_| nonces.next())).collect();
        assert_eq!(drawn.len(), 200);
        assert!(drawn.iter().all(|nonce| nonce.len() == 32 && !nonce.contains(',')));
        assert!(!drawn.contains(&Nonces::new([2; 32]).next()));
    }
}
