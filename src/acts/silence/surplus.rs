//! Silences of one mark that are there more than once: a request that was thought lost has arrived after its repetition.

use std::collections::BTreeMap;

use crate::{
    alertmanager::{
        api::{ApiSilence, SilenceState},
        client::Client,
        marker,
    },
    store::{Store, StoreError},
};

/// Expires what is surplus among these, and returns how many. For every list of silences that a poll brings.
///
/// # Errors
/// When the store cannot be read.
pub async fn expire_surplus(store: &Store, client: &Client, silences: &[ApiSilence]) -> Result<usize, StoreError> {
    let mut expired = 0;
    for ((act, n), of_one) in marked(silences) {
        if of_one.len() < 2 {
            continue;
        }
        let Some(row) = store.silence_of_marker(act, n).await? else { continue };
        for surplus in surplus(&of_one, row.silence_id.as_deref()) {
            match client.expire_silence(&surplus.id).await {
                Ok(()) => {
                    expired += 1;
                    tracing::info!(act, silence = %surplus.id, "expired a silence made twice");
                }
                Err(error) => {
                    tracing::warn!(act, silence = %surplus.id, %error, "expiring a silence failed; will retry");
                }
            }
        }
    }
    Ok(expired)
}

/// Those that are not over, by mark.
#[must_use]
pub fn marked(silences: &[ApiSilence]) -> BTreeMap<(&str, i64), Vec<&ApiSilence>> {
    let mut by_mark: BTreeMap<(&str, i64), Vec<&ApiSilence>> = BTreeMap::new();
    for silence in silences.iter().filter(|silence| silence.state != SilenceState::Expired) {
        if let Some(mark) = marker::find(&silence.comment) {
            let of_one = by_mark.entry(mark).or_default();
            // The peers list the same one.
            if !of_one.iter().any(|known| known.id == silence.id) {
                of_one.push(silence);
            }
        }
    }
    by_mark
}

/// All but the one that is known, else the one that ends last.
#[must_use]
pub fn surplus<'s>(of_one: &[&'s ApiSilence], known: Option<&str>) -> Vec<&'s ApiSilence> {
    let kept = keep(of_one, known).map(|silence| &silence.id);
    of_one.iter().filter(|silence| Some(&silence.id) != kept).copied().collect()
}

/// The one that stays. Every peer and every run chooses the same.
#[must_use]
pub fn keep<'s>(of_one: &[&'s ApiSilence], known: Option<&str>) -> Option<&'s ApiSilence> {
    let by_id = of_one.iter().find(|silence| Some(silence.id.as_str()) == known);
    let last = || of_one.iter().max_by(|a, b| (a.ends_at, &b.id).cmp(&(b.ends_at, &a.id)));
    by_id.or_else(last).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn silence(id: &str, comment: &str, state: SilenceState, ends_at: i64) -> ApiSilence {
        ApiSilence {
            id: id.to_owned(),
            comment: comment.to_owned(),
            state,
            ends_at: Timestamp(ends_at),
            ..ApiSilence::default()
        }
    }

    #[test]
    fn one_silence_of_a_mark_stays() {
        let all = [
            silence("a", "x [mar:A/0]", SilenceState::Active, 5),
            silence("b", "x [mar:A/0]", SilenceState::Active, 5),
            silence("a", "x [mar:A/0]", SilenceState::Active, 5),
            silence("c", "x [mar:A/0]", SilenceState::Expired, 9),
            silence("d", "x [mar:A/1]", SilenceState::Active, 5),
            silence("e", "someone else's", SilenceState::Active, 5),
        ];
        let marked = marked(&all);
        let ids = |list: &[&ApiSilence]| list.iter().map(|silence| silence.id.clone()).collect::<Vec<_>>();
        assert_eq!(marked.len(), 2);
        let of_one = &marked[&("A", 0)];
        assert_eq!(ids(of_one), ["a", "b"]);
        assert_eq!(ids(&surplus(of_one, Some("b"))), ["a"]);
        assert_eq!(ids(&surplus(of_one, Some("gone"))), ["b"], "the same one each time");
        assert_eq!(ids(&surplus(of_one, None)), ["b"]);
        assert!(surplus(&marked[&("A", 1)], None).is_empty());
    }
}
