//! The persistence file of Mosquitto, `mosquitto.db`, versions 3 to 6, as a sequence of chunks. No file is opened here.
//!
//! The file begins with 15 bytes that are always the same, four that are not used, and its version. Then follow chunks: a kind, a length, and a
//! body. Most numbers are big-endian; ids and moments are as the machine has them that wrote the file, which is taken to be
//! little-endian. From version 5 on the fixed part of a chunk comes first, padded as a compiler for 64 bits does; before, texts with their lengths
//! stand between the numbers, and the length of a chunk says nothing.

use std::io::{self, Read};

/// What every file begins with.
const MAGIC: &[u8; 15] = b"\0\xb5\0mosquitto db";
/// So long is what comes before the first chunk.
const HEADER: u64 = 23;

/// Why a file cannot be read.
#[derive(Debug)]
pub(super) enum BadFile {
    /// It is something else.
    Foreign,
    /// It has another version.
    Version(u32),
    /// It ends within a chunk that begins here.
    CutOff(u64),
    /// A chunk that begins here is not what it should be.
    Malformed(u64, &'static str),
    Io(io::Error),
}

/// A chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk<'a> {
    Config,
    Message(MessageChunk<'a>),
    Delivery(DeliveryChunk<'a>),
    /// The message with this id is retained.
    Retained(u64),
    Subscription(SubscriptionChunk<'a>),
    Client(ClientChunk<'a>),
    /// A kind that is not known.
    Other(u32),
}

/// A message, for whoever has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MessageChunk<'a> {
    pub id: u64,
    /// When it expires, in seconds since 1970; 0: never.
    pub expires: i64,
    pub qos: u8,
    pub retain: bool,
    pub topic: &'a [u8],
    pub payload: &'a [u8],
    /// With their length before them; empty if there are none.
    pub properties: &'a [u8],
}

/// A message of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DeliveryChunk<'a> {
    pub client: &'a [u8],
    pub message: u64,
    pub packet_id: u16,
    pub qos: u8,
    pub state: u8,
    pub retain: bool,
    /// It comes from the client, and does not go to it.
    pub is_incoming: bool,
    /// With their length before them; empty if there are none.
    pub properties: &'a [u8],
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct SubscriptionChunk<'a> {
    pub client: &'a [u8],
    pub filter: &'a [u8],
    pub qos: u8,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub id: u32,
}

/// A client whose session is kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientChunk<'a> {
    pub id: &'a [u8],
    pub username: &'a [u8],
    /// When its session expires, in seconds since 1970; 0: not known, or never.
    pub expires: i64,
    /// For how many seconds it is kept; none: the file does not say.
    pub interval: Option<u32>,
    pub listener_port: u16,
}

/// A file that is read, chunk by chunk: one is in memory at a time, or all of a file of an old version.
pub(super) struct MosquittoFile<R> {
    input: R,
    version: u32,
    offset: u64,
    length: u64,
    body: Vec<u8>,
}

impl<R: Read> MosquittoFile<R> {
    /// Reads the beginning of `input`, which has so many bytes.
    pub fn open(mut input: R, length: u64) -> Result<Self, BadFile> {
        let mut header = [0; HEADER as usize];
        match input.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(BadFile::Foreign),
            read => read.map_err(BadFile::Io)?,
        }
        if !header.starts_with(MAGIC) {
            return Err(BadFile::Foreign);
        }
        let version = header[19..].first_chunk().map_or(0, |word| u32::from_be_bytes(*word));
        let mut body = Vec::new();
        match version {
            3 | 4 => drop(input.read_to_end(&mut body).map_err(BadFile::Io)?),
            5 | 6 => {}
            version => return Err(BadFile::Version(version)),
        }
        Ok(MosquittoFile { input, version, offset: HEADER, length, body })
    }

