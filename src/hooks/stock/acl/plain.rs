//! The rules one by one, as they are meant: what the index has to agree with.

use proptest::prelude::*;
use proptest::sample::select;

use super::scope::Effect;
use super::{AclRules, Identity, Ruling};
use crate::topic::{TopicFilter, TopicName};

/// One rule, looked at by itself.
#[derive(Clone, Debug)]
struct Rule {
    user: Option<&'static str>,
    effect: Effect,
    is_pattern: bool,
    text: String,
}

impl Rule {
    /// The topic filter that it is for a client; none if it is about no topic at all.
    fn filled_in(&self, who: &Identity<'_>) -> Option<TopicFilter> {
        let level = |(at, level): (usize, _)| {
            let name = match level {
                "%u" => who.username?,
                "%c" => who.client_id,
                "%m" => who.mountpoint,
                _ => return Some(level),
            };
            let is_plain = !name.contains(['+', '#', '/', '\0']);
            (is_plain && !(self.effect == Effect::Grant && at == 0 && name.starts_with('$'))).then_some(name)
        };
        let levels: Option<Vec<&str>> = self.text.split('/').enumerate().map(level).collect();
        TopicFilter::parse(&levels?.join("/"), usize::MAX).ok()
    }

    fn is_for(&self, who: &Identity<'_>) -> bool {
        self.user.is_none() || self.user == who.username
    }

    fn line(&self, access: &str) -> String {
        let keyword = match (self.effect, self.is_pattern) {
            (Effect::Grant, false) => "topic",
            (Effect::Grant, true) => "pattern",
            (Effect::Deny, false) => "deny",
            (Effect::Deny, true) => "deny pattern",
        };
        format!("{keyword} {access} {}\n", self.text)
    }
}

/// Whether there is a topic that both filters match.
fn meet(one: &str, other: &str) -> bool {
    let wild = |filter: &str| filter.starts_with(['+', '#']);
    if (wild(one) && other.starts_with('$')) || (wild(other) && one.starts_with('$')) {
        return false;
    }
    // All they have in common is the topic without characters, which does not exist.
    if matches!((one, other), ("+", "/#") | ("/#", "+")) {
        return false;
    }
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) | (Some("#"), _) | (_, Some("#")) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

fn ruling(rules: &[Rule], who: &Identity<'_>, of: impl Fn(Effect, &TopicFilter) -> bool) -> Ruling {
    let any = |effect| {
        let mut rules = rules.iter().filter(|rule| rule.effect == effect && rule.is_for(who));
        rules.any(|rule| rule.filled_in(who).is_some_and(|filter| of(effect, &filter)))
    };
    match (any(Effect::Deny), any(Effect::Grant)) {
        (true, _) => Ruling::Denied,
        (false, true) => Ruling::Granted,
        (false, false) => Ruling::Silent,
    }
}

fn publish(rules: &[Rule], who: &Identity<'_>, topic: TopicName<'_>) -> Ruling {
    ruling(rules, who, |_, filter| filter.matches(topic))
}

fn subscribe(rules: &[Rule], who: &Identity<'_>, requested: &TopicFilter) -> Ruling {
    ruling(rules, who, |effect, filter| match effect {
        Effect::Deny => meet(filter.filter(), requested.filter()),
        Effect::Grant => filter.covers(requested),
    })
}

/// The text of a file with these rules, for `access`.
fn file(rules: &[Rule], access: &str) -> String {
    let (everyone, own): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| rule.user.is_none());
    let mut text: String = everyone.into_iter().map(|rule| rule.line(access)).collect();
    for rule in own {
        text += &format!("user {}\n{}", rule.user.unwrap_or_default(), rule.line(access));
    }
    text
}

const NAMES: [&str; 8] = ["a", "b", "", "$x", "+", "a/b", "#", "a label with more than sixteen bytes"];

fn text(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
    let end = select(&["", "", "/#"][..]);
    let text = prop_oneof![
        9 => (prop::collection::vec(select(levels), 1..5), end).prop_map(|(levels, end)| levels.join("/") + end),
        1 => Just("#".to_owned()),
    ];
    text.prop_filter("a filter is not empty", |text| !text.is_empty())
}

fn rule() -> impl Strategy<Value = Rule> {
    const FILTER: &[&str] = &["", "a", "b", "$x", "+", "a label with more than sixteen bytes"];
    const PATTERN: &[&str] = &["", "a", "b", "+", "%u", "%c", "%m", "%u"];
    let effect = select(&[Effect::Grant, Effect::Grant, Effect::Deny][..]);
    let filter = (effect.clone(), text(FILTER), select(&[None, None, Some("a"), Some("b")][..]))
        .prop_map(|(effect, text, user)| Rule { user, effect, is_pattern: false, text });
    let pattern =
        (effect, text(PATTERN)).prop_map(|(effect, text)| Rule { user: None, effect, is_pattern: true, text });
    // A file cannot have these: its lines lose what is white at their ends, and `deny` alone is no filter.
    prop_oneof![filter, pattern]
}

