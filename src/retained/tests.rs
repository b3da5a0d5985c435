//! Several shards that ask each other, without clients: what a reader takes is what it is given.

use super::*;
use crate::message::Publication;

const READER: u32 = 7;

fn shards_with(count: usize, page_messages: usize) -> Vec<Retained> {
    let config = RetainedConfig { page_messages, ..RetainedConfig::default() };
    let quotas = Quotas::new(&crate::config::Config::default(), count);
    let hasher = || crate::sharding::hasher(7);
    (0..count).map(|own| Retained::new((own, count), hasher(), quotas.clone(), &config)).collect()
}

fn shards(count: usize) -> Vec<Retained> {
    shards_with(count, 256)
}

fn publication<'a>(topic: &'a str, payload: &'a str) -> Publication<'a> {
    let mut publication = Publication::new(TopicName::trusted(topic), payload.as_bytes());
    publication.retain = true;
    publication
}

fn filters(filters: &[&str]) -> Vec<TopicFilter> {
    filters.iter().map(|filter| TopicFilter::parse(filter, 8).expect("a valid filter")).collect()
}

/// A topic that `owner` of two shards owns: the one with this number.
fn topic_of(shards: &[Retained], owner: usize, number: usize) -> String {
    let mut topics =
        (0..).map(|number| format!("t{number:03}")).filter(|topic| shards[0].topic("", topic).owner == owner);
    topics.nth(number).expect("there are many")
}

fn apply(shards: &mut [Retained], from: usize, owner: usize, topic: &str, payload: &str) {
    let message = publication(topic, payload).keep();
    shards[owner].apply(from, 0, message, &RetainedConfig::default());
}

/// Shard `from` publishes, and the owner applies it.
fn publish(shards: &mut [Retained], from: usize, topic: &str, payload: &str) -> u64 {
    let (owner, number) = shards[from].send("", &publication(topic, payload));
    apply(shards, from, owner, topic, payload);
    number
}

/// Shard `from` publishes each topic, with its name as payload.
fn publish_all(shards: &mut [Retained], from: usize, topics: &[String]) {
    for topic in topics {
        publish(shards, from, topic, topic);
    }
}

/// The reader of shard 0 subscribes, and all shards have taken its filters in.
fn subscribe(shards: &mut [Retained], wanted: &[&str]) {
    shards[0].begin(1, filters(wanted));
    for from in 1..shards.len() {
        let sent = shards[from].tell_sent(0, "", &filters(wanted));
        shards[0].learn_sent(from, &sent);
        shards[0].taken_in(1, from);
    }
    let gathered = shards[0].gathered(1).expect("it wants what is retained");
    shards[0].replay(1, (READER, true), &"".into(), gathered);
}

/// The only question that is due for the reader, or none.
fn question(shard: &mut Retained) -> Option<(usize, RetainedQuestion)> {
    let mut questions = shard.questions(READER);
    assert!(questions.len() <= 1, "one at a time");
    questions.pop()
}

/// Asks what is to be asked, and brings the answer. False if nothing is to be asked, or it cannot be answered yet.
fn fetch(shards: &mut [Retained]) -> bool {
    for (owner, question) in shards[0].questions(READER) {
        shards[owner].ask(0, 0, question);
    }
    let mut answered = false;
    for owner in 0..shards.len() {
        while let Some(work) = shards[owner].next_work(Time::ZERO) {
            if let Work::Answer(to, page, _) = work {
                shards[to].answered(page, (0, 0));
                answered = true;
            }
        }
    }
    answered
}

/// The page with which `owner` answers shard 0.
fn answer(shards: &mut [Retained], owner: usize) -> RetainedPage {
    let mut work = std::iter::from_fn(|| shards[owner].next_work(Time::ZERO));
    let page = work.find_map(|work| match work {
        Work::Answer(0, page, _) => Some(page),
        Work::Answer(..) | Work::Reader(_) | Work::Begin(_) => None,
    });
    page.expect("the question can be answered")
}

fn take(shards: &mut [Retained]) -> Option<String> {
    let (_, message) = shards[0].next_message(READER)?;
    let text = String::from_utf8_lossy(message.payload()).into_owned();
    shards[0].message_done(READER);
    Some(text)
}

/// All that the reader is given.
fn taken(shards: &mut [Retained]) -> Vec<String> {
    let mut taken = Vec::new();
    while shards[0].is_replaying(READER) {
        match take(shards) {
            Some(text) => taken.push(text),
            None if fetch(shards) => {}
            None => break,
        }
    }
    taken
}

