//! The account: the only place that speaks Matrix, and the only one that knows the SDK.
//!
//! One task runs for the whole life of the receiver ([`Account::start`]): it finds a session that the homeserver
//! takes (`connect`) and decides whether it may have keys (`mode`), then keeps it in step (`sync`) and in its rooms
//! (`rooms`), sees to its trust (`trust`), and begins anew when the session is refused. A session that must get no keys
//! serves plain rooms only (`token_api`). Sends (`send`) and searches for what was sent (`readback`) come from the lanes at any time and are told at
//! once why they cannot go out. No failure ends the task.

mod api;
mod encryption;
mod events;
mod rooms;
mod session;
mod sync;

use std::{
    collections::HashMap,
    fmt,
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::sync::{Notify, OnceCell, RwLock, watch};
use tokio_util::sync::CancellationToken;

use self::{
    api::client::Api,
    encryption::{recovery::RecoveryKit, upkeep::TrustUpkeep},
    rooms::Rooms,
    session::{mode::SessionMode, storage::Session},
};
pub(crate) use self::{
    api::connection::{client as http_client, locate},
    session::{
        login::{LogIn, log_in, log_out},
        storage::{StoredSession, has_keys},
    },
};
use crate::{
    clock::Clock,
    config,
    delivery::{BoxFuture, EventPresence, ReadBack, RoomChanges, Search, Transport},
    health::Health,
    metrics::Metrics,
    model::{Reason, ResolvedRoom, RoomAddress, SendError, TxnId},
    pacing::SayOnce,
};

/// Puts a device id where the next start finds it.
pub type SaveDevice = Arc<dyn Fn(String) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// Puts where an address leads to where the next start finds it.
pub type SaveResolvedRoom =
    Arc<dyn Fn(RoomAddress, ResolvedRoom) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// What an account is made of.
pub struct Setup {
    pub config: config::Matrix,
    /// The receiver's own folder: `session.json` and `matrix/<device>/` live in it.
    pub store_path: PathBuf,
    /// Every room of the config once; see [`Account::serve`] for later ones.
    pub rooms: Vec<RoomAddress>,
    /// What earlier runs found out about the rooms.
    pub resolved_rooms: HashMap<RoomAddress, ResolvedRoom>,
    pub save_resolved_room: SaveResolvedRoom,
    /// The device of the last run.
    pub known_device: Option<String>,
    pub save_device: SaveDevice,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub cancel: CancellationToken,
}

/// One Matrix account, its session and its rooms.
pub struct Account {
    setup: Setup,
    api: OnceCell<Api>,
    /// The open session. Sends hold it for reading; it is replaced only when none is under way, since two clients
    /// on one store would spoil its keys.
    open: RwLock<Option<Open>>,
    /// Whether sends can go out. Written after each try to connect, also when nothing changed.
    link: watch::Sender<Link>,
    device: Mutex<Option<String>>,
    /// The device that the next start will find.
    saved_device: Mutex<Option<String>>,
    rooms: Rooms,
    /// Sends without the SDK so far.
    sends_without_keys: AtomicU64,
    /// See [`Transport::remembers_transactions`].
    remembers_transactions: AtomicBool,
    trust_upkeep: TrustUpkeep,
    recovery_kit: RecoveryKit,
    /// Whether a sync has succeeded on the present connection.
    synced: AtomicBool,
    /// A send would like to know now whether the homeserver is back.
    wake: Notify,
    /// A send was refused for its token: look at the session again.
    suspect: Notify,
    told: Mutex<SayOnce>,
    /// What was said of the file of the token or password.
    odd_file: Mutex<Option<String>>,
}

struct Open {
    session: Session,
    mode: SessionMode,
}

/// What a send finds before it begins.
#[derive(Clone)]
enum Link {
    Up,
    Down {
        error: SendError,
        /// Trying again now may help, as opposed to a refusal that somebody has to act on.
        worth_waking: bool,
    },
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user", &self.setup.config.user_id).finish_non_exhaustive()
    }
}

