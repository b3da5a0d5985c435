//! Enhanced authentication: step by step, and no registration before it has succeeded.

use crate::history::{Exchange, Plan};
use crate::judge::{Connection, Judge};

pub const EXCHANGE: &str = "authentication: step by step, and no registration before it";

impl Connection {
    /// Whether its exchange has reached the step at which it may succeed.
    fn may_be_authenticated(&self) -> bool {
        let Some(exchange) = self.exchange else { return true };
        let succeeds = matches!(exchange.plan, Plan::Accept | Plan::Rewrite | Plan::Later | Plan::AcceptLater);
        succeeds && self.steps == exchange.rounds + 1
    }
}

impl Judge {
    /// `on_auth_m5` was asked, with so many rounds left.
    pub fn authenticates(&mut self, serial: u32, step: Exchange) {
        let connection = self.connection(serial);
        let expected = connection
            .exchange
            .map(|exchange| Exchange { rounds: exchange.rounds.wrapping_sub(connection.steps), ..exchange });
        connection.steps += 1;
        if expected != Some(step) {
            self.find(EXCHANGE, format!("connection {serial}: {step:?}, and it was {expected:?}"));
        }
    }

    /// A connection is registered: the hooks must have accepted it.
    pub fn must_be_authenticated(&mut self, serial: u32) {
        let connection = self.connection(serial);
        let is_strange = connection.options.is_strange;
        if !connection.may_be_authenticated() || is_strange {
            let detail =
                format!("connection {serial} is registered after {} steps, strange {is_strange}", connection.steps);
            return self.find(EXCHANGE, detail);
        }
        (connection.exchange, connection.steps) = (None, 0);
    }

    /// A client has received the AUTH with which a re-authentication succeeds.
    pub fn authenticated(&mut self, serial: u32) {
        let connection = self.connection(serial);
        if connection.exchange.is_none() || !connection.may_be_authenticated() {
            let detail = format!("connection {serial} authenticated again after {} steps", connection.steps);
            return self.find(EXCHANGE, detail);
        }
        (connection.exchange, connection.steps) = (None, 0);
    }

    /// It authenticates again, and is at the last step of what may be refused.
    pub fn may_fail_to_authenticate(&self, serial: u32) -> bool {
        let connection = &self.connections[serial as usize];
        connection.exchange.is_some_and(|exchange| exchange.plan.refuses() && connection.steps > 0)
    }
}
