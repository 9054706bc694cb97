//! What a lane hands to its parts by reference: the room it serves and the services it uses.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    delivery::{
        compose::ComposeInput,
        gate::{Gate, Permit},
        queue::SharedPriority,
        settings::Settings,
        transport::Transport,
    },
    health::Health,
    metrics::{ANSWER, Metrics},
    model::{Form, Op, OpKind, RoomAddress, RoomName, ShownCard, TxnId},
    store::Store,
};

/// Takes a card of one incident once its first event is in the room. It never waits.
pub type OnShown = Arc<dyn Fn(ShownCard) + Send + Sync>;

/// What all lanes share.
#[derive(Clone)]
pub struct LaneContext {
    /// Changes with every config that a reload applies.
    pub settings: watch::Receiver<Arc<Settings>>,
    pub store: Store,
    pub transport: Arc<dyn Transport>,
    pub gate: Arc<Gate>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub on_shown: OnShown,
}

/// One lane's room and services. It changes between two turns only, when a reload has been applied.
pub(super) struct RoomContext {
    pub room: RoomAddress,
    /// What the room is called in log and metrics.
    pub name: RoomName,
    /// The config of this turn.
    pub settings: Arc<Settings>,
    /// Ends the lane after the send in flight.
    pub stop: CancellationToken,
    pub store: Store,
    pub transport: Arc<dyn Transport>,
    pub gate: Arc<Gate>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub on_shown: OnShown,
}

impl RoomContext {
    pub fn new(room: RoomAddress, shared: &LaneContext, stop: CancellationToken) -> Self {
        let LaneContext { settings, store, transport, gate, clock, metrics, health, on_shown } = shared.clone();
        let settings = settings.borrow().clone();
        let name = settings.name_of(&room);
        Self { room, name, settings, stop, store, transport, gate, clock, metrics, health, on_shown }
    }

    /// Uses these settings from now on.
    pub fn apply(&mut self, settings: Arc<Settings>) {
        self.name = settings.name_of(&self.room);
        self.settings = settings;
    }

    /// Waits at the gate; `None` when the lane must stop.
    pub async fn enter_gate(&self, priority: impl Into<SharedPriority>) -> Option<Permit> {
        self.gate.enter(&self.stop, priority).await
    }

    /// The input for composing an op under a new transaction id.
    pub fn compose_input(&self, form: Form) -> ComposeInput<'_> {
        ComposeInput {
            config: &self.settings.config,
            style: &self.settings.style,
            now: self.clock.now(),
            wall: self.clock.wall(),
            txn_id: TxnId(ulid::Ulid::new().to_string()),
            device: self.transport.device(&self.room),
            form,
        }
    }

    pub fn count(&self, kind: OpKind, outcome: &str) {
        self.metrics.room_events.with_label_values(&[self.name.as_str(), kind.as_str(), outcome]).inc();
    }

    /// Counts a try to send an answer.
    pub fn count_answer(&self, outcome: &str) {
        self.metrics.room_events.with_label_values(&[self.name.as_str(), ANSWER, outcome]).inc();
    }

    /// Counts an op that is sent again although its first try may have arrived.
    pub fn count_possible_duplicate(&self, op: &Op) {
        self.metrics.possible_duplicates.inc();
        tracing::warn!(
            notification = %op.notification, incident = %op.incident, room = %self.name, kind = op.kind.as_str(),
            "sending again; may be in the room twice"
        );
    }
}
