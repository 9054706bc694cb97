//! Silences as cards name them.

use std::collections::{BTreeMap, HashMap};

use super::{
    api::{ApiSilence, SilenceState},
    marker,
};
use crate::{model::KnownSilence, text::one_line};

/// Characters of a name and of a comment that are kept.
const NAME: usize = 120;
const COMMENT: usize = 300;

/// The active silences by id. `names`: who asked for those that were made from a room.
pub(super) fn known(silences: Vec<ApiSilence>, names: &BTreeMap<String, String>) -> HashMap<String, KnownSilence> {
    let active = silences.into_iter().filter(|silence| silence.state == SilenceState::Active);
    let known = active.map(|silence| {
        let by = names.get(&silence.id).unwrap_or(&silence.created_by);
        let known = KnownSilence {
            by: one_line(by.trim(), NAME),
            until: silence.ends_at,
            comment: one_line(marker::reason(&silence.comment), COMMENT),
            id: silence.id.clone(),
        };
        (silence.id, known)
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn a_silence_of_ours_has_the_name_of_the_person() {
        let silence = |id: &str, state| ApiSilence {
            id: id.to_owned(),
            state,
            created_by: "@alice:example.org".to_owned(),
            comment: format!("{}\nx [mar:01J/0]", "c".repeat(400)),
            ends_at: Timestamp(5),
            ..ApiSilence::default()
        };
        let names = BTreeMap::from([("ours".to_owned(), "Alice\n".to_owned())]);
        let list = vec![
            silence("ours", SilenceState::Active),
            silence("theirs", SilenceState::Active),
            silence("over", SilenceState::Expired),
            silence("later", SilenceState::Pending),
        ];
        let known = known(list, &names);
        assert_eq!(known.len(), 2);
        assert_eq!(known["ours"].by, "Alice");
        assert_eq!(known["theirs"].by, "@alice:example.org");
        assert_eq!(known["ours"].comment.chars().count(), COMMENT + 1, "cut, with an ellipsis");
    }
}
