//! Which groups this process has met, so that a webhook about another one is not read up first.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError},
};

use crate::model::IncidentKey;

/// How many groups are remembered. When it is full it begins again: a group that is not in it costs one vain try, no more.
const MOST: usize = 65_536;

/// Groups of which something is in the store, as far as this process knows.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct MetGroups {
    hasher: RandomState,
    groups: Arc<Mutex<HashSet<u64>>>,
}

impl MetGroups {
    /// Remembers the group. Returns whether it was met before; seldom it says so of a group that was not.
    pub fn meet(&self, key: &IncidentKey) -> bool {
        let group = self.hasher.hash_one((key.route.as_str(), &key.receiver, &key.group_key));
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if groups.len() >= MOST {
            groups.clear();
        }
        !groups.insert(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RouteName;

    fn key(route: &str, receiver: &str, group_key: &str) -> IncidentKey {
        let route = RouteName::parse(route).expect("a name");
        IncidentKey { route, receiver: receiver.to_owned(), group_key: group_key.to_owned() }
    }

    #[test]
    fn a_group_is_known_from_its_second_time_on() {
        let met = MetGroups::default();
        for group in
            [key("a", "matrix", "{}"), key("b", "matrix", "{}"), key("a", "other", "{}"), key("a", "matrix", "")]
        {
            assert!(!met.meet(&group), "{group:?}");
            assert!(met.meet(&group), "{group:?}");
        }
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let met = MetGroups::default();
        for n in 0..=MOST {
            met.meet(&key("a", "matrix", &n.to_string()));
        }
        assert!(!met.meet(&key("a", "matrix", "0")));
        assert!(met.groups.lock().expect("no panic").len() <= MOST);
    }
}