    /// The next chunk; none at the end.
    pub fn next(&mut self) -> Result<Option<Chunk<'_>>, BadFile> {
        if self.offset >= self.length {
            return Ok(None);
        }
        match self.version {
            3 | 4 => self.next_old().map(Some),
            _ => self.next_new().map(Some),
        }
    }

    /// The next chunk of a file of an old version, which tells nowhere how long it is.
    fn next_old(&mut self) -> Result<Chunk<'_>, BadFile> {
        let start = self.offset;
        let rest = self.body.get((start - HEADER) as usize..).unwrap_or_default();
        let mut fields = Fields(rest);
        let chunk = old_chunk(&mut fields, self.version).map_err(|wrong| match wrong {
            TOO_SHORT => BadFile::CutOff(start),
            wrong => BadFile::Malformed(start, wrong),
        })?;
        self.offset += (rest.len() - fields.0.len()) as u64;
        Ok(chunk)
    }

    fn next_new(&mut self) -> Result<Chunk<'_>, BadFile> {
        let start = self.offset;
        let cut_off = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => BadFile::CutOff(start),
            _ => BadFile::Io(error),
        };
        let mut head = [0; 8];
        self.input.read_exact(&mut head).map_err(cut_off)?;
        let mut fields = Fields(&head);
        let malformed = |what| BadFile::Malformed(start, what);
        let (kind, length) = (fields.word().map_err(malformed)?, fields.word().map_err(malformed)?);
        self.offset += head.len() as u64 + u64::from(length);
        if self.offset > self.length {
            return Err(BadFile::CutOff(start));
        }
        self.body.resize(length as usize, 0);
        self.input.read_exact(&mut self.body).map_err(cut_off)?;
        chunk(kind, Fields(&self.body), self.version).map_err(malformed)
    }
}

fn chunk(kind: u32, mut fields: Fields<'_>, version: u32) -> Result<Chunk<'_>, &'static str> {
    Ok(match kind {
        1 => {
            fields.id()?;
            let [_, id_bytes] = fields.array()?;
            has_ids_of(id_bytes)?
        }
        2 => Chunk::Message(fields.message()?),
        3 => Chunk::Delivery(fields.delivery()?),
        4 => Chunk::Retained(fields.id()?),
        5 => Chunk::Subscription(fields.subscription()?),
        6 => Chunk::Client(fields.client(version)?),
        other => Chunk::Other(other),
    })
}

/// A chunk of a file of an old version, from its head on.
fn old_chunk<'a>(fields: &mut Fields<'a>, version: u32) -> Result<Chunk<'a>, &'static str> {
    let (kind, length) = (fields.short()?, fields.word()?);
    Ok(match kind {
        1 => {
            let [_, id_bytes] = fields.array()?;
            fields.id()?;
            has_ids_of(id_bytes)?
        }
        2 => Chunk::Message(fields.old_message(version)?),
        3 => Chunk::Delivery(fields.old_delivery()?),
        4 => Chunk::Retained(fields.id()?),
        5 => {
            let (client, filter, qos) = (fields.text()?, fields.text()?, fields.byte()?);
            let (no_local, retain_as_published, id) = (false, false, 0);
            Chunk::Subscription(SubscriptionChunk { client, filter, qos, no_local, retain_as_published, id })
        }
        6 => {
            let id = fields.text()?;
            // The last packet id, and when it left.
            fields.short()?;
            fields.moment()?;
            Chunk::Client(ClientChunk { id, username: &[], expires: 0, interval: None, listener_port: 0 })
        }
        other => {
            fields.take(length as usize)?;
            Chunk::Other(other.into())
        }
    })
}

/// The configuration of a file, if its ids have eight bytes as they do nearly everywhere.
fn has_ids_of(bytes: u8) -> Result<Chunk<'static>, &'static str> {
    if bytes == 8 { Ok(Chunk::Config) } else { Err("it was written with ids that do not have eight bytes") }
}

const TOO_SHORT: &str = "it is shorter than what it has to have";

