//! Who runs where.

use crate::failure::Failure;
use crate::scenario::CoreLayout;

/// The cores of a measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cores {
    /// That of the brokers.
    pub broker: usize,
    /// That of the second shard, where there is one: one of its own if there are three, else that of the generator.
    pub second: usize,
    /// That of the generator.
    pub generator: usize,
}

impl Cores {
    /// Out of those `cores` that there are: the first for the brokers and the last for the generator, unless chosen otherwise.
    ///
    /// # Errors
    ///
    /// If brokers and generator would have to share.
    pub fn choose(cores: &[usize], broker: Option<usize>, generator: Option<usize>) -> Result<Self, Failure> {
        let other_than = |taken: &[Option<usize>]| {
            let taken = taken.to_vec();
            move |core: &&usize| !taken.contains(&Some(**core))
        };
        let broker = broker.or_else(|| cores.iter().find(other_than(&[generator])).copied());
        let generator = generator.or_else(|| cores.iter().rev().find(other_than(&[broker])).copied());
        match (broker, generator) {
            (Some(broker), Some(generator)) if broker != generator => {
                let second = cores.iter().find(other_than(&[Some(broker), Some(generator)])).copied();
                Ok(Cores { broker, second: second.unwrap_or(generator), generator })
            }
            _ => Err(Failure::System("brokers and generator need a core each".to_owned())),
        }
    }

    /// Those of a broker.
    pub fn of(&self, layout: CoreLayout) -> Vec<usize> {
        match layout {
            CoreLayout::Own | CoreLayout::TwoOnOne => vec![self.broker],
            CoreLayout::WithGenerator => vec![self.generator],
            CoreLayout::Two => vec![self.broker, self.second],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_and_generator_never_share_a_core_unless_a_second_shard_has_to() {
        let choose = |cores: &[usize], broker, generator| {
            Cores::choose(cores, broker, generator).ok().map(|cores| (cores.broker, cores.second, cores.generator))
        };
        assert_eq!(choose(&[2, 3, 5], None, None), Some((2, 3, 5)));
        assert_eq!(choose(&[2, 3, 5], Some(5), None), Some((5, 2, 3)));
        assert_eq!(choose(&[2, 3, 5], None, Some(2)), Some((3, 5, 2)));
        assert_eq!(choose(&[2, 5], None, None), Some((2, 5, 5)));
        assert_eq!(choose(&[2], None, None), None);
        assert_eq!(choose(&[2, 3], Some(3), Some(3)), None);
    }
}
