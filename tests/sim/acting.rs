//! What clients and operators do in a history.

use moormq::codec::{
    Auth, Connect, ConnectProperties, Disconnect, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode,
    Subscribe, SubscribeFilter, Unsubscribe, Will,
};
use moormq::shard::{Request, TurnLimits};

use crate::client::{ClientState, LARGE, Naming, Outgoing, filter};
use crate::history::{Ask, ConnectOptions, Exchange, FIRST_SHARED_TOPIC, METHODS, Plan, TOPICS};
use crate::play::{Play, subscriber};
use crate::socket::{End, Socket};
use crate::trace::{password, payload};

impl Play {
    pub fn connect(&mut self, client: usize, shard: usize, options: ConnectOptions) {
        if let Some(old) = self.clients[client].socket {
            self.broker.sockets[old].replaced = true;
            self.forget_with_connection(old);
        }
        let serial = self.judge.new_connection(client, options);
        let will_options = options.will.filter(|will| !will.retain || will.topic < FIRST_SHARED_TOPIC);
        let will = will_options.map(|will| {
            let message = self.judge.message(serial, will.qos, None, true);
            self.judge.connection(serial).will = Some(message);
            self.judge.messages[message as usize].meant_for = (will.plan != Plan::Rewrite).then_some(will.topic);
            (will, payload(message, will.plan, 0))
        });
        let is_v5 = options.version == ProtocolVersion::V5;
        let data = options.exchange.map(Exchange::data);
        let mut properties = ConnectProperties::default();
        if is_v5 {
            properties.session_expiry = Some(options.expiry.into());
            properties.receive_maximum = (options.receive_maximum > 0).then_some(options.receive_maximum.into());
            properties.authentication_method = options.exchange.map(|_| METHODS[usize::from(options.is_strange)]);
            properties.authentication_data = data.as_ref().map(|data| &data[..]);
            properties.topic_alias_maximum = options.aliases.into();
            properties.maximum_packet_size = options.small_packets.then_some(600);
        }
        let client_id = options.name.client_id(client);
        let password = password(options.plan, options.notices);
        let connect = Connect {
            version: options.version,
            is_bridge: false,
            clean_start: options.clean,
            keep_alive: options.keep_alive.into(),
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
        let mut socket = Socket::new(serial, client, options);
        socket.last_given = self.judge.now;
        let at = self.broker.accept(socket, shard);
        self.broker.sockets[at].send(&bytes);
        self.clients[client].socket = Some(at);
    }

    /// What a client forgets when it replaces a connection.
    fn forget_with_connection(&mut self, socket: usize) {
        let one = &self.broker.sockets[socket];
        let (connected, answered, clean) = (one.connected, one.answered, one.options.clean);
        let kept = match self.judge.connections[one.serial as usize].new_expiry {
            Some(seconds) => seconds > 0,
            None => self.judge.session_settings(one.serial).0,
        };
        if connected && !kept {
            let was_kept = self.judge.session_settings(self.broker.sockets[socket].serial).0;
            // An earlier session may have come back since, with a broker that had died.
            let was_forgetful = self.state(socket).is_forgetful;
            self.state(socket).begin();
            // The broker may never have received that DISCONNECT.
            self.state(socket).is_forgetful = was_kept || was_forgetful;
        } else if !answered && (clean || !kept) {
            // It cannot know whether the broker has ended the session.
            self.state(socket).begin();
            self.state(socket).is_forgetful = true;
        }
    }

    /// The open connection of a client; with `connected` only one whose CONNACK has come.
    fn socket(&self, client: usize, connected: bool) -> Option<usize> {
        let socket = self.clients[client].socket?;
        let one = &self.broker.sockets[socket];
        (one.is_open()
            && (one.connected || !connected)
            && self.judge.connections[one.serial as usize].sent_disconnect.is_none())
        .then_some(socket)
    }

    fn state(&mut self, socket: usize) -> &mut ClientState {
        let one = &self.broker.sockets[socket];
        &mut self.clients[one.client].states[one.options.name.mount()]
    }

    pub fn say(&mut self, socket: usize, packet: &Packet<'_>) {
        let one = &mut self.broker.sockets[socket];
        let mut bytes = Vec::new();
        packet.encode(one.version(), &mut bytes);
        one.send(&bytes);
    }

    pub fn subscribe(&mut self, client: usize, mut asks: [Option<Ask>; 2], subscription_id: u8, plan: Plan) {
        let Some(socket) =
            self.socket(client, true).filter(|socket| self.broker.sockets[*socket].subscribing.is_none())
        else {
            return;
        };
        let id = self.state(socket).packet_id();
        let one = &self.broker.sockets[socket];
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
        self.say(socket, &Packet::Subscribe(subscribe));
        self.broker.sockets[socket].subscribing = Some((id, Some(asks)));
        self.judge.connection(serial).subscription_id = subscription_id;
        let [first, second] = asks;
        // For the second time in one packet a filter is not new, and the judge does not know the first yet.
        let second = second.filter(|ask| first.is_none_or(|first| first.filter != ask.filter));
        first.iter().chain(&second).for_each(|ask| self.judge.wants_retained(serial, *ask));
    }

    pub fn unsubscribe(&mut self, client: usize, number: usize, plan: Plan) {
        let Some(socket) =
            self.socket(client, true).filter(|socket| self.broker.sockets[*socket].subscribing.is_none())
        else {
            return;
        };
        let id = self.state(socket).packet_id();
        let serial = self.broker.sockets[socket].serial;
        *self.broker.trace.open().plan(serial) = plan;
        let filters = [filter(number)];
        let Some(packet_id) = PacketId::new(id) else { return };
        self.say(socket, &Packet::Unsubscribe(Unsubscribe::new(packet_id, &filters[..])));
        self.broker.sockets[socket].subscribing = Some((id, None));
    }

    pub fn publish(&mut self, client: usize, mut outgoing: Outgoing, alias: u8) {
        let Some(socket) = self.socket(client, false) else { return };
        let one = &self.broker.sockets[socket];
        let (serial, connected, version) = (one.serial, one.connected, one.version());
        if !connected && one.options.exchange.is_some() {
            // Before the CONNACK a client that authenticates may send AUTH only.
            return;
        }
        if !connected {
            outgoing.qos = QoS::AtMostOnce;
        }
        outgoing.expiry = outgoing.expiry.filter(|_| version == ProtocolVersion::V5);
        outgoing.message = self.judge.message(serial, outgoing.qos, outgoing.expiry, false);
        self.judge.connection(serial).is_held_up |= outgoing.plan != Plan::Accept;
        let message = &mut self.judge.messages[outgoing.message as usize];
        message.large = outgoing.large;
        message.is_answered_later = !matches!(outgoing.plan, Plan::Accept | Plan::Rewrite);
        message.meant_for = (outgoing.plan != Plan::Rewrite).then_some(outgoing.topic);
        if outgoing.qos > QoS::AtMostOnce {
            outgoing.packet_id = self.state(socket).packet_id();
            self.state(socket).outgoing.push(outgoing);
        }
        let mut bytes = Vec::with_capacity(LARGE);
        let one = &mut self.broker.sockets[socket];
        let alias = u16::from(alias).min(one.alias_maximum);
        let known = one.aliases_out[usize::from(alias)].filter(|_| alias > 0) == Some(outgoing.topic);
        one.aliases_out[usize::from(alias)] = Some(outgoing.topic);
        let naming = match alias {
            0 => Naming::Topic,
            alias if known => Naming::Alias(alias),
            alias => Naming::Both(alias),
        };
        outgoing.encode(version, false, naming, &mut bytes);
        self.broker.sockets[socket].send(&bytes);
    }

    pub fn authenticate_again(&mut self, client: usize, exchange: Exchange) {
        let Some(socket) = self.socket(client, true) else { return };
        let one = &mut self.broker.sockets[socket];
        if one.options.exchange.is_none() || std::mem::replace(&mut one.authenticating, true) {
            return;
        }
        let serial = one.serial;
        self.judge.connection(serial).exchange = Some(exchange);
        let data = exchange.data();
        let auth = Auth { data: Some(&data), ..Auth::new(ReasonCode::ReAuthenticate, METHODS[0]) };
        self.say(socket, &Packet::Auth(auth));
    }

    pub fn clear(&mut self, client: usize, topic: usize) {
        if let Some(socket) = self.socket(client, true) {
            let publish = Publish { retain: true, topic: TOPICS[topic], ..Publish::default() };
            self.say(socket, &Packet::Publish(publish));
        }
    }

    pub fn disconnect(&mut self, client: usize, with_will: bool, expiry: Option<u16>) {
        let Some(socket) = self.socket(client, true) else { return };
        let one = &self.broker.sockets[socket];
        let (serial, options) = (one.serial, one.options);
        let is_v5 = options.version == ProtocolVersion::V5;
        let code = if with_will && is_v5 { ReasonCode::DisconnectWithWill } else { ReasonCode::Success };
        // A Session Expiry Interval of zero may not be changed (5.0, 3.14.2.2.2).
        let expiry = expiry.filter(|_| is_v5 && options.expiry > 0);
        let disconnect = Disconnect { session_expiry: expiry.map(u32::from), ..Disconnect::new(code) };
        self.say(socket, &Packet::Disconnect(disconnect));
        let one = &self.broker.sockets[socket];
        let is_busy = one.subscribing.is_some() || one.authenticating || options.notices > 0;
        let is_busy = is_busy || self.state(socket).outgoing.iter().any(|outgoing| outgoing.plan != Plan::Accept);
        // In a short turn there may be more before it than is served.
        // What is before it may wait for the disk, too.
        let is_little = self.judge.setup.turn() == TurnLimits::default() && !self.judge.setup.is_stored();
        let connection = self.judge.connection(serial);
        connection.leaves_first = is_little && !is_busy && !connection.is_held_up;
        connection.sent_disconnect = Some(with_will && is_v5);
        connection.new_expiry = expiry;
    }

    pub fn hang_up(&mut self, client: usize, abrupt: bool) {
        let Some(socket) = self.clients[client].socket.filter(|socket| self.broker.sockets[*socket].is_open()) else {
            return;
        };
        self.hang_up_socket(socket, abrupt);
    }

    pub fn hang_up_socket(&mut self, socket: usize, abrupt: bool) {
        let one = &self.broker.sockets[socket];
        let readable = matches!(one.end, End::At(..)) && one.reading;
        if !abrupt && readable {
            self.give(socket, self.broker.sockets[socket].to_broker.len());
            self.observe();
        }
        let one = &self.broker.sockets[socket];
        let (serial, has_all) = (one.serial, one.given == one.sent && !one.stuck);
        let connection = self.judge.connection(serial);
        connection.hung_up = true;
        connection.has_said_goodbye = has_all && connection.sent_disconnect.is_some();
        if self.broker.sockets[socket].is_open() {
            self.new_turn(socket);
            self.broker.hang_up(socket);
        }
    }

    pub fn admin(&mut self, client: usize, mount: usize, shard: usize, cleanup: bool) {
        let subscriber = subscriber(client, mount);
        let subject = self.judge.subject(&subscriber);
        self.judge.admin_request(subject, cleanup);
        self.broker.request(shard, Request::Disconnect { subscriber, cleanup });
    }
}
