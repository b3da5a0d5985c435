//! Who asks: what the placeholders of rules stand for.

use crate::client::Client;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The user name; none if the client has none. Stands for `%u`.
    pub username: Option<&'a str>,
    /// The client id. Stands for `%c`.
    pub client_id: &'a str,
    /// The mountpoint. Stands for `%m`.
    pub mountpoint: &'a str,
}

impl<'a> From<&'a Client> for Identity<'a> {
    #[inline]
    fn from(client: &'a Client) -> Self {
        Identity {
            username: client.username.as_deref(),
            client_id: &client.subscriber.client_id,
            mountpoint: &client.subscriber.mountpoint,
        }
    }
}
