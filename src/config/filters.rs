//! Lists of topic filters.

use toml::de::DeValue;

use super::kind::{Kind, quoted_list, texts};
use crate::topic::TopicFilter;

/// Topic filters, perhaps none at all. Not those of shared subscriptions.
pub(super) struct TopicFilters;

impl Kind for TopicFilters {
    type Value = Vec<String>;

    fn expected(&self) -> String {
        "a list of topic filters, such as [\"alarms/#\", \"orders/+/new\"]".to_owned()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Vec<String>> {
        texts(value)
    }

    fn write(&self, value: &Vec<String>) -> String {
        quoted_list(value)
    }

    fn allows(&self, value: &Vec<String>) -> bool {
        let is_plain = |filter: &String| filter.split('/').next() != Some("$share");
        value.iter().all(|filter| is_plain(filter) && TopicFilter::check(filter).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::super::kind::tests::{accepts, refuses};
    use super::*;

    #[test]
    fn topic_filters_are_well_formed() {
        let several = "[\"a/#\", \"+/b/+\", \"#\", \"$SYS/#\"]";
        accepts(&TopicFilters, &[("[]", "[]"), (several, several)]);
        for filter in ["", "a/#/b", "a#", "+a/b", "$share/g/a", "a\\u0000"] {
            refuses(&TopicFilters, &[&format!("[\"{filter}\"]")]);
        }
        refuses(&TopicFilters, &["\"a\"", "[1]"]);
    }
}
