//! `on_auth_m5`: the exchange of an enhanced authentication (MQTT 5.0, 4.12).

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::modifiers::modifiers;
use crate::codec::UserProperties;
use crate::config::Limit;

/// What the client just sent of an enhanced authentication.
#[derive(Clone, Copy, Debug)]
pub struct AuthExchange<'a> {
    /// Where in the exchange this is.
    pub stage: AuthStage,
    /// The authentication method, the same in the whole exchange.
    pub method: &'a str,
    /// The data the client sent, if any.
    pub data: Option<&'a [u8]>,
    /// The reason string of an AUTH packet, if any.
    pub reason_string: Option<&'a str>,
    /// The user properties of the CONNECT or AUTH packet.
    pub user_properties: UserProperties<'a>,
}

/// Where in an enhanced authentication a packet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthStage {
    /// It is the CONNECT. Nobody has looked at user name, password or client id yet.
    Connect,
    /// It is an AUTH with 0x18, the client's reply to [`AuthStep::Continue`].
    Continue,
    /// It is an AUTH with 0x19 on a live connection: the client begins to authenticate again.
    Reauthenticate,
}

/// What *Ok* of `on_auth_m5` means.
#[derive(Clone, Debug)]
pub enum AuthStep {
    /// The client is who it says. While connecting, `auth_on_register_m5` follows, which must agree, and these data go
    /// into CONNACK; on a live connection they go into AUTH 0x00.
    Success(AuthSuccess),
    /// The client must answer once more: AUTH 0x18 goes out.
    Continue(AuthContinue),
}

impl Default for AuthStep {
    /// Success, and nothing to add.
    fn default() -> Self {
        AuthStep::Success(AuthSuccess::default())
    }
}

modifiers! {
    /// The last word of an enhanced authentication, and what it changes for the client.
    pub struct AuthSuccess {
        /// Authentication data for the client.
        data: Bytes,
        /// A sentence for people.
        reason_string: String,
        /// The user name for later hooks, `auth_on_register_m5` included.
        username: Arc<str>,
        /// The largest PUBLISH packet accepted from now on, in bytes.
        max_message_size: Limit,
        /// How many PUBLISH packets are read in a second from now on.
        max_message_rate: NonZeroU32,
        /// The connection is closed with 0xA0 so long after now, or at the limit of its listener if that is sooner.
        max_connection_lifetime: Duration,
        ..user_properties
    }
}

modifiers! {
    /// One more question to the client.
    pub struct AuthContinue {
        /// Authentication data for the client.
        data: Bytes,
        /// A sentence for people.
        reason_string: String,
        ..user_properties
    }
}

impl From<AuthSuccess> for AuthStep {
    fn from(success: AuthSuccess) -> Self {
        AuthStep::Success(success)
    }
}

impl From<AuthContinue> for AuthStep {
    fn from(question: AuthContinue) -> Self {
        AuthStep::Continue(question)
    }
}
