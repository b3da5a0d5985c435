//! A broker with an authentication hook of its own: two users, each in a mountpoint of their own.
//!
//! ```text
//! cargo run --example authentication              # or, at another address: -- 127.0.0.1:1884
//! mosquitto_sub -u ann -P secret -t 'news/#' -v
//! mosquitto_pub -u ann -P secret -t news/today -m 'good morning'
//! mosquitto_pub -u ann -P wrong  -t news/today -m 'refused: bad user name or password'
//! ```

use moormq::Broker;
use moormq::config::Config;
use moormq::hooks::stock::AllowAll;
use moormq::hooks::{Answer, ConnectRefusal, Context, Hook, Register, RegisterModifiers, V3Only};

/// A table of users. A user who is not in it is left to the next link of the chain.
#[derive(Clone)]
struct Users {
    passwords: &'static [(&'static str, &'static [u8])],
}

impl Hook for Users {
    type State = ();

    fn auth_on_register(
        &mut self,
        cx: &mut Context<'_, ()>,
        register: &Register<'_>,
    ) -> Answer<RegisterModifiers, ConnectRefusal> {
        let Some(name) = cx.client().username.as_deref() else { return Answer::Next };
        match self.passwords.iter().find(|(user, _)| *user == name) {
            Some((user, password)) if register.password == Some(*password) => {
                println!("{name} may come in as {}", cx.client().subscriber.client_id);
                Answer::Ok(RegisterModifiers::default().mountpoint(*user))
            }
            Some(_) => Answer::Error(ConnectRefusal::InvalidCredentials),
            None => Answer::Next,
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let users = Users { passwords: &[("ann", b"secret"), ("bob", b"hunter2")] };
    // `V3Only` asks the same question for MQTT 5 clients. `AllowAll` lets an authenticated client use any topic.
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:1883".to_owned());
    let config = Config::from_toml(&format!("listeners.default.address = '{address}'"), "the example")?;
    let broker = Broker::builder().config(config).hook(V3Only(users)).hook(AllowAll).start()?;
    println!("listening on {}; end of input stops the broker", broker.addresses()[0].1);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    broker.stop()?;
    Ok(())
}
