//! What devices and operators do in a history.

use moormq::codec::{
    Auth, Connect, ConnectProperties, Disconnect, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode,
    Subscribe, SubscribeFilter, Unsubscribe, Will,
};
use moormq::shard::Request;

use crate::device::{LARGE, Naming, Outgoing, Store, filter};
use crate::history::{Ask, Exchange, FIRST_SHARED_TOPIC, Hello, METHODS, Plan, TOPICS};
use crate::play::{Play, subscriber};
use crate::trace::{password, payload};
use crate::wire::{End, Wire};

impl Play {
    pub fn connect(&mut self, device: usize, shard: usize, hello: Hello) {
        if let Some(old) = self.devices[device].wire {
            self.broker.wires[old].orphaned = true;
            self.part_with(old);
        }
        let serial = self.judge.attempt(hello);
        let bequest = hello.will.filter(|will| !will.retain || will.topic < FIRST_SHARED_TOPIC);
        let will = bequest.map(|will| {
            let message = self.judge.message(serial, will.qos, None, true);
            self.judge.connection(serial).will = Some(message);
            self.judge.messages[message as usize].meant_for = (will.plan != Plan::Rewrite).then_some(will.topic);
            (will, payload(message, will.plan, 0))
        });
        let is_v5 = hello.version == ProtocolVersion::V5;
        let data = hello.exchange.map(Exchange::data);
        let mut properties = ConnectProperties::default();
        if is_v5 {
            properties.session_expiry = Some(hello.expiry.into());
            properties.receive_maximum = (hello.receive_maximum > 0).then_some(hello.receive_maximum.into());
            properties.authentication_method = hello.exchange.map(|_| METHODS[usize::from(hello.is_strange)]);
            properties.authentication_data = data.as_ref().map(|data| &data[..]);
            properties.topic_alias_maximum = hello.aliases.into();
            properties.maximum_packet_size = hello.small_packets.then_some(600);
        }
        let client_id = hello.name.client_id(device);
        let password = password(hello.plan, hello.notices);
        let connect = Connect {
            version: hello.version,
            clean_start: hello.clean,
            keep_alive: hello.keep_alive.into(),
            client_id: &client_id,
            username: Some("u"),
            password: Some(&password),
            will: will.as_ref().map(|(will, payload)| Will {
                topic: TOPICS[will.topic],
                payload,
                qos: will.qos,
                retain: will.retain,
                delay: if is_v5 { will.delay.into() } else { 0 },
                ..Will::default()
            }),
            properties,
        };
        let mut bytes = Vec::new();
        connect.encode(&mut bytes);
        let mut wire = Wire::new(serial, device, hello);
        wire.last_given = self.judge.now;
        let at = self.broker.accept(wire, shard);
        self.broker.wires[at].send(&bytes);
        self.devices[device].wire = Some(at);
    }

    /// What a client forgets with a connection that it turns away from.
    fn part_with(&mut self, wire: usize) {
        let one = &self.broker.wires[wire];
        let (welcomed, answered, clean) = (one.welcomed, one.answered, one.hello.clean);
        let kept = match self.judge.connections[one.serial as usize].new_expiry {
            Some(seconds) => seconds > 0,
            None => self.judge.terms(one.serial).0,
        };
        if welcomed && !kept {
            let was_kept = self.judge.terms(self.broker.wires[wire].serial).0;
            self.store(wire).begin();
            // A DISCONNECT that says so may never have come to the broker.
            self.store(wire).is_forgetful = was_kept;
        } else if !answered && (clean || !kept) {
            // It cannot know whether the broker has ended the session.
            self.store(wire).begin();
            self.store(wire).is_forgetful = true;
        }
    }

    /// The open connection of a device; one that has been welcomed, if it has to be.
    fn wire(&self, device: usize, welcomed: bool) -> Option<usize> {
        let wire = self.devices[device].wire?;
        let one = &self.broker.wires[wire];
        (one.is_open()
            && (one.welcomed || !welcomed)
            && self.judge.connections[one.serial as usize].said_goodbye.is_none())
        .then_some(wire)
    }

    fn store(&mut self, wire: usize) -> &mut Store {
        let one = &self.broker.wires[wire];
        &mut self.devices[one.device].stores[one.hello.name.mount()]
    }

    pub fn say(&mut self, wire: usize, packet: &Packet<'_>) {
        let one = &mut self.broker.wires[wire];
        let mut bytes = Vec::new();
        packet.encode(one.version(), &mut bytes);
        one.send(&bytes);
    }

    pub fn subscribe(&mut self, device: usize, mut asks: [Option<Ask>; 2], subscription_id: u8, plan: Plan) {
        let Some(wire) = self.wire(device, true).filter(|wire| self.broker.wires[*wire].subscribing.is_none()) else {
            return;
        };
        let id = self.store(wire).packet_id();
        let one = &self.broker.wires[wire];
        let (serial, is_v5) = (one.serial, one.version() == ProtocolVersion::V5);
        *self.broker.trace.open().plan(serial) = plan;
        if !is_v5 {
            let plain = |ask: Ask| Ask::plain(ask.filter, ask.options.qos);
            asks = asks.map(|ask| ask.map(plain));
        }
        let filters: Vec<_> = asks
            .iter()
            .flatten()
            .map(|ask| SubscribeFilter { filter: filter(ask.filter), options: ask.options })
            .collect();
        let Some(packet_id) = PacketId::new(id) else { return };
        let subscription_id = Some(u32::from(subscription_id)).filter(|id| is_v5 && *id > 0);
        let subscribe = Subscribe { subscription_id, ..Subscribe::new(packet_id, &filters[..]) };
        self.say(wire, &Packet::Subscribe(subscribe));
        self.broker.wires[wire].subscribing = Some((id, Some(asks)));
        self.judge.connection(serial).subscription_id = subscription_id;
        let [first, second] = asks;
        // For the second time in one packet a filter is not new, and the judge has not heard of the first yet.
        let second = second.filter(|ask| first.is_none_or(|first| first.filter != ask.filter));
        first.iter().chain(&second).for_each(|ask| self.judge.wants_retained(serial, *ask));
    }