fn nothing_is_left(shards: &[Retained]) -> bool {
    shards.iter().all(|shard| shard.pending() + shard.replays() == 0) && shards[0].replays.is_bare()
}

#[test]
fn all_owners_are_asked_about_a_wildcard_and_one_about_a_topic() {
    let mut shards = shards(2);
    let topics = [0, 1].map(|owner| topic_of(&shards, owner, 0));
    for (owner, topic) in topics.iter().enumerate() {
        publish(&mut shards, 0, topic, &owner.to_string());
    }
    subscribe(&mut shards, &["+"]);
    assert_eq!(taken(&mut shards), ["0", "1"]);
    subscribe(&mut shards, &[&topics[1]]);
    assert!(question(&mut shards[0]).is_some_and(|(owner, _)| owner == 1));
    shards[0].forget_reader(READER);
    assert!(nothing_is_left(&shards));
}

/// The numbers of the subscriptions that need not wait any more.
fn begun(shard: &mut Retained) -> Vec<u64> {
    std::iter::from_fn(|| shard.replays.next_begun()).collect()
}

#[test]
fn a_subscription_waits_for_the_first_page_of_every_owner_and_nothing_is_sent_before() {
    let mut shards = shards_with(2, 1);
    for owner in [0, 0, 1] {
        let topic = topic_of(&shards, owner, shards[0].len());
        publish(&mut shards, 0, &topic, &owner.to_string());
    }
    subscribe(&mut shards, &["#"]);
    let asked = shards[0].questions(READER);
    assert_eq!(asked.iter().map(|(owner, _)| *owner).collect::<Vec<_>>(), [0, 1]);
    for (owner, question) in asked {
        assert_eq!((begun(&mut shards[0]), shards[0].next_message(READER).is_some()), (vec![], false));
        shards[owner].ask(0, 0, question);
        let page = answer(&mut shards, owner);
        shards[0].answered(page, (0, 0));
    }
    assert!(shards[0].needs_turn());
    assert_eq!((begun(&mut shards[0]), shards[0].replays.here()), (vec![1], 2));
    assert_eq!(take(&mut shards), Some("0".to_owned()));
    let (owner, _) = question(&mut shards[0]).expect("it has one more");
    assert_eq!(owner, 0, "one after the other now");
    shards[0].forget_reader(READER);
    assert!(nothing_is_left(&shards) && begun(&mut shards[0]).is_empty());
}

#[test]
fn a_subscription_does_not_wait_if_its_reader_leaves_or_has_others_before_it() {
    let mut shards = shards(2);
    subscribe(&mut shards, &["#"]);
    shards[0].set_online(READER, false);
    assert_eq!(begun(&mut shards[0]), [1], "the reader has left");
    subscribe(&mut shards, &["+"]);
    assert_eq!(begun(&mut shards[0]), [1], "the reader is away");
    shards[0].set_online(READER, true);
    subscribe(&mut shards, &["a"]);
    assert_eq!(begun(&mut shards[0]), [1], "others are before it");
    assert_eq!(taken(&mut shards), [""; 0]);
    subscribe(&mut shards, &["a", "b"]);
    assert!(begun(&mut shards[0]).is_empty());
    shards[0].stop_replaying(READER, &filters(&["a", "b"]));
    assert_eq!(begun(&mut shards[0]), [1], "it is not wanted any more");
    subscribe(&mut shards, &["a"]);
    shards[0].forget_reader(READER);
    assert_eq!(begun(&mut shards[0]), [1], "the reader has gone");
    assert!(nothing_is_left(&shards));
}

#[test]
fn a_reader_is_given_page_after_page_as_it_takes_them() {
    for (count, page) in [(1, 1), (1, 3), (2, 1), (3, 4)] {
        let mut shards = shards_with(count, page);
        let topics: Vec<_> = (0..20).map(|number| format!("t{number:03}")).collect();
        publish_all(&mut shards, 0, &topics);
        subscribe(&mut shards, &["#"]);
        let mut all = Vec::new();
        while shards[0].is_replaying(READER) {
            fetch(&mut shards);
            let here = shards[0].replays.here();
            assert!(here <= page * count, "{here} of {page}");
            all.extend(std::iter::from_fn(|| take(&mut shards)));
        }
        all.sort();
        assert_eq!(all, topics);
        assert!(nothing_is_left(&shards));
    }
}

