//! The header of a session.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use super::bytes::{Cursor, Wrong, put_number, put_place, put_text_with_length, text};
use super::fields::{FieldWriter, read_field, whole_number};
use super::message::{Head, StoredMessage};
use super::offline::Offline;
use super::settings_fields::{default_settings, is_setting, put_settings, set};
use super::wall_clock::{WallClock, WallTime, whole_millis};
use crate::codec::ProtocolVersion;
use crate::numbers::{DecisionNumber, StoreNumber};
use crate::session::{Session, SessionSettings, Will};

/// All of a session but what has records of its own: messages, subscriptions, packet ids of the client.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRecord<'a> {
    /// Its number.
    pub number: StoreNumber,
    /// The mountpoint of its client.
    pub mountpoint: &'a str,
    /// The client id.
    pub client_id: &'a str,
    /// The far end of its last network connection.
    pub peer: SocketAddr,
    /// The name of the listener that accepted that.
    pub listener: &'a str,
    /// The protocol version its client spoke.
    pub version: ProtocolVersion,
    /// The user name of its client. (Certificates are not stored: the next connection shows one.)
    pub username: Option<&'a str>,
    /// When its last network connection was accepted.
    pub connected_at: WallTime,
    /// The number of that connection, which rises with each of its subscriber id.
    pub session_number: u64,
    /// What holds for it.
    pub settings: SessionSettings,
    /// Its will.
    pub will: Option<StoredWill<'a>>,
    /// Since when it is offline; none while its client is connected.
    pub offline: Option<Offline>,
    /// The number it had where it came from, which counts no more.
    pub replaces: Option<StoreNumber>,
    /// It is on its way from another number: what belongs to it is still being written. A record without this follows when all is there. Until then
    /// the other one counts.
    pub is_arriving: bool,
    /// What the hooks keep with it, if they can write it.
    pub hook_state: Option<&'a [u8]>,
    /// Its decisions up to this one have been made.
    pub decided: DecisionNumber,
    /// The number under which its pages are in the archive, if that is not its own.
    pub pages_id: Option<StoreNumber>,
}

/// The will of a session as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWill<'a> {
    /// What is published.
    pub message: StoredMessage<'a>,
    /// The mountpoint it is published into.
    pub mountpoint: &'a str,
    /// Will Delay Interval.
    pub delay: Duration,
    /// Message Expiry Interval, from the moment of publication.
    pub expiry: Option<Duration>,
}

/// The tags, which never get another meaning.
mod tag {
    pub const PEER: u8 = 1;
    pub const LISTENER: u8 = 2;
    pub const VERSION: u8 = 3;
    pub const USERNAME: u8 = 4;
    pub const CONNECTED_AT: u8 = 5;
    pub const SESSION_NUMBER: u8 = 6;
    pub const REPLACES: u8 = 7;
    pub const IS_ARRIVING: u8 = 8;
    pub const OFFLINE: u8 = 9;
    pub const WILL: u8 = 10;
    pub const HOOK_STATE: u8 = 11;
    pub const DECIDED: u8 = 12;
    pub const PAGES: u8 = 13;
}

impl<'a> SessionRecord<'a> {
    /// A session of which nothing but this is known: the defaults of all fields.
    pub fn new(number: StoreNumber, mountpoint: &'a str, client_id: &'a str) -> Self {
        SessionRecord {
            number,
            mountpoint,
            client_id,
            peer: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            listener: "",
            version: ProtocolVersion::V311,
            username: None,
            connected_at: WallTime::default(),
            session_number: 0,
            settings: default_settings(),
            will: None,
            offline: None,
            replaces: None,
            is_arriving: false,
            hook_state: None,
            decided: DecisionNumber::default(),
            pages_id: None,
        }
    }