    pub fn unsubscribe(&mut self, device: usize, number: usize, plan: Plan) {
        let Some(wire) = self.wire(device, true).filter(|wire| self.broker.wires[*wire].subscribing.is_none()) else {
            return;
        };
        let id = self.store(wire).packet_id();
        let serial = self.broker.wires[wire].serial;
        *self.broker.trace.open().plan(serial) = plan;
        let filters = [filter(number)];
        let Some(packet_id) = PacketId::new(id) else { return };
        self.say(wire, &Packet::Unsubscribe(Unsubscribe::new(packet_id, &filters[..])));
        self.broker.wires[wire].subscribing = Some((id, None));
    }

    pub fn publish(&mut self, device: usize, mut outgoing: Outgoing, alias: u8) {
        let Some(wire) = self.wire(device, false) else { return };
        let one = &self.broker.wires[wire];
        let (serial, welcomed, version) = (one.serial, one.welcomed, one.version());
        if !welcomed && one.hello.exchange.is_some() {
            // Nothing but AUTH until it is known who the client is.
            return;
        }
        if !welcomed {
            outgoing.qos = QoS::AtMostOnce;
        }
        outgoing.expiry = outgoing.expiry.filter(|_| version == ProtocolVersion::V5);
        outgoing.message = self.judge.message(serial, outgoing.qos, outgoing.expiry, false);
        let message = &mut self.judge.messages[outgoing.message as usize];
        message.large = outgoing.large;
        message.meant_for = (outgoing.plan != Plan::Rewrite).then_some(outgoing.topic);
        if outgoing.qos > QoS::AtMostOnce {
            outgoing.packet_id = self.store(wire).packet_id();
            self.store(wire).outgoing.push(outgoing);
        }
        let mut bytes = Vec::with_capacity(LARGE);
        let one = &mut self.broker.wires[wire];
        let alias = u16::from(alias).min(one.alias_maximum);
        let known = one.aliases_out[usize::from(alias)].filter(|_| alias > 0) == Some(outgoing.topic);
        one.aliases_out[usize::from(alias)] = Some(outgoing.topic);
        let naming = match alias {
            0 => Naming::Topic,
            alias if known => Naming::Alias(alias),
            alias => Naming::Both(alias),
        };
        outgoing.encode(version, false, naming, &mut bytes);
        self.broker.wires[wire].send(&bytes);
    }

    pub fn authenticate_again(&mut self, device: usize, exchange: Exchange) {
        let Some(wire) = self.wire(device, true) else { return };
        let one = &mut self.broker.wires[wire];
        if one.hello.exchange.is_none() || std::mem::replace(&mut one.authenticating, true) {
            return;
        }
        let serial = one.serial;
        self.judge.connection(serial).exchange = Some(exchange);
        let data = exchange.data();
        let auth = Auth { data: Some(&data), ..Auth::new(ReasonCode::ReAuthenticate, METHODS[0]) };
        self.say(wire, &Packet::Auth(auth));
    }

    pub fn clear(&mut self, device: usize, topic: usize) {
        if let Some(wire) = self.wire(device, true) {
            let publish = Publish { retain: true, topic: TOPICS[topic], ..Publish::default() };
            self.say(wire, &Packet::Publish(publish));
        }
    }

    pub fn disconnect(&mut self, device: usize, with_will: bool, expiry: Option<u16>) {
        let Some(wire) = self.wire(device, true) else { return };
        let one = &self.broker.wires[wire];
        let (serial, hello) = (one.serial, one.hello);
        let is_v5 = hello.version == ProtocolVersion::V5;
        let code = if with_will && is_v5 { ReasonCode::DisconnectWithWill } else { ReasonCode::Success };
        // From zero it may not rise.
        let expiry = expiry.filter(|_| is_v5 && hello.expiry > 0);
        let disconnect = Disconnect { session_expiry: expiry.map(u32::from), ..Disconnect::new(code) };
        self.say(wire, &Packet::Disconnect(disconnect));
        let connection = self.judge.connection(serial);
        connection.said_goodbye = Some(with_will && is_v5);
        connection.new_expiry = expiry;
    }

    pub fn hang_up(&mut self, device: usize, abrupt: bool) {
        let Some(wire) = self.devices[device].wire.filter(|wire| self.broker.wires[*wire].is_open()) else { return };
        self.hang_up_wire(wire, abrupt);
    }

    pub fn hang_up_wire(&mut self, wire: usize, abrupt: bool) {
        let one = &self.broker.wires[wire];
        let readable = matches!(one.end, End::At(..)) && one.reading;
        if !abrupt && readable {
            self.give(wire, self.broker.wires[wire].to_broker.len());
            self.heard();
        }
        let serial = self.broker.wires[wire].serial;
        self.judge.connection(serial).hung_up = true;
        if self.broker.wires[wire].is_open() {
            self.new_turn(wire);
            self.broker.hang_up(wire);
        }
    }

    pub fn admin(&mut self, device: usize, mount: usize, shard: usize, cleanup: bool) {
        let subscriber = subscriber(device, mount);
        let subject = self.judge.subject(&subscriber);
        self.judge.wish(subject, cleanup);
        self.broker.request(shard, Request::Disconnect { subscriber, cleanup });
    }
}
