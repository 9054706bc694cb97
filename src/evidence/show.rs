//! Evidence that nobody asked for: a bounded queue of cards that were just shown, and the task that makes what belongs
//! into their threads. Whatever goes wrong, the card is there already and nothing waits for this.

use std::{collections::VecDeque, sync::Arc};

use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    AT_ONCE, NoEvidence, ShownCard,
    make::{Maker, Wanted, is_configured, question},
};
use crate::{
    clock::Clock,
    config::Config,
    metrics::Metrics,
    model::{EvidenceKind, TxnId},
    render::Style,
    store::{NewAnswer, Store, StoreError, Unasked},
};

/// Cards that wait; further ones get no evidence.
const WAITING: usize = 32;

/// The config in force, so that a reload counts at once.
pub type Settings = Arc<dyn Fn() -> (Arc<Config>, Arc<Style>) + Send + Sync>;

/// What the task uses.
#[derive(Clone)]
pub struct ShowContext {
    pub settings: Settings,
    pub store: Store,
    pub maker: Arc<Maker>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

/// What of a card is shown, and how it is counted.
type Job = (ShownCard, EvidenceKind);

/// Takes cards that were just shown; cheap, and never waits.
#[derive(Clone)]
pub struct Offers {
    settings: Settings,
    metrics: Arc<Metrics>,
    queue: mpsc::Sender<ShownCard>,
}

impl Offers {
    #[must_use]
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<ShownCard>) {
        let (queue, inbox) = mpsc::channel(WAITING);
        (Self { settings, metrics, queue }, inbox)
    }

    pub fn offer(&self, card: ShownCard) {
        let (config, _) = (self.settings)();
        let kinds = kinds(&config, &card);
        if kinds.is_empty() {
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(card)) = self.queue.try_send(card) {
            for kind in kinds {
                count(&self.metrics, &(card.clone(), kind), "full");
            }
            tracing::info!(route = %card.route, room = %card.room, outcome = "full", "evidence not shown");
        }
    }
}

/// What the route wants for its cards, and the config has a service for.
fn kinds(config: &Config, card: &ShownCard) -> Vec<EvidenceKind> {
    let wanted = config.routes.get(&card.route).and_then(|route| route.evidence.as_ref());
    let Some(wanted) = wanted else { return Vec::new() };
    let is_wanted = |kind: &EvidenceKind| match kind {
        EvidenceKind::Logs => wanted.logs > 0,
        EvidenceKind::Graph => wanted.graph,
    };
    EvidenceKind::ALL.into_iter().filter(|kind| is_wanted(kind) && is_configured(config, *kind)).collect()
}

/// Makes evidence until `stop`, which does not wait for what is being made.
pub async fn run(context: ShowContext, mut inbox: mpsc::Receiver<ShownCard>, stop: CancellationToken) {
    let mut pieces: JoinSet<()> = JoinSet::new();
    let mut waiting: VecDeque<Job> = VecDeque::new();
    loop {
        while pieces.len() < AT_ONCE
            && let Some(job) = waiting.pop_front()
        {
            let context = context.clone();
            pieces.spawn(async move { show(&context, &job).await });
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            // A panic has ended one piece, and no other.
            Some(ended) = pieces.join_next() => if ended.is_err_and(|error| error.is_panic()) {
                tracing::error!("caught a panic while showing evidence");
            },
            card = inbox.recv(), if pieces.len() < AT_ONCE && waiting.is_empty() => match card {
                Some(card) => waiting.extend(kinds(&(context.settings)().0, &card).into_iter().map(|kind| (card.clone(), kind))),
                None => return,
            },
        }
    }
}

/// Makes one piece and freezes it; the lane of its room counts what becomes of it then.
async fn show(context: &ShowContext, job: &Job) {
    let (card, kind) = job;
    let (outcome, reason) = match try_to_show(context, card, *kind).await {
        // Whoever leads now shows evidence for its own cards.
        Ok(Shown::Frozen | Shown::NotWanted) | Err(StoreError::NotLeader) => return,
        Ok(Shown::Late) => ("late", String::new()),
        Ok(Shown::Replaced) => ("failed", "the card begins with another event by now".to_owned()),
        Ok(Shown::Nothing(why)) => (why.outcome(), why.to_string()),
        Err(error) => ("failed", error.to_string()),
    };
    count(&context.metrics, job, outcome);
    tracing::info!(
        incident = %card.incident, route = %card.route, room = %card.room, kind = kind.as_str(), outcome, reason,
        "evidence not shown"
    );
}

enum Shown {
    Frozen,
    /// The route shows none for a card like this.
    NotWanted,
    Late,
    /// The card has another first event by now, or this piece already.
    Replaced,
    Nothing(NoEvidence),
}

async fn try_to_show(context: &ShowContext, card: &ShownCard, kind: EvidenceKind) -> Result<Shown, StoreError> {
    let (config, style) = (context.settings)();
    let Some(route) = config.routes.get(&card.route) else { return Ok(Shown::NotWanted) };
    let Some(of_route) = &route.evidence else { return Ok(Shown::NotWanted) };
    if context.clock.now() > card.until() {
        return Ok(Shown::Late);
    }
    let asked = {
        let Some(read) = context.store.incident_with_alerts(&card.incident).await? else { return Ok(Shown::NotWanted) };
        if read.incident.severity > of_route.min_severity || read.incident.key.is_heartbeat() {
            return Ok(Shown::NotWanted);
        }
        let wanted = Wanted { kind, alert: None, lines: of_route.logs, now: context.clock.wall() };
        question(&config, &style, route, &card.room, &read.incident, &wanted)
    };
    let made = match asked {
        Ok(question) => context.maker.make(&question).await,
        Err(why) => Err(why),
    };
    let piece = match made {
        Ok(piece) => piece,
        Err(why) => return Ok(Shown::Nothing(why)),
    };
    let txn_id = TxnId(ulid::Ulid::new().to_string());
    let answer = NewAnswer {
        act: card.root.clone(),
        room: card.room.clone(),
        card: Some(card.card.clone()),
        event_type: "m.room.message".to_owned(),
        content: piece.content((&card.root, &card.root), &txn_id, Some(&card.incident)),
        txn_id,
        at: context.clock.now(),
        unasked: Some(Unasked { kind, route: card.route.clone(), until: card.until() }),
    };
    let is_frozen = context.store.freeze_evidence(answer, kind).await?;
    Ok(if is_frozen { Shown::Frozen } else { Shown::Replaced })
}

fn count(metrics: &Metrics, (card, kind): &Job, outcome: &str) {
    metrics.evidence.with_label_values(&[card.route.as_str(), kind.as_str(), outcome]).inc();
}
