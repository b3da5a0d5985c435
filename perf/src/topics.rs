//! The topics and filters of a scenario, and who is to get what.

use crate::scenario::{Messages, Topology};

/// How far apart, among the topics of a publisher, those of successive messages are: a prime, so that all are used before one is used again
/// and neighbours in a table are not used together.
const STRIDE: usize = 7919;

impl Messages {
    /// Where publisher number `publisher` publishes: message number `n` to the topic that [`place`] says.
    pub fn topics(&self, publisher: usize) -> Vec<String> {
        match self.topology {
            Topology::OneTopic => vec!["perf/all".to_owned()],
            Topology::Pairs(1) | Topology::Wildcard | Topology::Shared => vec![format!("perf/{publisher}/data")],
            Topology::Pairs(each) => (0..each).map(|number| format!("perf/{publisher}/{number}/data")).collect(),
            Topology::Scattered(_) => self.numbers(publisher).map(scattered_topic).collect(),
        }
    }

    /// What subscriber number `subscriber` subscribes to.
    pub fn filters(&self, subscriber: usize) -> Vec<String> {
        match self.topology {
            Topology::OneTopic | Topology::Pairs(_) => self.topics(subscriber),
            Topology::Wildcard => vec!["perf/+/data".to_owned()],
            Topology::Shared => vec!["$share/group/perf/+/data".to_owned()],
            Topology::Scattered(each) => (subscriber * each..(subscriber + 1) * each).map(scattered_filter).collect(),
        }
    }

    /// The only subscriber that is to get message number `sequence` of `publisher`; none if several are, or any one of them.
    #[inline]
    pub fn receiver(&self, publisher: usize, sequence: u32) -> Option<usize> {
        match self.topology {
            Topology::Pairs(_) => Some(publisher),
            Topology::OneTopic | Topology::Wildcard | Topology::Shared => None,
            Topology::Scattered(each) => {
                let topics = self.numbers(publisher).len();
                Some((publisher + place(sequence, topics) * self.publishers) / each)
            }
        }
    }

    /// The numbers of the scattered filters that this publisher publishes to.
    fn numbers(&self, publisher: usize) -> std::iter::StepBy<std::ops::Range<usize>> {
        let Topology::Scattered(each) = self.topology else { return (0..0).step_by(1) };
        (publisher..self.subscribers * each).step_by(self.publishers)
    }
}

/// Which of `topics` topics message number `sequence` goes to.
#[inline]
pub fn place(sequence: u32, topics: usize) -> usize {
    if topics == 1 { 0 } else { (sequence as usize * STRIDE) % topics }
}

/// Filter number `number`: four shapes in turn.
fn scattered_filter(number: usize) -> String {
    match number % 4 {
        0 => format!("perf/{number}/+"),
        1 => format!("perf/+/{number}"),
        2 => format!("perf/{number}/#"),
        _ => format!("+/{number}/data"),
    }
}

/// A topic that filter number `number` matches, and no other.
fn scattered_topic(number: usize) -> String {
    match number % 4 {
        0 => format!("perf/{number}/state"),
        1 => format!("perf/state/{number}"),
        2 => format!("perf/{number}/state/now"),
        _ => format!("site/{number}/data"),
    }
}

#[cfg(test)]
mod tests {
    use moormq::topic::{TopicFilter, TopicName};

    use super::*;
    use crate::catalogue::named;
    use crate::scenario::Kind;

    fn scattered() -> Messages {
        let Kind::Messages(messages) = named("wild_1m").unwrap().kind else { panic!() };
        Messages { publishers: 3, subscribers: 4, topology: Topology::Scattered(5), ..messages }
    }

    #[test]
    fn each_scattered_topic_matches_the_one_filter_of_its_receiver() {
        let messages = scattered();
        let mut used = Vec::new();
        for publisher in 0..messages.publishers {
            let topics = messages.topics(publisher);
            for sequence in 0..topics.len() as u32 {
                let topic = &topics[place(sequence, topics.len())];
                let matching: Vec<usize> = (0..messages.subscribers)
                    .flat_map(|subscriber| {
                        messages.filters(subscriber).into_iter().map(move |filter| (subscriber, filter))
                    })
                    .filter(|(_, filter)| matches(filter, topic))
                    .map(|(subscriber, _)| subscriber)
                    .collect();
                assert_eq!(matching, [messages.receiver(publisher, sequence).unwrap()], "{topic}");
                used.push(topic.clone());
            }
        }
        used.sort();
        used.dedup();
        assert_eq!(used.len(), 20);
    }

    fn matches(filter: &str, topic: &str) -> bool {
        TopicFilter::parse(filter, 8).unwrap().matches(TopicName::trusted(topic))
    }

    #[test]
    fn all_topics_are_used_before_one_is_used_again() {
        for topics in [1, 1000, 20_000] {
            let mut places: Vec<usize> = (0..topics as u32).map(|sequence| place(sequence, topics)).collect();
            places.sort_unstable();
            assert!(places.into_iter().eq(0..topics));
        }
    }
}