    /// The header of `session`, whether its client is connected or not. If it is not, it has been so since `offline_since`. The caller adds
    /// `replaces`, `is_arriving`, `hook_state` and `decided`.
    pub fn of<S>(session: &'a Session<S>, number: StoreNumber, offline_since: WallTime, clock: WallClock) -> Self {
        let client = &session.client;
        let offline = session.connection.is_none().then(|| Offline {
            since: offline_since,
            expires: clock.to_wall(session.expires),
            will_due: clock.to_wall(session.will_due),
            has_will: session.will.is_some(),
        });
        SessionRecord {
            peer: client.peer,
            listener: &client.listener,
            version: client.version,
            username: client.username.as_deref(),
            connected_at: WallTime::from_system(client.connected_at),
            session_number: client.session_number,
            settings: session.settings.clone(),
            will: session.will.as_ref().map(|will| StoredWill::of(will, clock)),
            offline,
            pages_id: session.outbound.queue.pages_id().filter(|pages_id| *pages_id != number),
            ..SessionRecord::new(number, &client.subscriber.mountpoint, &client.subscriber.client_id)
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_place(self.number, 0, out);
        put_text_with_length(self.mountpoint, out);
        put_text_with_length(self.client_id, out);
        let mut fields = FieldWriter::new(out);
        fields.put_with(tag::PEER, |out| put_address(self.peer, out));
        fields.put(tag::LISTENER, self.listener.as_bytes());
        fields.put_number(tag::VERSION, self.version as u64);
        if let Some(username) = self.username {
            fields.put(tag::USERNAME, username.as_bytes());
        }
        fields.put_number(tag::CONNECTED_AT, self.connected_at.as_millis());
        fields.put_number(tag::SESSION_NUMBER, self.session_number);
        if let Some(replaces) = self.replaces {
            fields.put_with(tag::REPLACES, |out| put_place(replaces, 0, out));
        }
        if self.is_arriving {
            fields.put(tag::IS_ARRIVING, &[]);
        }
        if let Some(offline) = &self.offline {
            fields.put_with(tag::OFFLINE, |out| offline.put(out));
        }
        if let Some(will) = &self.will {
            fields.put_with(tag::WILL, |out| will.put(out));
        }
        if let Some(state) = self.hook_state {
            fields.put(tag::HOOK_STATE, state);
        }
        if self.decided != DecisionNumber::default() {
            fields.put_number(tag::DECIDED, self.decided.get());
        }
        if let Some(pages_id) = self.pages_id {
            fields.put_with(tag::PAGES, |out| put_place(pages_id, 0, out));
        }
        put_settings(&self.settings, &mut fields);
    }

    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, Wrong> {
        let number = cursor.session()?;
        let mut record = SessionRecord::new(number, cursor.text_with_length()?, cursor.text_with_length()?);
        let mut last = 0;
        while !cursor.is_empty() {
            let (tag, value) = read_field(cursor, last)?;
            record.set(tag, value)?;
            last = tag;
        }
        if record.offline.is_some_and(|offline| offline.has_will != record.will.is_some()) {
            return Err("whether a session has a will is said in two ways");
        }
        Ok(record)
    }

    /// Sets the field with this tag. One that is not known is passed over.
    fn set(&mut self, tag: u8, mut value: Cursor<'a>) -> Result<(), Wrong> {
        match tag {
            tag if is_setting(tag) => return set(&mut self.settings, tag, whole_number(value)?),
            tag::PEER => self.peer = address(&mut value)?,
            tag::LISTENER => self.listener = text(value.take_rest())?,
            tag::VERSION => {
                let number = value.number()?;
                let known = ProtocolVersion::ALL.into_iter().find(|version| *version as u64 == number);
                self.version = known.ok_or("a session has a protocol version that there is not")?;
            }
            tag::USERNAME => self.username = Some(text(value.take_rest())?),
            tag::CONNECTED_AT => self.connected_at = WallTime::from_millis(value.number()?),
            tag::SESSION_NUMBER => self.session_number = value.number()?,
            tag::REPLACES => self.replaces = Some(value.session()?),
            tag::IS_ARRIVING => self.is_arriving = true,
            tag::OFFLINE => self.offline = Some(Offline::read(&mut value)?),
            tag::WILL => self.will = Some(StoredWill::read(&mut value)?),
            tag::HOOK_STATE => self.hook_state = Some(value.take_rest()),
            tag::DECIDED => self.decided = DecisionNumber::from_u64(value.number()?),
            tag::PAGES => self.pages_id = Some(value.session()?),
            _ => return Ok(()),
        }
        if value.is_empty() { Ok(()) } else { Err("a field of a session is too long") }
    }
}

/// What the byte before a will says.
const EXPIRES: u8 = 1;

impl<'a> StoredWill<'a> {
    /// `will`, of which nothing is copied.
    pub fn of(will: &'a Will, clock: WallClock) -> Self {
        let message = StoredMessage::of(&will.message, clock);
        StoredWill { message, mountpoint: &will.mountpoint, delay: will.delay, expiry: will.expiry }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(if self.expiry.is_some() { EXPIRES } else { 0 });
        put_number(whole_millis(self.delay), out);
        if let Some(expiry) = self.expiry {
            put_number(whole_millis(expiry), out);
        }
        put_text_with_length(self.mountpoint, out);
        self.message.put_head(out);
        self.message.parts().into_iter().for_each(|part| out.extend_from_slice(part));
    }

    fn read(value: &mut Cursor<'a>) -> Result<Self, Wrong> {
        let flags = value.byte()?;
        if flags & !EXPIRES != 0 {
            return Err("a will has flags that there are not");
        }
        let delay = Duration::from_millis(value.number()?);
        let expiry = if flags & EXPIRES != 0 { Some(Duration::from_millis(value.number()?)) } else { None };
        let mountpoint = value.text_with_length()?;
        let head = Head::read(value)?;
        Ok(StoredWill { message: head.read_rest(value)?, mountpoint, delay, expiry })
    }
}

/// Writes an address: 4 or 16 bytes, and the port; of IPv6 with flow and scope, if one is not zero.
fn put_address(address: SocketAddr, out: &mut Vec<u8>) {
    match address.ip() {
        IpAddr::V4(ip) => out.extend(ip.octets()),
        IpAddr::V6(ip) => out.extend(ip.octets()),
    }
    out.extend(address.port().to_le_bytes());
    if let SocketAddr::V6(address) = address
        && (address.flowinfo(), address.scope_id()) != (0, 0)
    {
        out.extend(address.flowinfo().to_le_bytes());
        out.extend(address.scope_id().to_le_bytes());
    }
}

fn address(value: &mut Cursor<'_>) -> Result<SocketAddr, Wrong> {
    const WRONG: Wrong = "an address of a session is none";
    let bytes = value.take_rest();
    if let Some((ip, port)) = bytes.split_first_chunk::<4>()
        && let Ok(port) = port.try_into()
    {
        return Ok(SocketAddr::from((*ip, u16::from_le_bytes(port))));
    }
    let (ip, rest) = bytes.split_first_chunk::<16>().ok_or(WRONG)?;
    let (port, rest) = rest.split_first_chunk().ok_or(WRONG)?;
    let [flow, scope] = match rest.as_chunks::<4>() {
        ([], []) => [0; 2],
        (&[flow, scope], []) => [flow, scope].map(u32::from_le_bytes),
        _ => return Err(WRONG),
    };
    Ok(SocketAddrV6::new((*ip).into(), u16::from_le_bytes(*port), flow, scope).into())
}
