//! What a client asks for with SUBSCRIBE, and what is granted of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::codec::{ReasonCode, RetainHandling, Subscribe, SubscriptionOptions};
use crate::config::LimitsConfig;
use crate::connection::Violation;
use crate::hooks::{FilterGrant, RequestedFilter};
use crate::session::{Session, SessionSettings, Subscription};
use crate::topic::{Shapes, TopicFilter};

/// What the hooks grant for one filter: the subscription, or why there is none.
pub type Grant = Result<(TopicFilter, SubscriptionOptions), ReasonCode>;

/// A filter that was granted and has taken effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The filter.
    pub filter: TopicFilter,
    /// The options it has now.
    pub options: SubscriptionOptions,
    /// Whether what is retained is to be sent.
    pub wants_retained: bool,
}

/// What a client asks for with a SUBSCRIBE: as many of its filters as one packet may have. Those behind them are refused; see
/// [`PendingSubscribe::beyond`](super::PendingSubscribe::beyond).
///
/// # Errors
///
/// The violation, if it is one, rather than a filter refused.
pub fn requested<'a>(
    settings: &SessionSettings,
    limits: &LimitsConfig,
    subscribe: &Subscribe<'a>,
) -> Result<Vec<RequestedFilter<'a>>, Violation> {
    if subscribe.subscription_id.is_some() && !settings.ids_available {
        let what = "subscription identifiers are not available";
        return Err(Violation::new(ReasonCode::SubscriptionIdsNotSupported, what));
    }
    for asked in subscribe.filters {
        well_formed(asked.filter)?;
        if asked.options.no_local && is_shared(asked.filter) {
            return Err(Violation::protocol("No Local on a shared subscription [MQTT-3.8.3-4]"));
        }
    }
    let requested = subscribe.filters.iter().take(limits.max_filters_per_subscribe).map(|asked| RequestedFilter {
        filter: asked.filter,
        options: if settings.is_bridge { of_a_bridge(asked.filter, asked.options) } else { asked.options },
    });
    Ok(requested.collect())
}

/// That a filter is one, for the standard [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1], [MQTT-4.8.2-1], [MQTT-4.8.2-2].
///
/// # Errors
///
/// The violation, if it is not: the connection ends with it [MQTT-4.13.1-1].
pub(super) fn well_formed(filter: &str) -> Result<(), Violation> {
    TopicFilter::check(filter).map_err(|_| Violation::protocol("an ill-formed topic filter (4.7, 4.8.2)"))
}

/// Whether a filter that is well formed is one of a shared subscription.
fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// What a bridge of MQTT 3 wants and has no words for: not to get back what it published itself, and to know what was retained. In a shared
/// subscription there is no No Local [MQTT-3.8.3-4].
fn of_a_bridge(filter: &str, options: SubscriptionOptions) -> SubscriptionOptions {
    SubscriptionOptions { no_local: !is_shared(filter), retain_as_published: true, ..options }
}

/// What the hooks made of one filter, checked like what a client asks for.
///
/// # Errors
///
/// The reason code with which the filter is refused.
pub fn grant(asked: &RequestedFilter<'_>, by: &FilterGrant, max_levels: usize) -> Grant {
    let (text, qos) = match by {
        FilterGrant::Grant => (asked.filter, asked.options.qos),
        FilterGrant::GrantAt(qos) => (asked.filter, *qos),
        FilterGrant::Replace { filter, qos } => (filter.as_str(), *qos),
        FilterGrant::Refuse(code) => return Err((*code).into()),
    };
    let filter = TopicFilter::parse(text, max_levels).map_err(|_| ReasonCode::TopicFilterInvalid)?;
    Ok((filter, SubscriptionOptions { qos, ..asked.options }))
}

/// One session may have this part of the shapes of filters that there may be.
const SHARE_OF_SHAPES: usize = 8;

