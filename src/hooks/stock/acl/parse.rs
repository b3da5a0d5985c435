//! From the text of an access file to rules.

use super::rules::AclRules;
use super::scope::{Effect, Pattern, PatternError, Scope, is_placeholder};
use crate::hooks::stock::entries::{Faults, FaultyLine, FaultyLines, lines};
use crate::topic::TopicFilter;

impl AclRules {
    /// Reads the text of an access file: VerneMQ's format, and `deny`.
    ///
    /// | line | meaning |
    /// |---|---|
    /// | `topic [read\|write] FILTER` | the topics of FILTER may be subscribed to (`read`), published to (`write`), or both |
    /// | `user NAME` | the `topic` and `deny` lines that follow are for clients of this user name only; those before the first such line are for everyone |
    /// | `pattern [read\|write] FILTER` | as `topic`, for everyone, wherever it stands, with `%u`, `%c` and `%m` as levels of FILTER for user name, client id and mountpoint |
    /// | `deny [read\|write] FILTER` | the topics of FILTER must not be subscribed to, published to, or both, whatever grants it |
    /// | `deny pattern [read\|write] FILTER` | the same with a pattern, for everyone |
    ///
    /// Empty lines and lines that begin with `#` are skipped. FILTER is the rest of the line and may contain spaces. What
    /// Mosquitto's files have besides is understood too: `readwrite` for both, and `topic deny FILTER` and
    /// `pattern deny FILTER`.
    ///
    /// A subscription is granted if a single rule grants all of it (`a/+` does not grant `a/#`), and denied if a rule
    /// denies any topic of it (`a/#` is refused where `a/secret` is denied). Placeholders are filled in literally: a name
    /// with a wildcard or a slash in it fills in nothing, which is logged when such a client connects, and a first level that
    /// would then begin with `$` is not granted. (VerneMQ does the same with a slash. Filled in as levels, as Mosquitto 2.0
    /// does, whoever calls himself `ann/inbox` would have what `pattern dev/%c/#` gives to `ann` in `dev/ann/inbox`; newer
    /// ones refuse him altogether.)
    ///
    /// # Errors
    ///
    /// The lines that are none of these.
    pub fn parse(text: &str) -> Result<Self, FaultyLines> {
        let mut rules = AclRules::new();
        let (mut user, mut faults) = (None, Faults::none());
        for (number, line) in lines(text) {
            let fault = |problem: String| FaultyLine::new(number, problem);
            if let ("user", name) = word(line) {
                let is_missing = || fault("the user name is missing: user NAME".to_owned());
                user = faults.take((!name.is_empty()).then_some(name).ok_or_else(is_missing));
                continue;
            }
            let Some(rule) = faults.take(Rule::parse(line).map_err(fault)) else { continue };
            let Rule { effect, read, write, scope } = rule;
            let owner = match scope {
                Scope::Filter(_) => user,
                Scope::Pattern(_) => None,
            };
            rules.add(owner, effect, (read, write), &scope);
        }
        faults.unless_any(rules)
    }
}

/// A line that is about topics.
struct Rule {
    effect: Effect,
    read: bool,
    write: bool,
    scope: Scope,
}

impl Rule {
    fn parse(line: &str) -> Result<Self, String> {
        let (keyword, rest) = word(line);
        let (mut effect, is_pattern, rest) = match (keyword, word(rest)) {
            ("topic", _) => (Effect::Grant, false, rest),
            ("pattern", _) => (Effect::Grant, true, rest),
            // Alone behind `deny` these words are filters.
            ("deny", ("topic", more)) if !more.is_empty() => (Effect::Deny, false, more),
            ("deny", ("pattern", more)) if !more.is_empty() => (Effect::Deny, true, more),
            ("deny", _) => (Effect::Deny, false, rest),
            _ => return Err(format!("begins with {keyword}, which must be topic, pattern, deny, user or #")),
        };
        let (mut read, mut write, mut filter) = (true, true, rest);
        if let (access, more) = word(rest)
            && !more.is_empty()
        {
            match access {
                "read" => (read, write, filter) = (true, false, more),
                "write" => (read, write, filter) = (false, true, more),
                "readwrite" => filter = more,
                "deny" if keyword != "deny" => (effect, filter) = (Effect::Deny, more),
                _ => {}
            }
        }
        Ok(Rule { effect, read, write, scope: scope(is_pattern, filter)? })
    }
}

/// What a rule is about.
fn scope(is_pattern: bool, text: &str) -> Result<Scope, String> {
    if is_pattern {
        return Pattern::parse(text).map(Scope::Pattern).map_err(|error| match error {
            PatternError::PlaceholderNotAlone => {
                format!("{text} has %u, %c or %m in a level with other characters: each must be a level of its own")
            }
            PatternError::Filter(error) => not_a_filter(text, error),
        });
    }
    if text.split('/').any(is_placeholder) {
        return Err(format!("{text} has a level %u, %c or %m, which only a pattern fills in: write pattern for topic"));
    }
    let filter = TopicFilter::parse(text, usize::MAX).map_err(|error| not_a_filter(text, error))?;
    if filter.share_name().is_some() {
        return Err(format!("{text} has a share name, which does not count: write the filter behind it"));
    }
    Ok(Scope::Filter(filter))
}

fn not_a_filter(text: &str, error: impl std::fmt::Display) -> String {
    match text {
        "" => "the topic filter is missing".to_owned(),
        _ => format!("{text} is not a topic filter: {error}"),
    }
}

/// The first word of `text`, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::stock::{Identity, Ruling};
    use crate::topic::TopicName;

    const FILE: &str = "\
# for everyone
topic read news/#
topic both ways

