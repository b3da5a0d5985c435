//! Enhanced authentication (MQTT 5.0, 4.12): clients prove that they know their password, and never send it.
//!
//! The stock link speaks SCRAM-SHA-256, re-authentication included. Behind it stands a link with a method of its own: a toy
//! without any security, that shows all there is to an exchange, one question and one answer.
//!
//! ```text
//! cargo run --example scram              # or, at another address: -- 127.0.0.1:1884
//! ```
//!
//! Connect with an MQTT 5 client that speaks SCRAM-SHA-256, as user `ann` with password `pencil`; or with one that takes
//! method and data from you, method `PIN`, data `1234`.

use bytes::Bytes;
use moormq::Broker;
use moormq::config::Config;
use moormq::hooks::stock::{AllowAll, Live, Nonces, ScramCredentials, ScramFile, ScramTable};
use moormq::hooks::{
    Answer, AuthContinue, AuthExchange, AuthStage, AuthStep, AuthSuccess, ConnectCode, ConnectRefusalM5, Context, Hook,
    RegisterM5, RegisterModifiersM5,
};

/// Asks for a PIN, and then for the same one backwards.
#[derive(Clone)]
struct PinCode {
    pin: &'static [u8],
}

impl Hook for PinCode {
    /// Whether this client has answered rightly.
    type State = bool;

    fn on_auth_m5(
        &mut self,
        cx: &mut Context<'_, bool>,
        exchange: &AuthExchange<'_>,
    ) -> Answer<AuthStep, ConnectRefusalM5> {
        if exchange.method != "PIN" {
            return Answer::Next;
        }
        let backwards: Vec<u8> = self.pin.iter().rev().copied().collect();
        let data = exchange.data.unwrap_or_default();
        match exchange.stage {
            AuthStage::Connect | AuthStage::Reauthenticate if data == self.pin => {
                let question = AuthContinue::default().data(Bytes::from_static(b"and backwards?"));
                Answer::Ok(question.into())
            }
            AuthStage::Continue if data == backwards => {
                *cx.state() = true;
                Answer::Ok(AuthSuccess::default().username("pin").data(Bytes::from_static(b"welcome")).into())
            }
            _ => Answer::Error(ConnectRefusalM5::default().code(ConnectCode::BadUserNameOrPassword)),
        }
    }

    fn auth_on_register_m5(
        &mut self,
        cx: &mut Context<'_, bool>,
        _: &RegisterM5<'_>,
    ) -> Answer<RegisterModifiersM5, ConnectRefusalM5> {
        // Both must agree: the exchange, and this. Who came by another method is left to others.
        if *cx.state() { Answer::ok() } else { Answer::Next }
    }
}

/// The users, as `moormq passwd --scram` writes them into a file; here made at every start.
fn users() -> Result<ScramTable, Box<dyn std::error::Error>> {
    let (salt, secret) = (random::<{ ScramCredentials::SALT_LEN }>()?, random()?);
    let ann = ScramCredentials::derive("pencil", &salt, ScramCredentials::DEFAULT_ITERATIONS)?;
    Ok(ScramTable::parse(&format!("ann:{ann}"), secret).map_err(|fault| fault.to_string())?)
}

fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:1883".to_owned());
    let config = Config::from_toml(&format!("listeners.default.address = '{address}'"), "the example")?;
    let scram = ScramFile::new(Live::fixed(users()?), Nonces::new(random()?));
    let broker = Broker::builder().config(config).hook(scram).hook(PinCode { pin: b"1234" }).hook(AllowAll).start()?;
    println!("listening on {}; end of input stops the broker", broker.addresses()[0].1);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    broker.stop()?;
    Ok(())
}