impl Account {
    /// The account, and the task that must run for it to do anything. The task ends only when `cancel` is
    /// cancelled; sends still work after that, so that lanes can finish what they are at.
    pub fn start(mut setup: Setup) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let not_yet =
            Link::Down { error: api::errors::fault(Reason::NotReady, "not connected yet"), worth_waking: true };
        let account = Arc::new(Self {
            api: OnceCell::new(),
            open: RwLock::new(None),
            link: watch::Sender::new(not_yet),
            device: Mutex::new(setup.known_device.clone()),
            saved_device: Mutex::new(setup.known_device.clone()),
            rooms: Rooms::new(&setup.rooms, std::mem::take(&mut setup.resolved_rooms), &setup.config.aliases),
            sends_without_keys: AtomicU64::new(0),
            remembers_transactions: AtomicBool::new(false),
            trust_upkeep: TrustUpkeep::default(),
            recovery_kit: RecoveryKit::new(&setup.store_path, &setup.config),
            synced: AtomicBool::new(false),
            wake: Notify::new(),
            suspect: Notify::new(),
            told: Mutex::default(),
            odd_file: Mutex::default(),
            setup,
        });
        for (address, resolved) in account.rooms.resolved() {
            account.note_resolved_room(&address, &resolved);
        }
        let task = Arc::clone(&account).run();
        (account, task)
    }

    async fn run(self: Arc<Self>) {
        let cancel = self.setup.cancel.clone();
        let forever = async {
            loop {
                // A panic in the SDK must not leave a receiver that takes alerts and never again delivers one.
                if AssertUnwindSafe(self.live()).catch_unwind().await.is_err() {
                    tracing::error!("panic in the Matrix session; starting it again");
                    *self.open.write().await = None;
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = forever => {}
        }
    }

    /// Connects and stays connected; returns never.
    async fn live(&self) {
        self.restore_offline().await;
        loop {
            let (mode, session) = self.connect().await;
            self.synced.store(false, Ordering::Relaxed);
            match mode {
                SessionMode::WithKeys(client) => tokio::select! {
                    () = self.keep_synced(&client) => {}
                    () = self.keep_rooms(&client) => {}
                    () = self.token_changes(&session) => {}
                    () = self.suspect.notified() => {}
                },
                SessionMode::WithoutKeys(why) => tokio::select! {
                    () = self.serve_without_keys(why, &session.token) => {}
                    () = self.token_changes(&session) => {}
                    () = self.suspect.notified() => {}
                },
            }
        }
    }

    /// Made when first needed, so that a receiver without usable root certificates still takes alerts and says why
    /// it cannot deliver them.
    async fn reach(&self) -> Result<&Api, SendError> {
        self.api.get_or_try_init(|| Api::new(&self.setup.config)).await
    }

    /// What [`Self::reach`] has made.
    fn api(&self) -> Result<&Api, SendError> {
        self.api.get().ok_or_else(|| api::errors::fault(Reason::NotReady, "not connected yet"))
    }
}

impl Transport for Account {
    fn send<'a>(
        &'a self,
        room: &'a RoomAddress,
        txn_id: &'a TxnId,
        content: &'a str,
    ) -> BoxFuture<'a, Result<String, SendError>> {
        Box::pin(self.send_event(room, txn_id, content))
    }

    fn read_back<'a>(
        &'a self,
        room: &'a RoomAddress,
        search: Search<'a>,
    ) -> BoxFuture<'a, Result<ReadBack, SendError>> {
        Box::pin(self.read_room_back(room, search))
    }

    fn event_presence<'a>(
        &'a self,
        room: &'a RoomAddress,
        event: &'a str,
    ) -> BoxFuture<'a, Result<EventPresence, SendError>> {
        Box::pin(self.event_presence_in(room, event))
    }

    fn take_room_changes(&self, room: &RoomAddress) -> RoomChanges {
        self.rooms.take_redactions(room)
    }

    fn joined<'a>(&'a self, room: &'a RoomAddress) -> BoxFuture<'a, ()> {
        Box::pin(self.rooms.entered(room))
    }

    fn remembers_transactions(&self) -> bool {
        self.remembers_transactions.load(Ordering::Relaxed)
    }

    fn device(&self) -> Option<String> {
        self.sending_device()
    }

    fn connected(&self) -> BoxFuture<'_, Result<String, SendError>> {
        Box::pin(self.connected_device())
    }
}

/// Plain values that no panic can leave half-written.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
