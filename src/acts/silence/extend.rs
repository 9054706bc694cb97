//! Extends silences that are there.

use super::{
    said::{Fit, find, silenced, title},
    surplus,
};
use crate::{
    acts::work::Work,
    alertmanager::{
        api::{ApiSilence, NewSilence},
        client::{ApiError, Client},
    },
    model::Timestamp,
    render::answer::Answer,
    store::{SilenceRow, SilenceRowState, StoreError},
};

pub(super) struct Extended {
    pub answer: Answer,
    /// What somebody has expired meanwhile.
    pub gone: Vec<Fit>,
}

/// Extends silences that are there; never shortens one. What Alertmanager has of them counts, since somebody may have
/// changed them there.
pub(super) async fn extend(
    work: &Work<'_>,
    client: &Client,
    own: &[SilenceRow],
    fits: Vec<Fit>,
    ends_at: Timestamp,
) -> Result<Result<Extended, ApiError>, StoreError> {
    // After a try without an answer, any peer may have what the try made.
    let known = if work.act().attempts == 0 { client.silences(false, None).await } else { all(client).await };
    let known = match known {
        Ok(known) => known,
        Err(error) => return Ok(Err(error)),
    };
    let marked = surplus::marked(&known);
    let (mut gone, mut until, mut lines) = (Vec::new(), None::<Timestamp>, Vec::new());
    for fit in fits {
        let Some(row) = find(own, &fit) else { continue };
        let there = marked.get(&(row.act.as_str(), row.n));
        let Some(silence) = there.and_then(|there| surplus::keep(there, row.silence_id.as_deref())) else {
            work.context.store.note_silence(row, SilenceRowState::Ended, None, None).await?;
            gone.push(fit);
            continue;
        };
        let mut ends = silence.ends_at;
        let mut id = silence.id.clone();
        if ends < ends_at {
            let longer = NewSilence {
                id: Some(silence.id.clone()),
                matchers: silence.matchers.clone(),
                starts_at: silence.starts_at,
                ends_at,
                created_by: silence.created_by.clone(),
                comment: silence.comment.clone(),
            };
            (id, ends) = match client.post_silence(&longer).await {
                Ok(id) => (id, ends_at),
                Err(error) => return Ok(Err(error)),
            };
        }
        work.context.store.note_silence(row, SilenceRowState::Live, Some(id), Some(ends)).await?;
        until = Some(until.map_or(ends, |until| until.min(ends)));
        lines.push((fit.matchers, fit.alerts));
    }
    let until = until.unwrap_or(ends_at);
    let title = title(work).await?;
    let answer = silenced(work, &title, until, &lines);
    Ok(Ok(Extended { answer, gone }))
}

/// The silences of every peer.
async fn all(client: &Client) -> Result<Vec<ApiSilence>, ApiError> {
    let lists = futures_util::future::join_all((0..client.peers()).map(|peer| client.silences(true, Some(peer)))).await;
    let mut all = Vec::new();
    for list in lists {
        all.extend(list?);
    }
    Ok(all)
}
