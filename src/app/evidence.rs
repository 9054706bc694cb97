//! Connects cards that were just shown, and what people ask for, with what makes evidence.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::{
    clock::Clock,
    delivery::{OnShown, Settings},
    evidence::{
        ShownCard,
        make::Maker,
        show::{self, Offers, ShowContext},
        sources::Services,
    },
    lifecycle::Lifecycle,
    matrix::Account,
    metrics::Metrics,
    store::Store,
};

/// Cards that lanes have shown, on their way to the task that makes evidence for them.
pub struct Shown {
    settings: show::Settings,
    offers: Offers,
    inbox: mpsc::Receiver<ShownCard>,
}

impl Shown {
    pub fn new(settings: watch::Receiver<Arc<Settings>>, metrics: &Arc<Metrics>) -> Self {
        let settings: show::Settings = Arc::new(move || {
            let settings = settings.borrow();
            (Arc::clone(&settings.config), Arc::clone(&settings.style))
        });
        let (offers, inbox) = Offers::new(Arc::clone(&settings), Arc::clone(metrics));
        Self { settings, offers, inbox }
    }

    /// What lanes call.
    pub fn on_shown(&self) -> OnShown {
        let offers = self.offers.clone();
        Arc::new(move |card| offers.offer(card))
    }

    /// Starts the task; it sleeps as long as no route shows evidence. Returns what makes evidence for those who ask.
    pub fn start(
        self,
        account: &Arc<Account>,
        store: Store,
        clock: Clock,
        metrics: Arc<Metrics>,
        lifecycle: &Lifecycle,
    ) -> Arc<Maker> {
        let maker = Arc::new(Maker::new(Arc::clone(account) as _, Arc::new(Services)));
        let context = ShowContext { settings: self.settings, store, maker: Arc::clone(&maker), clock, metrics };
        lifecycle.spawn(show::run(context, self.inbox, lifecycle.stop()));
        maker
    }
}
