//! Messages of shared subscriptions: each has one member that gets it.

use moormq::codec::QoS;

use crate::deliveries::TWICE;
use crate::history::{FILTERS, FIRST_SHARED_FILTER, matches};
use crate::judge::Judge;

impl Judge {
    /// How many shared subscriptions the session may have had that match `topic`.
    pub fn groups_of(&self, life: usize, topic: usize) -> usize {
        let ever = self.lives[life].ever;
        (FIRST_SHARED_FILTER..FILTERS.len()).filter(|filter| ever & 1 << filter != 0 && matches(*filter, topic)).count()
    }

    /// A copy for one member: at QoS 2 no other member may have it.
    pub fn see_shared(&mut self, number: u32, qos: QoS, anew: bool) {
        let is_forgetful = self.lives.iter().any(|life| life.is_forgetful);
        let message = &mut self.messages[number as usize];
        if qos != QoS::ExactlyOnce || !anew || is_forgetful {
            return;
        }
        message.groups += 1;
        let topic = message.topic;
        let groups = (FIRST_SHARED_FILTER..FILTERS.len()).filter(|filter| matches(*filter, topic)).count();
        let (copies, routes) = (message.groups as usize, message.routes.len());
        if copies > groups * routes {
            let detail = format!("{copies} members of {groups} shared subscriptions got message {number}");
            self.find(TWICE, detail);
        }
    }

    pub fn judge_shared(&mut self) {
        for at in 0..self.messages.len() {
            let message = &self.messages[at];
            let careless = self.careless[self.mount_of(message.subject)];
            let holds = |(life, number): &(usize, u32)| {
                let life = &self.lives[*life];
                !life.ended && life.subscriptions.iter().any(|one| one.number == *number)
            };
            let careful = message.shared.iter().filter(|(filter, _)| careless & 1 << filter == 0);
            let due = careful.filter(|(_, members)| members.iter().any(holds)).count();
            if due == 0 {
                continue;
            }
            let accounted: usize = self.lives.iter().map(|life| life.accounted(at as u32)).sum();
            if accounted < due {
                let detail =
                    format!("message {at} is accounted for {accounted} times of {due} in its shared subscriptions");
                self.find("messages: none is lost of a shared subscription", detail);
            }
        }
    }
}