#[test]
fn an_owner_answers_when_it_has_applied_what_was_sent_before() {
    let mut shards = shards(2);
    let topic = topic_of(&shards, 1, 0);
    // Shard 0 has published it, and its message to the owner is still on its way.
    assert_eq!(shards[0].send("", &publication(&topic, "old")), (1, 1));
    subscribe(&mut shards, &[&topic]);
    assert!(!fetch(&mut shards) && shards[1].pending() == 1);
    apply(&mut shards, 0, 1, &topic, "old");
    assert!(shards[1].needs_turn());
    assert_eq!(taken(&mut shards), ["old"]);
}

#[test]
fn what_comes_live_does_not_come_again() {
    let mut shards = shards(2);
    let topic = topic_of(&shards, 1, 0);
    subscribe(&mut shards, &["#"]);
    // Published on shard 1 after it has taken the filter in: it comes live from there, and the owner has it.
    assert_eq!(publish(&mut shards, 1, &topic, "new"), 1);
    assert_eq!(taken(&mut shards), [""; 0]);
}

/// Nothing older comes after what came live, whenever that is: before the page is asked for, while it is, or when it is here.
#[test]
fn nothing_older_comes_after_what_came_live() {
    for when in 0..3 {
        let mut shards = shards(2);
        let (topic, other) = (topic_of(&shards, 1, 1), topic_of(&shards, 1, 0));
        for topic in [&topic, &other] {
            publish(&mut shards, 1, topic, "old");
        }
        subscribe(&mut shards, &[&topic, &other]);
        let live = |shards: &mut [Retained]| {
            // The newer value comes live, and its message to the owner is late.
            assert_eq!(shards[0].send("", &publication(&topic, "new")), (1, 1));
        };
        if when == 0 {
            live(&mut shards);
            assert!(!fetch(&mut shards), "it is waited for");
            apply(&mut shards, 0, 1, &topic, "new");
        }
        if when == 1 {
            let (_, question) = question(&mut shards[0]).expect("it is due");
            shards[1].ask(0, 0, question);
            live(&mut shards);
            let page = answer(&mut shards, 1);
            assert_eq!(page.messages.len(), 2);
            shards[0].answered(page, (0, 0));
            assert_eq!(take(&mut shards), Some("old".to_owned()), "of the other topic");
            apply(&mut shards, 0, 1, &topic, "new");
            assert_eq!(taken(&mut shards), [""; 0]);
            continue;
        }
        if when == 2 {
            assert!(fetch(&mut shards));
            live(&mut shards);
        }
        assert_eq!(taken(&mut shards), ["old"], "of the other topic: {when}");
        assert!(nothing_is_left(&shards));
    }
}

/// A live message that the owner had when it answered may be older than what it has.
#[test]
fn what_the_owner_had_already_takes_nothing_off_a_page() {
    let mut shards = shards(2);
    let topic = topic_of(&shards, 1, 0);
    let (_, number) = shards[1].send("", &publication(&topic, "first"));
    apply(&mut shards, 1, 1, &topic, "first");
    publish(&mut shards, 0, &topic, "second");
    subscribe(&mut shards, &["#"]);
    while shards[0].next_message(READER).is_none() {
        assert!(fetch(&mut shards));
    }
    shards[0].note_live("", TopicName::trusted(&topic), 1, number);
    assert_eq!(taken(&mut shards), ["second"]);
}

#[test]
fn a_message_that_several_filters_match_comes_once_by_the_first() {
    let mut shards = shards(1);
    publish(&mut shards, 0, "a/b", "x");
    subscribe(&mut shards, &["a/+", "#"]);
    fetch(&mut shards);
    assert!(shards[0].next_message(READER).is_some_and(|(filter, _)| filter.as_str() == "a/+"));
    assert_eq!(taken(&mut shards), ["x"]);
}

#[test]
fn what_is_unsubscribed_comes_no_more_and_what_other_filters_match_does() {
    let mut shards = shards_with(1, 2);
    for topic in ["a/1", "a/2", "a/3", "b", "c"] {
        publish(&mut shards, 0, topic, topic);
    }
    subscribe(&mut shards, &["a/+", "a/3", "b"]);
    fetch(&mut shards);
    assert_eq!(take(&mut shards), Some("a/1".to_owned()));
    shards[0].stop_replaying(READER, &filters(&["a/+", "x"]));
    assert_eq!(taken(&mut shards), ["a/3", "b"]);
    subscribe(&mut shards, &["a/+"]);
    question(&mut shards[0]).expect("it is due");
    shards[0].stop_replaying(READER, &filters(&["a/+"]));
    assert!(nothing_is_left(&shards), "though a question is open");
}

