//! A hook that asks a slow backend: it answers *later*, and only the client that is asked about waits. What the backend says of
//! the client is kept with its session, and decides where it may publish.
//!
//! The backend here is a thread that takes half a second for each question; a database or an HTTP service looks the same
//! from the hook.
//!
//! ```text
//! cargo run --example slow_backend              # or, at another address: -- 127.0.0.1:1884
//! mosquitto_pub -i anything -u ann -t ann/a -m 'half a second later'
//! ```

use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use moormq::Broker;
use moormq::config::Config;
use moormq::hooks::stock::AllowAll;
use moormq::hooks::{
    Answer, ConnectRefusal, Context, Hook, PublishModifiers, PublishRefusal, PublishRequest, Register,
    RegisterModifiers, V3Only,
};

/// A question to the backend, and where its answer goes: the topics that the user may publish to begin with this; none: it does
/// not know the user.
struct Question {
    username: String,
    answer: async_channel::Sender<Option<String>>,
}

#[derive(Clone)]
struct Backend {
    questions: Sender<Question>,
}

impl Hook for Backend {
    /// What the backend said.
    type State = String;

    fn auth_on_register(
        &mut self,
        cx: &mut Context<'_, String>,
        _: &Register<'_>,
    ) -> Answer<RegisterModifiers, ConnectRefusal> {
        let Some(username) = cx.client().username.as_deref() else { return Answer::Next };
        let (answer, answered) = async_channel::bounded(1);
        if self.questions.send(Question { username: username.to_owned(), answer }).is_err() {
            return Answer::Error(ConnectRefusal::Unavailable);
        }
        // The shard goes on with other clients. If the answer takes longer than `hooks.later_deadline`, the client is refused.
        cx.later(async move { answered.recv().await }, |prefix, answer| match answer {
            Ok(Some(granted)) => {
                *prefix = granted;
                Answer::ok()
            }
            Ok(None) => Answer::Error(ConnectRefusal::InvalidCredentials),
            Err(_) => Answer::Error(ConnectRefusal::Unavailable),
        })
    }

    fn auth_on_publish(
        &mut self,
        cx: &mut Context<'_, String>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        if publish.topic.starts_with(cx.state().as_str()) { Answer::ok() } else { Answer::refuse() }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (questions, asked) = channel::<Question>();
    thread::spawn(move || {
        for Question { username, answer } in asked {
            thread::sleep(Duration::from_millis(500));
            println!("the backend has thought about {username}");
            // The client may have left in the meantime.
            let _ = answer.try_send((username == "ann").then(|| format!("{username}/")));
        }
    });
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:1883".to_owned());
    let config = Config::from_toml(&format!("listeners.default.address = '{address}'"), "the example")?;
    let broker = Broker::builder().config(config).hook(V3Only(Backend { questions })).hook(AllowAll).start()?;
    println!("listening on {}; end of input stops the broker", broker.addresses()[0].1);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    broker.stop()?;
    Ok(())
}
