//! A silence with the same matchers is there already: it is extended, never shortened. Whoever else asks for it shares it,
//! so that it lasts until nobody wants it any more.

use super::{cover::Fit, matchers::parse, surplus};
use crate::{
    acts::work::Work,
    alertmanager::{
        api::{ApiSilence, Matcher, NewSilence, SilenceState},
        client::{ApiError, Client},
    },
    model::{IncidentId, Timestamp},
    store::{SilenceRow, SilenceRowState, StoreError},
};

/// The silences of the incident that matter to what somebody asks for now: their own, and those of others with the same
/// matchers. `None`: it is not known of one whether it is there.
pub(super) async fn known(
    work: &Work<'_>,
    incident: &IncidentId,
    fits: &[Fit],
) -> Result<Option<Vec<SilenceRow>>, StoreError> {
    let mut rows = work.context.store.silences_of_incident(incident).await?;
    let is_wanted = |row: &SilenceRow| fits.iter().any(|fit| parse(&row.matchers) == fit.matchers);
    rows.retain(|row| row.created_by == work.act().sender || is_wanted(row));
    Ok(rows.iter().all(|row| row.state == SilenceRowState::Live).then_some(rows))
}

/// The silence with these matchers, rather the sender's own one.
pub(super) fn find<'r>(known: &'r [SilenceRow], fit: &Fit, sender: &str) -> Option<&'r SilenceRow> {
    let mut same = known.iter().filter(|row| parse(&row.matchers) == fit.matchers);
    let first = same.clone().next();
    same.find(|row| row.created_by == sender).or(first)
}

/// What became of the silences that are there.
#[derive(Default)]
pub(super) struct Extended {
    /// What the sender's own ones match, and how many alerts that are now.
    pub own: Vec<(Vec<Matcher>, usize)>,
    /// When the first of these ends.
    pub until: Option<Timestamp>,
    /// Those of others, as the sender's; without number and marker.
    pub shared: Vec<SilenceRow>,
    /// What somebody has expired meanwhile.
    pub gone: Vec<Fit>,
}

/// Extends silences that are there. What Alertmanager has of them counts, since somebody may have changed them there.
pub(super) async fn extend(
    work: &Work<'_>,
    client: &Client,
    known: &[SilenceRow],
    fits: Vec<Fit>,
    ends_at: Timestamp,
) -> Result<Result<Extended, ApiError>, StoreError> {
    // After a try without an answer, any peer may have what the try made.
    let listed = if work.act().attempts == 0 { client.silences(false, None).await } else { all(client).await };
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) => return Ok(Err(error)),
    };
    let sender = &work.act().sender;
    let mut extended = Extended::default();
    for fit in fits {
        let Some(row) = find(known, &fit, sender) else { continue };
        let same = || known.iter().filter(|other| other.silence_id == row.silence_id);
        let Some(silence) = in_force(&listed, row) else {
            for row in same() {
                work.context.store.note_silence(row, SilenceRowState::Ended, None, None).await?;
            }
            extended.gone.push(fit);
            continue;
        };
        let (mut ends, mut id) = (silence.ends_at, silence.id.clone());
        if ends < ends_at {
            (id, ends) = match client.post_silence(&until(silence, ends_at)).await {
                Ok(id) => (id, ends_at),
                Err(error) => return Ok(Err(error)),
            };
        }
        for row in same() {
            work.context.store.note_silence(row, SilenceRowState::Live, Some(id.clone()), Some(ends)).await?;
        }
        if row.created_by == *sender {
            extended.until = Some(extended.until.map_or(ends, |until| until.min(ends)));
            extended.own.push((fit.matchers, fit.alerts));
        } else {
            let (act, created_by, silence_id) = (work.act().id.clone(), sender.clone(), Some(id));
            extended.shared.push(SilenceRow { act, created_by, silence_id, ends_at: ends, ..row.clone() });
        }
    }
    Ok(Ok(extended))
}

/// What Alertmanager has of a silence, by its id, else by its mark.
fn in_force<'s>(listed: &'s [ApiSilence], row: &SilenceRow) -> Option<&'s ApiSilence> {
    let has_id = |silence: &&ApiSilence| Some(&silence.id) == row.silence_id.as_ref();
    let by_id = listed.iter().filter(|silence| silence.state != SilenceState::Expired).find(has_id);
    let by_mark = || surplus::keep(surplus::marked(listed).get(&(row.act.as_str(), row.n))?, None);
    by_id.or_else(by_mark)
}

fn until(silence: &ApiSilence, ends_at: Timestamp) -> NewSilence {
    NewSilence {
        id: Some(silence.id.clone()),
        matchers: silence.matchers.clone(),
        starts_at: silence.starts_at,
        ends_at,
        created_by: silence.created_by.clone(),
        comment: silence.comment.clone(),
    }
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