user alice
topic home/alice/#
topic write log
deny write home/alice/locked
pattern write dev/%c/up
user bob
topic readwrite read
deny pattern read dev/+/%u
topic write
deny read news/secret
topic deny denied/#
topic $SYS/#
";

    fn identity(username: &str) -> Identity<'_> {
        Identity { username: Some(username), client_id: "c", mountpoint: "" }
    }

    fn rules() -> AclRules {
        AclRules::parse(FILE).unwrap()
    }

    #[track_caller]
    fn check(username: &str, text: &str, read: Ruling, write: Ruling) {
        let (rules, who) = (rules(), identity(username));
        let filter = TopicFilter::parse(text, 9).expect(text);
        assert_eq!(rules.subscribe(&who, &filter), read, "{username} reads {text}");
        if let Ok(topic) = TopicName::parse(text, 9) {
            assert_eq!(rules.publish(&who, topic), write, "{username} writes {text}");
        }
    }

    use Ruling::{Denied, Granted, Silent};

    #[test]
    fn lines_before_the_first_user_are_for_everyone() {
        for user in ["alice", "bob", "carol"] {
            check(user, "news/today", Granted, Silent);
            check(user, "both ways", Granted, Granted);
            check(user, "dev/c/up", Silent, Granted);
            check(user, "dev/d/up", Silent, Silent);
        }
        let nobody = Identity { username: None, ..identity("") };
        assert_eq!(rules().subscribe(&nobody, &TopicFilter::parse("news/+", 9).unwrap()), Granted);
    }

    #[test]
    fn lines_behind_a_user_are_for_that_user() {
        check("alice", "home/alice/door", Granted, Granted);
        check("bob", "home/alice/door", Silent, Silent);
        check("alice", "log", Silent, Granted);
        check("bob", "read", Granted, Granted);
        check("bob", "write", Granted, Granted);
        check("bob", "$SYS/broker", Granted, Granted);
        check("alice", "$SYS/broker", Silent, Silent);
    }

    #[test]
    fn denials_beat_grants() {
        check("alice", "home/alice/locked", Granted, Denied);
        check("alice", "home/alice/#", Granted, Granted);
        check("bob", "news/secret", Denied, Silent);
        check("bob", "news/#", Denied, Silent);
        check("bob", "news/today", Granted, Silent);
        check("alice", "news/#", Granted, Silent);
        check("bob", "denied/x", Denied, Denied);
        check("bob", "+/x", Denied, Silent);
        check("bob", "dev/x/bob", Denied, Silent);
        check("alice", "dev/x/bob", Silent, Silent);
        check("alice", "dev/x/alice", Denied, Silent);
    }

    #[test]
    fn a_filter_must_be_granted_whole() {
        check("alice", "#", Denied, Silent);
        check("carol", "+/today", Silent, Silent);
        let rules = AclRules::parse("topic a/+\n").unwrap();
        for (text, ruling) in [("a/b", Granted), ("a/+", Granted), ("a/#", Silent), ("a", Silent), ("+/b", Silent)] {
            assert_eq!(rules.subscribe(&identity("x"), &TopicFilter::parse(text, 9).unwrap()), ruling, "{text}");
        }
    }

    #[test]
    fn faults_are_told_with_their_lines() {
        for (text, fault) in [
            ("topic a\nfoo a", "line 2: begins with foo, which must be topic, pattern, deny, user or #"),
            ("\n\nuser", "line 3: the user name is missing: user NAME"),
            ("topic", "line 1: the topic filter is missing"),
            ("deny", "line 1: the topic filter is missing"),
            ("topic a/#/b", "line 1: a/#/b is not a topic filter: '#' must be the last level"),
            ("pattern read a+", "line 1: a+ is not a topic filter: '+' and '#' must be alone in their level"),
        ] {
            assert_eq!(AclRules::parse(text).expect_err(text).to_string(), fault);
        }
        let several = "topic a\nuser\ntopic a/#/b\nuser ann\ntopic b\nallow c\n";
        let faulty = AclRules::parse(several).expect_err("three lines");
        assert_eq!((faulty.lines.iter().map(|one| one.line).collect::<Vec<_>>(), faulty.more), (vec![2, 3, 6], 0));
        let problem = |text| AclRules::parse(text).expect_err(text).lines.swap_remove(0).problem;
        assert!(problem("topic dev/%c").contains("only a pattern fills in"));
        assert!(problem("pattern dev-%c").contains("each must be a level of its own"));
        assert!(problem("topic $share/g/a").contains("share name"));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let rules = AclRules::parse("\u{feff}topic a\n").unwrap();
        assert_eq!(rules.publish(&identity("x"), TopicName::trusted("a")), Granted);
    }

    #[test]
    fn names_that_fill_in_nothing_are_known() {
        let rules = AclRules::parse("pattern dev/%u/#\npattern %m/x\n").unwrap();
        let useless = |username, client_id, mountpoint| {
            let who = Identity { username, client_id, mountpoint };
            rules.useless_names(&who).map(|(place, _)| place).collect::<Vec<_>>()
        };
        assert_eq!(useless(Some("ann/x"), "a/b", "m"), ["%u"], "no pattern has a place for the client id");
        assert_eq!(useless(Some("+"), "c", "#"), ["%u", "%m"]);
        assert!(useless(None, "c", "").is_empty() && useless(Some("ann"), "c", "m").is_empty());
    }

    #[test]
    fn rules_are_counted() {
        assert_eq!((rules().len(), rules().is_empty()), (12, false));
        assert!(AclRules::parse("# nothing\nuser a\n").unwrap().is_empty());
    }
}