/// Adds one subscription to its session, unless its settings or a limit forbid it. Also says whether the session did not have it before.
/// `known` are the shapes of all filters that a topic is compared with.
///
/// # Errors
///
/// The reason code with which the filter is refused.
pub fn admit<S>(
    session: &mut Session<S>,
    limits: &LimitsConfig,
    known: &Shapes,
    filter: TopicFilter,
    options: SubscriptionOptions,
    subscription_id: u32,
) -> Result<(Granted, bool), ReasonCode> {
    let settings = &session.settings;
    let is_shared = filter.share_name().is_some();
    if is_shared && !settings.shared_available {
        return Err(ReasonCode::SharedSubscriptionsNotSupported);
    }
    if filter.has_wildcard() && !settings.wildcard_available {
        return Err(ReasonCode::WildcardSubscriptionsNotSupported);
    }
    let is_new = session.subscriptions.get(&filter).is_none();
    let (count, bytes) =
        (session.subscriptions.len() + 1, session.subscriptions.filter_bytes() + filter.as_str().len());
    let fits = limits.max_subscriptions_per_client.allows(count) && limits.max_topic_bytes_per_client.allows(bytes);
    if is_new && !fits {
        return Err(ReasonCode::QuotaExceeded);
    }
    if is_new && !shape_fits(session, limits, known, &filter) {
        if session.subscriptions.is_first_refusal() {
            let (client, filter) = (&session.client.subscriber, filter.as_str());
            tracing::warn!(%client, filter, "filter refused for limits.max_wildcard_shapes, said once for each client");
        }
        return Err(ReasonCode::QuotaExceeded);
    }
    let options = SubscriptionOptions { qos: options.qos.min(settings.maximum_qos), ..options };
    session.subscriptions.put(filter.clone(), Subscription { options, id: subscription_id });
    let wants_retained = !is_shared
        && match options.retain_handling {
            RetainHandling::SendAtSubscribe => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
    Ok((Granted { filter, options, wants_retained }, is_new))
}

/// Whether there may be the shapes that come with a filter: in all, and of this session.
fn shape_fits<S>(session: &Session<S>, limits: &LimitsConfig, known: &Shapes, filter: &TopicFilter) -> bool {
    let Some(most) = limits.max_wildcard_shapes.get() else { return true };
    let most_of_one = most.div_ceil(SHARE_OF_SHAPES);
    known.have_room_for(filter.filter(), most) && session.subscriptions.have_room_for_shape(filter, most_of_one)
}

/// The filters for which retained messages are to be sent, those of a higher QoS first.
///
/// A message that several filters of one SUBSCRIBE match is sent once, at the highest QoS, like any other message: the first
/// that matches counts. So the work that one packet makes is bounded by what is retained, and one filter that comes
/// several times counts once, with the options that it has in the end.
pub fn wanted(granted: &[Result<Granted, ReasonCode>]) -> Vec<TopicFilter> {
    let mut by_filter: BTreeMap<&str, (usize, &Granted, bool)> = BTreeMap::new();
    for (at, granted) in granted.iter().flatten().enumerate() {
        let before = by_filter.get(granted.filter.as_str()).is_some_and(|(_, _, wanted)| *wanted);
        by_filter.insert(granted.filter.as_str(), (at, granted, before || granted.wants_retained));
    }
    let mut wanted: Vec<_> = by_filter.into_values().filter(|(_, _, wanted)| *wanted).collect();
    wanted.sort_by_key(|(at, granted, _)| (Reverse(granted.options.qos), *at));
    wanted.into_iter().map(|(_, granted, _)| granted.filter.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{PacketId, QoS, SubscribeFilter};
    use crate::config::Limit;
    use crate::hooks::SubscribeCode;
    use crate::session::testing::session;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text, 8).expect("a valid filter")
    }

    fn options(qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions::new(qos)
    }

    fn granted(text: &str, qos: QoS, wants_retained: bool) -> Result<Granted, ReasonCode> {
        Ok(Granted { filter: filter(text), options: options(qos), wants_retained })
    }

    #[test]
    fn what_a_hook_makes_of_a_filter_is_checked_like_what_a_client_asks_for() {
        let asked = RequestedFilter { filter: "a/b", options: options(QoS::ExactlyOnce) };
        let made =
            |by: FilterGrant| grant(&asked, &by, 3).map(|(filter, options)| (filter.as_str().to_owned(), options.qos));
        assert_eq!(made(FilterGrant::Grant), Ok(("a/b".to_owned(), QoS::ExactlyOnce)));
        assert_eq!(made(FilterGrant::GrantAt(QoS::AtMostOnce)), Ok(("a/b".to_owned(), QoS::AtMostOnce)));
        let replaced = |filter: &str| FilterGrant::Replace { filter: filter.to_owned(), qos: QoS::AtLeastOnce };
        assert_eq!(made(replaced("c")), Ok(("c".to_owned(), QoS::AtLeastOnce)));
        assert_eq!(made(replaced("a/b/c/d")), Err(ReasonCode::TopicFilterInvalid));
        assert_eq!(made(FilterGrant::Refuse(SubscribeCode::QuotaExceeded)), Err(ReasonCode::QuotaExceeded));
    }

    fn asked(filter: &str, no_local: bool) -> SubscribeFilter<'_> {
        SubscribeFilter { filter, options: SubscriptionOptions { no_local, ..options(QoS::AtMostOnce) } }
    }

    /// How many filters are looked at, or why the packet is a violation.
    fn taken(session: &Session<()>, filters: &[SubscribeFilter<'_>], id: Option<u32>) -> Result<usize, ReasonCode> {
        let limits = LimitsConfig { max_filters_per_subscribe: 2, ..LimitsConfig::default() };
        let subscribe = Subscribe { subscription_id: id, ..Subscribe::new(PacketId::MIN, filters) };
        let requested = requested(&session.settings, &limits, &subscribe);
        requested.map(|requested| requested.len()).map_err(|violation| violation.code)
    }

    #[test]
    fn what_makes_the_whole_packet_a_violation() {
        let mut session = session();
        assert_eq!(taken(&session, &[asked("a", true)], Some(1)), Ok(1));
        assert_eq!(taken(&session, &[asked("$share/g/a", true)], None), Err(ReasonCode::ProtocolError));
        session.settings.ids_available = false;
        assert_eq!(taken(&session, &[asked("a", false)], Some(1)), Err(ReasonCode::SubscriptionIdsNotSupported));
    }

    /// [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1], [MQTT-4.8.2-1], [MQTT-4.8.2-2], [MQTT-4.13.1-1]
    #[test]
    fn a_filter_that_is_none_is_a_violation_wherever_it_stands() {
        let session = session();
        for filter in ["", "a/#/b", "a#", "+a/b", "$share/g", "$share//t", "$share/g+/t"] {
            let filters = [asked("a", false), asked("b", false), asked(filter, false)];
            assert_eq!(taken(&session, &filters, None), Err(ReasonCode::ProtocolError), "{filter}");
        }
    }

    #[test]
    fn filters_beyond_the_limit_of_a_packet_are_not_looked_at() {
        let filters = ["a", "b", "c", "d"].map(|filter| asked(filter, false));
        assert_eq!(taken(&session(), &filters, None), Ok(2));
    }

    #[test]
    fn a_bridge_of_mqtt_3_gets_what_it_has_no_words_for() {
        let (mut session, limits) = (session(), LimitsConfig::default());
        let filters = [asked("a", false), asked("$share/g/a", false)];
        let subscribe = Subscribe::new(PacketId::MIN, &filters[..]);
        let options = |session: &Session<()>| {
            let requested = requested(&session.settings, &limits, &subscribe).expect("no violation");
            requested.iter().map(|it| (it.options.no_local, it.options.retain_as_published)).collect::<Vec<_>>()
        };
        assert_eq!(options(&session), [(false, false); 2]);
        session.settings.is_bridge = true;
        assert_eq!(options(&session), [(true, true), (false, true)], "[MQTT-3.8.3-4]");
    }

    #[test]
    fn settings_and_limits_of_a_session_hold() {
        let mut session = session();
        let limits = LimitsConfig { max_subscriptions_per_client: Limit::at_most(1), ..LimitsConfig::default() };
        session.settings.maximum_qos = QoS::AtLeastOnce;
        let admitted = |session: &mut Session<()>, text| {
            admit(session, &limits, &Shapes::new(), filter(text), options(QoS::ExactlyOnce), 3)
                .map(|(granted, is_new)| (granted.options.qos, is_new))
        };
        assert_eq!(admitted(&mut session, "a"), Ok((QoS::AtLeastOnce, true)));
        assert_eq!(admitted(&mut session, "a"), Ok((QoS::AtLeastOnce, false)));
        assert_eq!(admitted(&mut session, "b"), Err(ReasonCode::QuotaExceeded));
        assert_eq!(session.subscriptions.get(&filter("a")).map(|subscription| subscription.id), Some(3));
        session.settings.wildcard_available = false;
        assert_eq!(admitted(&mut session, "#"), Err(ReasonCode::WildcardSubscriptionsNotSupported));
        session.settings.shared_available = false;
        assert_eq!(admitted(&mut session, "$share/g/a"), Err(ReasonCode::SharedSubscriptionsNotSupported));
    }

    #[test]
    fn the_filters_of_a_session_are_limited_in_bytes() {
        let mut session = session();
        let limits = LimitsConfig { max_topic_bytes_per_client: Limit::at_most(10), ..LimitsConfig::default() };
        let admitted = |session: &mut Session<()>, text| {
            admit(session, &limits, &Shapes::new(), filter(text), options(QoS::AtMostOnce), 0).map(|(_, is_new)| is_new)
        };
        assert_eq!(admitted(&mut session, "four"), Ok(true));
        assert_eq!(admitted(&mut session, "eleven!"), Err(ReasonCode::QuotaExceeded));
        assert_eq!(admitted(&mut session, "sixsix"), Ok(true));
        assert_eq!(admitted(&mut session, "four"), Ok(false), "it is there already");
        assert_eq!(admitted(&mut session, "x"), Err(ReasonCode::QuotaExceeded));
        assert!(session.subscriptions.remove(&filter("four")) && !session.subscriptions.remove(&filter("four")));
        assert_eq!((admitted(&mut session, "x"), session.subscriptions.filter_bytes()), (Ok(true), 7));
    }

    /// `+` at these of twelve levels.
    fn deep(pluses: &[usize]) -> TopicFilter {
        let level = |level: usize| if pluses.contains(&level) { "+" } else { "a" };
        TopicFilter::parse(&(0..12).map(level).collect::<Vec<_>>().join("/"), 12).expect("a valid filter")
    }

    #[test]
    fn shapes_of_filters_are_limited_in_all_and_for_each_session() {
        let limits = LimitsConfig { max_wildcard_shapes: Limit::at_most(40), ..LimitsConfig::default() };
        let (mut one, mut known) = (session(), Shapes::new());
        let admitted = |session: &mut Session<()>, limits: &LimitsConfig, known: &mut Shapes, filter: TopicFilter| {
            let options = options(QoS::AtMostOnce);
            let (granted, is_new) = admit(session, limits, known, filter, options, 0)?;
            if is_new {
                known.add(granted.filter.filter());
            }
            Ok(is_new)
        };
        // Each has those of 9 to 12 levels, and all have those of 9 and 10 in common.
        let filters = [vec![0, 1, 2], vec![0, 1, 2, 11], vec![0, 1, 2, 10], vec![0, 1, 2, 10, 11]].map(|at| deep(&at));
        let full = Err(ReasonCode::QuotaExceeded);
        let answers = filters.clone().map(|filter| admitted(&mut one, &limits, &mut known, filter));
        assert_eq!(answers, [Ok(true), Ok(true), full, full], "an eighth is 5");
        assert_eq!(admitted(&mut one, &limits, &mut known, filters[0].clone()), Ok(false), "it is there already");
        assert_eq!(admitted(&mut one, &limits, &mut known, filter("+/+/+/+/+/+/+/+")), Ok(true), "it is ordinary");
        for shapes in 8..40 {
            // Others have so many.
            let pluses: Vec<_> = (0..8).filter(|bit| shapes >> bit & 1 == 1).chain([8, 9, 10]).collect();
            let is_room = known.have_room_for(deep(&pluses).filter(), 40);
            let mut other = session();
            assert_eq!(admitted(&mut other, &limits, &mut known, deep(&pluses)), if is_room { Ok(true) } else { full });
        }
        assert!((37..=40).contains(&known.len()), "{}", known.len());
        let unlimited = LimitsConfig { max_wildcard_shapes: Limit::UNLIMITED, ..LimitsConfig::default() };
        assert_eq!(admitted(&mut one, &unlimited, &mut known, filters[3].clone()), Ok(true));
    }

    #[test]
    fn retain_handling_says_when_retained_messages_are_sent() {
        let limits = LimitsConfig::default();
        let wants = |session: &mut Session<()>, text, retain_handling| {
            let options = SubscriptionOptions { retain_handling, ..options(QoS::AtMostOnce) };
            admit(session, &limits, &Shapes::new(), filter(text), options, 0)
                .is_ok_and(|(granted, _)| granted.wants_retained)
        };
        let mut session = session();
        assert!(
            wants(&mut session, "a", RetainHandling::SendIfNew) && !wants(&mut session, "a", RetainHandling::SendIfNew)
        );
        assert!(wants(&mut session, "a", RetainHandling::SendAtSubscribe));
        assert!(!wants(&mut session, "b", RetainHandling::DoNotSend));
        assert!(!wants(&mut session, "$share/g/a", RetainHandling::SendAtSubscribe), "never (4.8.2)");
    }

    #[test]
    fn the_filter_of_the_highest_qos_counts_and_each_filter_once() {
        let asked = [
            granted("a", QoS::AtMostOnce, true),
            Err(ReasonCode::NotAuthorized),
            granted("b", QoS::ExactlyOnce, true),
            granted("c", QoS::AtLeastOnce, false),
            granted("a", QoS::AtLeastOnce, false),
        ];
        let found = wanted(&asked);
        assert_eq!(found.iter().map(TopicFilter::as_str).collect::<Vec<_>>(), ["b", "a"]);
    }
}