fn requested() -> impl Strategy<Value = TopicFilter> {
    const LEVELS: &[&str] = &["", "a", "b", "$x", "+", "%u", "%c", "a label with more than sixteen bytes"];
    (select(&["", "", "$share/g/"][..]), text(LEVELS))
        .prop_map(|(share, text)| TopicFilter::parse(&format!("{share}{text}"), 9).expect(&text))
}

fn topic() -> impl Strategy<Value = String> {
    const LEVELS: &[&str] = &["", "a", "b", "$x", "%u", "%c", "a label with more than sixteen bytes"];
    let topic = prop::collection::vec(select(LEVELS), 1..5).prop_map(|levels| levels.join("/"));
    topic.prop_filter("a topic is not empty", |text| !text.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
    #[test]
    fn the_index_says_what_the_rules_say_one_by_one(
        rules in prop::collection::vec(rule(), 0..12),
        topics in prop::collection::vec(topic(), 1..12),
        filters in prop::collection::vec(requested(), 1..12),
        username in select(&[None, Some("a"), Some("b"), Some(""), Some("$x"), Some("+"), Some("a/b")][..]),
        client_id in select(&NAMES[..]),
        mountpoint in select(&NAMES[..]),
    ) {
        let who = Identity { username, client_id, mountpoint };
        let (read, write) = (file(&rules, "read"), file(&rules, "write"));
        let (to_read, to_write) = (AclRules::parse(&read).unwrap(), AclRules::parse(&write).unwrap());
        for topic in &topics {
            let topic = TopicName::parse(topic, 9).unwrap();
            prop_assert_eq!(to_write.publish(&who, topic), publish(&rules, &who, topic), "{}\n{}", topic.as_str(), &write);
            prop_assert_eq!(to_read.publish(&who, topic), Ruling::Silent);
        }
        for filter in &filters {
            prop_assert_eq!(to_read.subscribe(&who, filter), subscribe(&rules, &who, filter), "{}\n{}", filter, &read);
            prop_assert_eq!(to_write.subscribe(&who, filter), Ruling::Silent);
        }
    }
}

/// Many rules of one kind, so that not all of them are in one word of a set.
fn many_rules() -> impl Strategy<Value = Vec<Rule>> {
    const FIRST: &[&str] = &["a", "b", "+", "$x", "%u", ""];
    const SECOND: &[&str] = &["a", "b", "+", "c", "d", "e", "f", "g", "%c", "%u"];
    const THIRD: &[&str] = &["a", "b", "c", "d", "e", "f", "%c", "%u"];
    let text = (select(FIRST), select(SECOND), select(THIRD), select(&["", "", "/#"][..]));
    let rule = (select(&[Effect::Grant, Effect::Deny, Effect::Deny][..]), text).prop_map(|(effect, text)| {
        let (first, second, third, end) = text;
        Rule { user: None, effect, is_pattern: true, text: format!("{first}/{second}/{third}{end}") }
    });
    prop::collection::vec(rule, 100..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn many_rules_say_what_they_say_one_by_one(
        rules in many_rules(),
        kept in prop::collection::vec(0..300_usize, 0..8),
        filters in prop::collection::vec(requested(), 1..30),
        username in select(&[None, Some("a"), Some(""), Some("$x"), Some("a/b")][..]),
        client_id in select(&NAMES[..]),
    ) {
        // All of them, and some that stand far from each other among such as are about something else.
        let aside = |(at, rule): (usize, &Rule)| match kept.contains(&at) {
            true => rule.clone(),
            false => Rule { text: format!("z/{}", rule.text.split_once('/').unwrap().1), ..rule.clone() },
        };
        let few: Vec<Rule> = rules.iter().enumerate().map(aside).collect();
        let who = Identity { username, client_id, mountpoint: "m" };
        for rules in [&rules, &few] {
            let text = file(rules, "read");
            let read = AclRules::parse(&text).unwrap();
            for filter in &filters {
                prop_assert_eq!(read.subscribe(&who, filter), subscribe(rules, &who, filter), "{}\n{}", filter, &text);
            }
        }
    }
}

/// Every sequence of up to `most` of `labels`, as levels.
fn every(labels: &[&str], most: usize) -> Vec<String> {
    let mut all: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
    let mut last = all.clone();
    for _ in 1..most {
        last = last.iter().flat_map(|text| labels.iter().map(move |label| format!("{text}/{label}"))).collect();
        all.extend(last.iter().cloned());
    }
    all.retain(|text| !text.is_empty());
    all
}

const WHO: Identity<'static> = Identity { username: Some("u"), client_id: "c", mountpoint: "m" };

fn rules(text: &str) -> AclRules {
    AclRules::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

/// Against the definition: what a filter means is the topics it matches. With one label more than filters have, and
/// one level more, the topics below tell any two filters apart.
#[test]
fn covering_and_meeting_are_what_they_mean() {
    let topics = every(&["", "a", "$x", "z"], 4);
    let topics: Vec<TopicName<'_>> = topics.iter().map(|text| TopicName::parse(text, 9).unwrap()).collect();
    let filters = every(&["", "a", "$x", "+", "#"], 3);
    let filters: Vec<TopicFilter> = filters.iter().filter_map(|text| TopicFilter::parse(text, 9).ok()).collect();
    assert!(filters.len() > 90, "{} filters", filters.len());
    let matched = |filter: &TopicFilter| -> Vec<bool> { topics.iter().map(|topic| filter.matches(*topic)).collect() };
    let matched: Vec<Vec<bool>> = filters.iter().map(matched).collect();
    for (wide, of_wide) in filters.iter().zip(&matched) {
        let (grants, denies) = (rules(&format!("topic read {wide}")), rules(&format!("deny read {wide}")));
        for (narrow, of_narrow) in filters.iter().zip(&matched) {
            let both = || of_wide.iter().zip(of_narrow);
            let covers = both().all(|(wide, narrow)| *wide || !*narrow);
            assert_eq!(grants.subscribe(&WHO, narrow) == Ruling::Granted, covers, "{wide} covers {narrow}");
            let meets = both().any(|(wide, narrow)| *wide && *narrow);
            assert_eq!(denies.subscribe(&WHO, narrow) == Ruling::Denied, meets, "{wide} meets {narrow}");
        }
    }
}

#[test]
fn names_are_taken_literally() {
    let rules = rules("pattern dev/%c/#\n");
    let named = |client_id| Identity { client_id, ..WHO };
    let reads = |who: Identity<'_>, text| rules.subscribe(&who, &TopicFilter::parse(text, 9).unwrap());
    let writes = |who: Identity<'_>, text| rules.publish(&who, TopicName::parse(text, 9).unwrap());
    assert_eq!(reads(named("c"), "dev/c/+"), Ruling::Granted);
    assert_eq!(reads(named("d"), "dev/c/+"), Ruling::Silent);
    for odd in ["+", "#", "a+", "a/b", "+/#", "\0"] {
        for requested in ["dev/+/x", "dev/#", "dev/a/b", "dev/c/x", "dev/+/#"] {
            assert_eq!(reads(named(odd), requested), Ruling::Silent, "{odd:?} {requested}");
        }
        for name in ["dev/a/b", "dev/a/b/x", "dev/c/x", "dev//x"] {
            assert_eq!(writes(named(odd), name), Ruling::Silent, "{odd:?} {name}");
        }
    }
}

#[test]
fn nobody_is_granted_the_system_topics_for_his_name() {
    let who = Identity { client_id: "$SYS", ..WHO };
    let filter = TopicFilter::parse("$SYS/#", 9).unwrap();
    assert_eq!(rules("pattern %c/#").subscribe(&who, &filter), Ruling::Silent);
    assert_eq!(rules("pattern %c/#").publish(&who, TopicName::trusted("$SYS/x")), Ruling::Silent);
    assert_eq!(rules("deny pattern %c/#").subscribe(&who, &filter), Ruling::Denied, "what is denied stays denied");
    assert_eq!(rules("pattern x/%c").publish(&who, TopicName::trusted("x/$SYS")), Ruling::Granted);
}

#[test]
fn a_shared_subscription_is_judged_by_what_is_behind_the_group() {
    let filter = |text| TopicFilter::parse(text, 9).unwrap();
    assert_eq!(rules("topic a/#").subscribe(&WHO, &filter("$share/g/a/+")), Ruling::Granted);
    assert_eq!(rules("topic a/#").subscribe(&WHO, &filter("$share/g/b")), Ruling::Silent);
    assert_eq!(rules("deny a/#").subscribe(&WHO, &filter("$share/g/+/b")), Ruling::Denied);
}

#[test]
fn a_hundred_thousand_rules_are_as_good_as_ten() {
    let mut text = String::new();
    for number in 0..100_000 {
        text += &format!("topic dev/{number}/up\ndeny dev/{number}/secret\n");
    }
    let rules = rules(&text);
    let ask = |text| rules.publish(&WHO, TopicName::parse(text, 9).unwrap());
    let answers = ["dev/99999/up", "dev/5/secret", "dev/100000/up"].map(ask);
    assert_eq!(answers, [Ruling::Granted, Ruling::Denied, Ruling::Silent]);
    let start = std::time::Instant::now();
    (0..1000).for_each(|_| assert_eq!(ask("dev/99999/up"), Ruling::Granted));
    println!("a publish against 200,000 rules: {} ns", start.elapsed().as_nanos() / 1000);
    // What a walk would follow a `+` to, and through all of `dev`. How long it takes is printed, and what is looked at is
    // bounded: see `topic::scope_columns`.
    for (text, ruling) in [
        ("dev/+/x", Ruling::Silent),
        ("dev/+/secret/#", Ruling::Denied),
        ("dev/5/secret", Ruling::Denied),
        ("+/+/+/x", Ruling::Silent),
        ("dev/#", Ruling::Denied),
    ] {
        let filter = TopicFilter::parse(text, 9).unwrap();
        let start = std::time::Instant::now();
        (0..1024).for_each(|_| assert_eq!(rules.subscribe(&WHO, &filter), ruling, "{text}"));
        println!("a subscription to {text} against 100,000 denials: {} ns", start.elapsed().as_nanos() / 1024);
    }
}
