//! Effective settings: what holds for one listener or one hook, by what it says itself or else by what holds for all.

use std::time::Duration;

use super::limits::LimitsConfig;
use super::sections::{Config, HookConfig, ListenerConfig};
use super::values::{OnDeadline, StockHook, StoredDurability};

impl Config {
    /// Whether `listener` lets in clients that no hook could validate.
    pub fn allows_anonymous(&self, listener: &ListenerConfig) -> bool {
        listener.allow_anonymous.unwrap_or(self.allow_anonymous)
    }

    /// The limits that hold for clients of `listener`.
    pub fn limits_of(&self, listener: &ListenerConfig) -> LimitsConfig {
        let limits = &self.limits;
        LimitsConfig {
            connect_timeout: listener.connect_timeout.unwrap_or(limits.connect_timeout),
            max_packet_size: listener.max_packet_size.unwrap_or(limits.max_packet_size),
            receive_maximum: listener.receive_maximum.unwrap_or(limits.receive_maximum),
            topic_alias_maximum: listener.topic_alias_maximum.unwrap_or(limits.topic_alias_maximum),
            max_message_rate: listener.max_message_rate.unwrap_or(limits.max_message_rate),
            connection_rate: listener.connection_rate.unwrap_or(limits.connection_rate),
            ..limits.clone()
        }
    }

    /// The largest packet that clients of any listener may send, in bytes.
    pub fn largest_packet(&self) -> usize {
        self.listeners.iter().map(|listener| self.limits_of(listener).max_packet_size).max().unwrap_or(0)
    }

    /// How long a connection to `listener` may live; none is for ever.
    pub fn max_connection_lifetime_of(&self, listener: &ListenerConfig) -> Option<Duration> {
        listener.max_connection_lifetime.or(self.session.max_connection_lifetime)
    }

    /// What is stored of the sessions of clients of `listener`, and what they are promised, as long as no hook says otherwise.
    pub fn durability_of(&self, listener: &ListenerConfig) -> StoredDurability {
        listener.durability.unwrap_or(self.storage.durability)
    }

    /// The file that `hook` reads; none if it has none and does nothing.
    pub fn file_of(&self, hook: StockHook) -> Option<&str> {
        match hook {
            StockHook::Password => self.password_file.path.as_deref(),
            StockHook::Acl => self.acl_file.path.as_deref(),
            StockHook::Scram => self.scram_file.path.as_deref(),
        }
    }

    /// Whether the stock hooks may let some client of `listener` in: one that has a password, or one that has none.
    pub fn lets_anybody_in(&self, listener: &ListenerConfig) -> bool {
        let validates = |hook: &StockHook| matches!(hook, StockHook::Password | StockHook::Scram);
        self.allows_anonymous(listener) || self.stock_hooks_of(listener).iter().any(validates)
    }

    /// The stock hooks that clients of `listener` are put to, in the order in which they are asked: those it names, or
    /// else all that have a file.
    pub fn stock_hooks_of(&self, listener: &ListenerConfig) -> Vec<StockHook> {
        match &listener.hooks {
            Some(hooks) => hooks.clone(),
            None => {
                let all = [StockHook::Scram, StockHook::Password, StockHook::Acl];
                all.into_iter().filter(|hook| self.file_of(*hook).is_some()).collect()
            }
        }
    }
}

impl LimitsConfig {
    /// Whether clients may publish to `topic`, which begins with `$`.
    pub fn routes_dollar_topic(&self, topic: &str) -> bool {
        let is_below = |rest: &str| rest.is_empty() || rest.starts_with('/');
        self.dollar_topics.iter().any(|listed| topic.strip_prefix(&**listed).is_some_and(is_below))
    }
}

impl Config {
    /// How long an attempt to log in waits at most after failures: half of what its hook may take is left for the check.
    pub fn max_login_delay(&self) -> Duration {
        let hooks = ["auth_on_register", "auth_on_register_m5", "on_auth_m5"];
        let within = hooks.map(|hook| self.hooks.deadline_of(hook).0).into_iter().min();
        self.password_file.max_delay.min(within.unwrap_or_default() / 2)
    }
}

impl HookConfig {
    /// How long the hook called `name` may take to answer, and what it counts as if it takes longer.
    pub fn deadline_of(&self, name: &str) -> (Duration, OnDeadline) {
        let own = self.each.iter().find(|hook| hook.name == name);
        (
            own.and_then(|hook| hook.later_deadline).unwrap_or(self.later_deadline),
            own.and_then(|hook| hook.on_deadline).unwrap_or(self.on_deadline),
        )
    }
}
