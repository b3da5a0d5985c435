//! `auth_on_subscribe`, `on_subscribe`, `on_unsubscribe`, their m5 forms and `on_topic_unsubscribed`.

use super::modifiers::{modifiers, refusal_codes};
use crate::codec::{QoS, ReasonCode, SubscriptionOptions, UserProperties};

/// One filter of a SUBSCRIBE, before or after it is granted.
#[derive(Clone, Copy, Debug)]
pub struct RequestedFilter<'a> {
    /// The topic filter; of a shared subscription, with `$share/` and group.
    pub filter: &'a str,
    /// QoS, No Local, Retain As Published, Retain Handling; a v3 client sets nothing but the QoS.
    pub options: SubscriptionOptions,
}

/// A SUBSCRIBE of a v3 client, before it takes effect.
#[derive(Clone, Copy, Debug)]
pub struct SubscribeRequest<'a> {
    /// Its filters, in order; at least one.
    pub filters: &'a [RequestedFilter<'a>],
}

/// A SUBSCRIBE of a v5 client, before it takes effect.
#[derive(Clone, Copy, Debug)]
pub struct SubscribeRequestM5<'a> {
    /// Its filters, in order; at least one.
    pub filters: &'a [RequestedFilter<'a>],
    /// The subscription identifier it puts on all of them, if any: 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    /// Its user properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> SubscribeRequestM5<'a> {
    /// What a v3 hook sees of it: everything but the properties.
    #[inline]
    pub fn without_properties(&self) -> SubscribeRequest<'a> {
        SubscribeRequest { filters: self.filters }
    }
}

refusal_codes! {
    /// The reason codes with which SUBACK may refuse a filter. A v3 client is told 0x80 whichever it is.
    pub enum SubscribeCode {
        /// 0x80: no reason is told.
        UnspecifiedError,
        /// 0x83: the broker does not accept it.
        ImplementationSpecific,
        /// 0x87: the client may not subscribe to this. The usual code.
        #[default]
        NotAuthorized,
        /// 0x8F: the filter is well formed but not accepted.
        TopicFilterInvalid,
        /// 0x97: a limit was exceeded.
        QuotaExceeded,
        /// 0x9E: no shared subscriptions for this client.
        SharedSubscriptionsNotSupported,
        /// 0xA1: no subscription identifiers for this client.
        SubscriptionIdsNotSupported,
        /// 0xA2: no wildcards for this client.
        WildcardSubscriptionsNotSupported,
    }
}

/// What becomes of one filter of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterGrant {
    /// As requested.
    Grant,
    /// As requested, but at this QoS.
    GrantAt(QoS),
    /// Another filter in its place, at this QoS; the other options stay. One that is not a valid topic filter refuses
    /// this entry with 0x8F. The client unsubscribes by the name it knows, so `on_unsubscribe` must rewrite likewise.
    Replace {
        /// The filter to subscribe to.
        filter: String,
        /// The QoS to subscribe at.
        qos: QoS,
    },
    /// Refused.
    Refuse(SubscribeCode),
}

/// Finds what becomes of the filter at `index`: all are granted if nothing was said of any, and one that was forgotten
/// in a list of grants is refused.
fn grant(grants: Option<&Vec<FilterGrant>>, index: usize) -> &FilterGrant {
    const FORGOTTEN: &FilterGrant = &FilterGrant::Refuse(SubscribeCode::NotAuthorized);
    grants.map_or(&FilterGrant::Grant, |grants| grants.get(index).unwrap_or(FORGOTTEN))
}

modifiers! {
    /// What *Ok* of `auth_on_subscribe` changes.
    pub struct SubscribeModifiers {
        /// What becomes of each filter, in the order of the request. A filter without an entry is refused, entries
        /// beyond the last filter are ignored. Without a list all are granted as requested.
        filters: Vec<FilterGrant>,
    }
}

impl SubscribeModifiers {
    /// What becomes of the filter at `index` of the request.
    pub fn grant(&self, index: usize) -> &FilterGrant {
        grant(self.filters.as_ref(), index)
    }
}

modifiers! {
    /// What *Ok* of `auth_on_subscribe_m5` changes.
    pub struct SubscribeModifiersM5 {
        /// What becomes of each filter, in the order of the request. A filter without an entry is refused, entries
        /// beyond the last filter are ignored. Without a list all are granted as requested.
        filters: Vec<FilterGrant>,
        /// A sentence for people, sent in SUBACK.
        reason_string: String,
        ..user_properties
    }
}

impl SubscribeModifiersM5 {
    /// What becomes of the filter at `index` of the request.
    pub fn grant(&self, index: usize) -> &FilterGrant {
        grant(self.filters.as_ref(), index)
    }
}

impl From<SubscribeModifiers> for SubscribeModifiersM5 {
    fn from(v3: SubscribeModifiers) -> Self {
        SubscribeModifiersM5 { filters: v3.filters, ..Default::default() }
    }
}

