//! `!logs` and `!graph`: made by the same functions as what nobody asked for, and answered like other questions.

use crate::{
    acts::{
        answers::{content, words},
        work::Work,
    },
    evidence::{
        MAX_LINES, NoEvidence,
        make::{Wanted, question},
    },
    model::{ActState, EvidenceKind},
    store::StoreError,
};

/// Log lines if no number is asked for.
const LINES: usize = 10;

/// # Errors
/// When it cannot be committed. After a crash it is made once more, and answered once.
pub async fn show(work: &Work<'_>, kind: EvidenceKind) -> Result<(), StoreError> {
    let (context, act, settings) = (work.context, work.act(), work.settings);
    let question = {
        let read = match &act.incident {
            Some(incident) => context.store.incident_with_alerts(incident).await?,
            None => None,
        };
        let Some(read) = read else {
            return work.refuse(&words::refusal("Nothing is known of this any more")).await;
        };
        let lines = act.args.count.unwrap_or(LINES).min(MAX_LINES);
        let wanted = Wanted { kind, alert: act.args.alert.as_deref(), lines, now: context.clock.wall() };
        question(&settings.config, &settings.style, work.route, &act.room, &read.incident, &wanted)
    };
    let made = match question {
        Ok(question) => context.evidence.make_asked(&question).await,
        Err(why) => Err(why),
    };
    match made {
        Ok(piece) => work.end(ActState::Done, "done", vec![content::evidence(act, &piece)]).await,
        Err(why) => {
            let answer = words::no_evidence(kind, &why);
            match why {
                NoEvidence::Failed(_) | NoEvidence::TimedOut | NoEvidence::NotUploaded(_) => work.fail(&answer).await,
                _ => work.refuse(&answer).await,
            }
        }
    }
}
