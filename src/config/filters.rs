//! Lists of topic filters.

use toml::de::DeValue;

use super::kind::{Kind, quoted, text};

/// Topic filters, perhaps none at all. Not those of shared subscriptions.
pub(super) struct TopicFilters;

impl Kind for TopicFilters {
    type Value = Vec<String>;

    fn expected(&self) -> String {
        "a list of topic filters, such as [\"alarms/#\", \"orders/+/new\"]".to_owned()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Vec<String>> {
        match value {
            DeValue::Array(items) => items.iter().map(|item| text(item.get_ref()).map(str::to_owned)).collect(),
            _ => None,
        }
    }

    fn write(&self, value: &Vec<String>) -> String {
        let filters: Vec<String> = value.iter().map(quoted).collect();
        format!("[{}]", filters.join(", "))
    }

    /// [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1].
    fn allows(&self, value: &Vec<String>) -> bool {
        value.iter().all(|filter| {
            let levels: Vec<&str> = filter.split('/').collect();
            let is_level = |(at, level): (usize, &&str)| match *level {
                "+" => true,
                "#" => at + 1 == levels.len(),
                level => !level.contains(['+', '#', '\0']),
            };
            !filter.is_empty()
                && filter.len() <= 65_535
                && levels[0] != "$share"
                && levels.iter().enumerate().all(is_level)
        })
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