/// What is left of a chunk.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], &'static str> {
        self.take(LENGTH).map(|taken| *taken.first_chunk().unwrap_or(&[0; LENGTH]))
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        self.array().map(|[byte]| byte)
    }

    fn short(&mut self) -> Result<u16, &'static str> {
        self.array().map(u16::from_be_bytes)
    }

    fn word(&mut self) -> Result<u32, &'static str> {
        self.array().map(u32::from_be_bytes)
    }

    /// The id of a message.
    fn id(&mut self) -> Result<u64, &'static str> {
        self.array().map(u64::from_le_bytes)
    }

    /// A moment, in seconds since 1970.
    fn moment(&mut self) -> Result<i64, &'static str> {
        self.array().map(i64::from_le_bytes)
    }

    fn text(&mut self) -> Result<&'a [u8], &'static str> {
        let length = self.short()?;
        self.take(length.into())
    }

    fn message(&mut self) -> Result<MessageChunk<'a>, &'static str> {
        let (id, expires, payload) = (self.id()?, self.moment()?, self.word()?);
        let [_, source, username, topic, _] =
            [self.short()?, self.short()?, self.short()?, self.short()?, self.short()?];
        let (qos, retain) = (self.byte()?, self.byte()? != 0);
        self.take(source.into())?;
        self.take(username.into())?;
        let topic = self.take(topic.into())?;
        let payload = self.take(payload as usize)?;
        Ok(MessageChunk { id, expires, qos, retain, topic, payload, properties: self.0 })
    }

    fn old_message(&mut self, version: u32) -> Result<MessageChunk<'a>, &'static str> {
        let id = self.id()?;
        self.text()?;
        if version == 4 {
            self.text()?;
            self.short()?;
        }
        // The packet id that it came with, and one that means nothing.
        self.word()?;
        let topic = self.text()?;
        let (qos, retain, payload) = (self.byte()?, self.byte()? != 0, self.word()?);
        let payload = self.take(payload as usize)?;
        Ok(MessageChunk { id, expires: 0, qos, retain, topic, payload, properties: &[] })
    }

    fn delivery(&mut self) -> Result<DeliveryChunk<'a>, &'static str> {
        let (message, packet_id, client) = (self.id()?, self.short()?, self.short()?);
        let [qos, state, flags, direction] = self.array()?;
        let client = self.take(client.into())?;
        let (retain, is_incoming) = (flags & 0xf0 != 0, direction == 0);
        Ok(DeliveryChunk { client, message, packet_id, qos, state, retain, is_incoming, properties: self.0 })
    }

    fn old_delivery(&mut self) -> Result<DeliveryChunk<'a>, &'static str> {
        let (client, message, packet_id) = (self.text()?, self.id()?, self.short()?);
        let [qos, retain, direction, state, _] = self.array()?;
        let (retain, is_incoming) = (retain != 0, direction == 0);
        Ok(DeliveryChunk { client, message, packet_id, qos, state, retain, is_incoming, properties: &[] })
    }

    fn subscription(&mut self) -> Result<SubscriptionChunk<'a>, &'static str> {
        let (id, client, filter) = (self.word()?, self.short()?, self.short()?);
        let [qos, options, _, _] = self.array()?;
        let (client, filter) = (self.take(client.into())?, self.take(filter.into())?);
        let (no_local, retain_as_published) = (options & 4 != 0, options & 8 != 0);
        Ok(SubscriptionChunk { client, filter, qos, no_local, retain_as_published, id })
    }

    fn client(&mut self, version: u32) -> Result<ClientChunk<'a>, &'static str> {
        let (expires, interval, _, id) = (self.moment()?, self.word()?, self.short()?, self.short()?);
        let [listener_port, username] = match version {
            6 => {
                let fields = [self.short()?, self.short()?];
                self.word()?;
                fields
            }
            _ => [0, 0],
        };
        let (id, username) = (self.take(id.into())?, self.take(username.into())?);
        Ok(ClientChunk { id, username, expires, interval: Some(interval), listener_port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u32, chunks: &[&[u8]]) -> Vec<u8> {
        [&MAGIC[..], &[0; 4], &version.to_be_bytes(), &chunks.concat()].concat()
    }

    /// What is in a file: chunks as they are shown, and how it ended.
    fn read(bytes: &[u8]) -> (Vec<String>, Option<BadFile>) {
        let mut file = match MosquittoFile::open(bytes, bytes.len() as u64) {
            Ok(file) => file,
            Err(error) => return (Vec::new(), Some(error)),
        };
        let mut chunks = Vec::new();
        loop {
            match file.next() {
                Ok(Some(chunk)) => chunks.push(format!("{chunk:?}")),
                Ok(None) => return (chunks, None),
                Err(error) => return (chunks, Some(error)),
            }
        }
    }

    /// A chunk of a file of an old version, as Mosquitto 1 writes it.
    fn old(kind: u8, body: &[&[u8]]) -> Vec<u8> {
        let body = body.concat();
        [&[0, kind][..], &(body.len() as u32).to_be_bytes(), &body].concat()
    }

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
    }

    fn old_file(version: u32) -> Vec<u8> {
        let from: Vec<u8> = if version == 4 { [text("ann"), vec![7, 91]].concat() } else { Vec::new() };
        let id = 9_u64.to_le_bytes();
        let chunks = [
            old(1, &[&[1, 8], &id]),
            old(2, &[&id, &text("source"), &from, &[0, 1, 0, 2], &text("a/b"), &[1, 1], &[0, 0, 0, 2], b"hi"]),
            old(6, &[&text("client"), &[0, 5], &[0; 8]]),
            old(3, &[&text("client"), &id, &[0, 5], &[1, 0, 1, 3, 0]]),
            old(9, &[b"something else"]),
            old(5, &[&text("client"), &text("a/#"), &[1]]),
            old(4, &[&id]),
        ];
        file(version, &chunks.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    #[test]
    fn files_of_old_versions_are_read_and_their_lengths_do_not_count() {
        for version in [3, 4] {
            let bytes = old_file(version);
            let (chunks, error) = read(&bytes);
            assert!(error.is_none(), "{error:?}");
            let said = [
                "Config",
                "Message(MessageChunk { id: 9, expires: 0, qos: 1, retain: true, topic: [97, 47, 98], payload: [104, 105], properties: [] })",
                "Client(ClientChunk { id: [99, 108, 105, 101, 110, 116], username: [], expires: 0, interval: None, listener_port: 0 })",
                "Delivery(DeliveryChunk { client: [99, 108, 105, 101, 110, 116], message: 9, packet_id: 5, qos: 1, state: 3, retain: false, is_incoming: false, properties: [] })",
                "Other(9)",
                "Subscription(SubscriptionChunk { client: [99, 108, 105, 101, 110, 116], filter: [97, 47, 35], qos: 1, no_local: false, retain_as_published: false, id: 0 })",
                "Retained(9)",
            ];
            assert_eq!(chunks, said);
            // That of the message.
            let mut other = bytes.clone();
            other[HEADER as usize + 16 + 5] = 0;
            assert_eq!(read(&other).0, said);
            for cut in HEADER as usize + 1..bytes.len() {
                let (chunks, error) = read(&bytes[..cut]);
                assert!(chunks.len() < said.len(), "{cut}");
                assert!(error.is_none() || matches!(error, Some(BadFile::CutOff(_))), "{cut}: {error:?}");
            }
        }
    }

    #[test]
    fn what_is_no_file_says_why() {
        let error = |bytes: &[u8]| read(bytes).1.expect("it is refused");
        assert!(matches!(error(b""), BadFile::Foreign));
        assert!(matches!(error(&[7; 100]), BadFile::Foreign));
        assert!(matches!(error(&file(7, &[])), BadFile::Version(7)));
        assert!(matches!(error(&file(2, &[])), BadFile::Version(2)));
        let too_long = [0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff, 1];
        assert!(matches!(error(&file(6, &[&too_long])), BadFile::CutOff(HEADER)));
        assert!(matches!(
            error(&file(6, &[&[0, 0, 0, 4, 0, 0, 0, 3, 1, 1, 1]])),
            BadFile::Malformed(HEADER, TOO_SHORT)
        ));
        let small_ids = old(1, &[&[1, 4], &[0; 8]]);
        assert!(
            matches!(error(&file(3, &[&small_ids])), BadFile::Malformed(HEADER, what) if what.contains("eight bytes"))
        );
    }

    /// Of a client of version 5, which has neither user name nor port.
    #[test]
    fn a_client_of_version_5_is_shorter() {
        let body = [&100_i64.to_le_bytes()[..], &7_u32.to_be_bytes(), &[0, 5, 0, 2], b"id"].concat();
        let chunk = [&[0, 0, 0, 6][..], &(body.len() as u32).to_be_bytes(), &body].concat();
        let said =
            "Client(ClientChunk { id: [105, 100], username: [], expires: 100, interval: Some(7), listener_port: 0 })";
        assert_eq!(read(&file(5, &[&chunk])).0, [said]);
        assert!(matches!(read(&file(6, &[&chunk])).1, Some(BadFile::Malformed(..))));
    }
}