/// The SUBSCRIBE of a v3 client is refused: 0x80 for every filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeRefusal;

/// The SUBSCRIBE of a v5 client is refused: this code for every filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeRefusalM5 {
    /// The reason code of every filter in SUBACK.
    pub code: SubscribeCode,
}

impl From<SubscribeCode> for SubscribeRefusalM5 {
    fn from(code: SubscribeCode) -> Self {
        SubscribeRefusalM5 { code }
    }
}

impl From<SubscribeRefusal> for SubscribeRefusalM5 {
    fn from(SubscribeRefusal: SubscribeRefusal) -> Self {
        SubscribeRefusalM5::default()
    }
}

/// What a SUBSCRIBE of a v3 client was granted.
#[derive(Clone, Copy, Debug)]
pub struct Subscribed<'a> {
    /// The filters granted, as hooks rewrote them, at the QoS granted; at least one. Those refused are left out.
    pub filters: &'a [RequestedFilter<'a>],
}

/// What a SUBSCRIBE of a v5 client was granted.
#[derive(Clone, Copy, Debug)]
pub struct SubscribedM5<'a> {
    /// The filters granted, as hooks rewrote them, at the QoS granted; at least one. Those refused are left out.
    pub filters: &'a [RequestedFilter<'a>],
    /// The subscription identifier on all of them, if any: 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    /// The user properties of the SUBSCRIBE.
    pub user_properties: UserProperties<'a>,
}

impl<'a> SubscribedM5<'a> {
    /// What a v3 hook sees of it: everything but the properties.
    #[inline]
    pub fn without_properties(&self) -> Subscribed<'a> {
        Subscribed { filters: self.filters }
    }
}

/// An UNSUBSCRIBE of a v3 client, before it takes effect.
#[derive(Clone, Copy, Debug)]
pub struct UnsubscribeRequest<'a> {
    /// Its filters, in order; at least one.
    pub filters: &'a [&'a str],
}

/// An UNSUBSCRIBE of a v5 client, before it takes effect.
#[derive(Clone, Copy, Debug)]
pub struct UnsubscribeRequestM5<'a> {
    /// Its filters, in order; at least one.
    pub filters: &'a [&'a str],
    /// Its user properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> UnsubscribeRequestM5<'a> {
    /// What a v3 hook sees of it: everything but the properties.
    #[inline]
    pub fn without_properties(&self) -> UnsubscribeRequest<'a> {
        UnsubscribeRequest { filters: self.filters }
    }
}

modifiers! {
    /// What *Ok* of `on_unsubscribe` changes.
    pub struct UnsubscribeModifiers {
        /// The filters to unsubscribe from, in the order of the request. One that is missing at the end is as requested,
        /// those beyond the last filter are ignored.
        filters: Vec<String>,
    }
}

modifiers! {
    /// What *Ok* of `on_unsubscribe_m5` changes.
    pub struct UnsubscribeModifiersM5 {
        /// The filters to unsubscribe from, in the order of the request. One that is missing at the end is as requested,
        /// those beyond the last filter are ignored.
        filters: Vec<String>,
        /// A sentence for people, sent in UNSUBACK.
        reason_string: String,
        ..user_properties
    }
}

impl From<UnsubscribeModifiers> for UnsubscribeModifiersM5 {
    fn from(v3: UnsubscribeModifiers) -> Self {
        UnsubscribeModifiersM5 { filters: v3.filters, ..Default::default() }
    }
}

/// Which subscriptions a session lost: what `on_topic_unsubscribed` is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsubscribed<'a> {
    /// These filters, which it had: by UNSUBSCRIBE, as hooks rewrote them, or by an operator.
    Topics(&'a [&'a str]),
    /// All it had: the session ends.
    All,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{PacketType, Sender};

    #[test]
    fn every_refusal_can_be_told() {
        for &code in SubscribeCode::ALL {
            assert!(ReasonCode::from(code).is_allowed_in(PacketType::Suback, Sender::Server), "{code:?}");
        }
        assert_eq!(ReasonCode::from(SubscribeRefusalM5::default().code), ReasonCode::NotAuthorized);
    }

    #[test]
    fn a_forgotten_filter_is_refused() {
        assert_eq!(*SubscribeModifiers::default().grant(7), FilterGrant::Grant);
        let modifiers = SubscribeModifiersM5::default().filters([FilterGrant::GrantAt(QoS::AtMostOnce)]);
        assert_eq!(*modifiers.grant(0), FilterGrant::GrantAt(QoS::AtMostOnce));
        assert_eq!(*modifiers.grant(1), FilterGrant::Refuse(SubscribeCode::NotAuthorized));
        assert_eq!(*SubscribeModifiers::default().filters([]).grant(0), *modifiers.grant(1));
    }
}
