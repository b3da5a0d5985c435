//! Hooks that rewrite: several companies share a broker, and each sees nothing but its own.
//!
//! A user name is `user@company`. Client ids, topics and filters of a company are kept apart by a prefix that no client
//! sees, and the user `guest` of a company gets digits in payloads as `#`.
//!
//! ```text
//! cargo run --example rewriting              # or, at another address: -- 127.0.0.1:1884
//! mosquitto_sub -u ann@acme -t 'news/#' -v
//! mosquitto_sub -u guest@acme -t 'news/#' -v
//! mosquitto_pub -u bob@acme -t news/today -m '42 lamps sold'
//! mosquitto_pub -u eve@rival -t news/today -m 'nobody at acme gets this'
//! ```

use std::convert::Infallible;

use moormq::Broker;
use moormq::config::Config;
use moormq::hooks::{
    Answer, ConnectRefusal, Context, DeliverAnswer, DeliverModifiers, Delivery, FilterGrant, Hook, PublishModifiers,
    PublishRefusal, PublishRequest, Register, RegisterModifiers, SubscribeModifiers, SubscribeRefusal,
    SubscribeRequest, UnsubscribeModifiers, UnsubscribeRequest, V3Only,
};

/// Keeps companies apart.
#[derive(Clone)]
struct Companies;

/// Where a client belongs. It stays with the session, wherever that moves.
#[derive(Default)]
struct Place {
    /// `company/`
    prefix: String,
    is_guest: bool,
}

impl Place {
    fn inside(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }
}

impl Hook for Companies {
    type State = Place;

    /// Another client id: `lamp` of acme is `acme/lamp`, so that rival may have a `lamp`, too.
    fn auth_on_register(
        &mut self,
        cx: &mut Context<'_, Place>,
        _: &Register<'_>,
    ) -> Answer<RegisterModifiers, ConnectRefusal> {
        let client = cx.client();
        let Some((user, company)) = client.username.as_deref().and_then(|name| name.split_once('@')) else {
            return Answer::Error(ConnectRefusal::InvalidCredentials);
        };
        if company.is_empty() || company.contains(['/', '$']) {
            return Answer::Error(ConnectRefusal::InvalidCredentials);
        }
        *cx.state() = Place { prefix: format!("{company}/"), is_guest: user == "guest" };
        let client_id = format!("{company}/{}", client.subscriber.client_id);
        Answer::Ok(RegisterModifiers::default().client_id(client_id))
    }

    /// Another topic.
    fn auth_on_publish(
        &mut self,
        cx: &mut Context<'_, Place>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        Answer::Ok(PublishModifiers::default().topic(cx.state().inside(publish.topic)))
    }

    /// Other filters, one for one. Shared subscriptions would need the prefix behind their group: refused here.
    fn auth_on_subscribe(
        &mut self,
        cx: &mut Context<'_, Place>,
        subscribe: &SubscribeRequest<'_>,
    ) -> Answer<SubscribeModifiers, SubscribeRefusal> {
        let place = cx.state();
        let grants = subscribe.filters.iter().map(|requested| match requested.filter.starts_with('$') {
            true => FilterGrant::Refuse(Default::default()),
            false => FilterGrant::Replace { filter: place.inside(requested.filter), qos: requested.options.qos },
        });
        Answer::Ok(SubscribeModifiers::default().filters(grants.collect::<Vec<_>>()))
    }

    /// The client unsubscribes by the name it knows.
    fn on_unsubscribe(
        &mut self,
        cx: &mut Context<'_, Place>,
        unsubscribe: &UnsubscribeRequest<'_>,
    ) -> Answer<UnsubscribeModifiers, Infallible> {
        let filters: Vec<_> = unsubscribe.filters.iter().map(|filter| cx.state().inside(filter)).collect();
        Answer::Ok(UnsubscribeModifiers::default().filters(filters))
    }

    /// The topic as the company knows it; for guests, another payload.
    fn on_deliver(&mut self, cx: &mut Context<'_, Place>, delivery: &Delivery<'_>) -> DeliverAnswer<DeliverModifiers> {
        let place = cx.state();
        let topic = delivery.topic.strip_prefix(&*place.prefix).unwrap_or(delivery.topic);
        let mut modifiers = DeliverModifiers::default().topic(topic);
        if place.is_guest {
            let hidden = |byte: &u8| if byte.is_ascii_digit() { b'#' } else { *byte };
            modifiers = modifiers.payload(delivery.payload.iter().map(hidden).collect::<Vec<_>>());
        }
        DeliverAnswer::Ok(modifiers)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:1883".to_owned());
    let config = Config::from_toml(&format!("listeners.default.address = '{address}'"), "the example")?;
    // `V3Only` asks the same questions for MQTT 5 clients.
    let broker = Broker::builder().config(config).hook(V3Only(Companies)).start()?;
    println!("listening on {}; end of input stops the broker", broker.addresses()[0].1);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    broker.stop()?;
    Ok(())
}