#[test]
fn a_filter_that_is_subscribed_to_again_begins_anew_and_the_others_go_on() {
    let mut shards = shards_with(1, 2);
    for topic in ["a", "b", "c"] {
        publish(&mut shards, 0, topic, topic);
    }
    subscribe(&mut shards, &["#"]);
    fetch(&mut shards);
    assert_eq!(take(&mut shards), Some("a".to_owned()));
    for _ in 0..100 {
        subscribe(&mut shards, &["#"]);
    }
    assert_eq!(taken(&mut shards), ["a", "b", "c"]);
    subscribe(&mut shards, &["a", "b", "c"]);
    subscribe(&mut shards, &["a"]);
    assert_eq!(taken(&mut shards), ["b", "c", "a"]);
    assert!(nothing_is_left(&shards));
}

/// Two shards whose reader has taken the first message of so many of one owner, in pages of so many; and the topics.
fn first_of(topics: usize, page: usize) -> (Vec<Retained>, Vec<String>) {
    let mut shards = shards_with(2, page);
    let topics: Vec<_> = (0..topics).map(|number| topic_of(&shards, 0, number)).collect();
    publish_all(&mut shards, 1, &topics);
    subscribe(&mut shards, &["#"]);
    fetch(&mut shards);
    assert_eq!(take(&mut shards).as_ref(), Some(&topics[0]));
    (shards, topics)
}

#[test]
fn a_reader_that_was_away_goes_on_where_it_was() {
    let (mut shards, topics) = first_of(4, 3);
    shards[0].set_online(READER, false);
    assert!(shards[0].next_message(READER).is_none() && question(&mut shards[0]).is_none());
    assert!(shards[0].replays.is_bare() && shards[0].is_replaying(READER));
    publish(&mut shards, 1, &topics[2], "");
    shards[0].set_online(READER, true);
    let question = question(&mut shards[0]);
    shards[0].set_online(READER, false);
    shards[0].set_online(READER, true);
    let (owner, question) = question.expect("it was due");
    shards[owner].ask(0, 0, question);
    let page = answer(&mut shards, owner);
    shards[0].answered(page, (0, 0));
    assert!(shards[0].next_message(READER).is_none(), "nobody waits for that answer");
    assert_eq!(taken(&mut shards), [topics[1].as_str(), &topics[3]]);
    assert!(nothing_is_left(&shards));
}

/// What the reader saw on its old shard it does not see older on the new one, though nothing of that has come there.
#[test]
fn a_reader_that_moves_goes_on_where_it_was_and_sees_nothing_older() {
    let (mut shards, topics) = first_of(3, 1);
    fetch(&mut shards);
    // It has seen that on shard 0, and the owner, which is shard 0 as well, has not applied it.
    shards[0].note_live("", TopicName::trusted(&topics[1]), 1, 4);
    let replay = shards[0].reader_leaves(READER).expect("something is left");
    assert!(nothing_is_left(&shards));
    shards[1].reader_arrived(READER, replay, true);
    let (owner, question) = question(&mut shards[1]).expect("it is due");
    assert_eq!((owner, &*question.after), (0, &[0, 4][..]));
}

#[test]
fn what_has_expired_is_forgotten_in_every_mountpoint_in_portions() {
    let (mut shards, at) = (shards(1), Time::from_millis(5));
    for mountpoint in [0, 3] {
        for number in 0..SWEPT {
            let topic = number.to_string();
            let mut expiring = publication(&topic, "soon");
            expiring.expires = at;
            let outcome = shards[0].apply(0, mountpoint, expiring.keep(), &RetainedConfig::default());
            assert_eq!(outcome, Retention::Kept);
        }
        let outcome = shards[0].apply(0, mountpoint, publication("b", "stays").keep(), &RetainedConfig::default());
        assert_eq!(outcome, Retention::Kept);
    }
    while shards[0].forget_expired(Time::from_millis(4)) {}
    assert_eq!(shards[0].len(), 2 * SWEPT + 2);
    let mut portions = 1;
    while shards[0].forget_expired(at) {
        portions += 1;
        assert!(shards[0].len() >= 2 + (2 * SWEPT).saturating_sub(portions * SWEPT));
    }
    assert_eq!((portions, shards[0].len()), (6, 2), "two of each that has some, one of each that has none");
    assert_eq!(shards[0].bytes(), 2 * publication("b", "stays").keep().size());
}
