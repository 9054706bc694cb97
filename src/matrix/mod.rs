//! The account: the only part that speaks Matrix, and the only one that knows the SDK.
//!
//! With replicas, a second session sends to plain rooms (`session/shared`), and the one below does the rest.
//!
//! One task runs as long as the receiver ([`Account::start`]). It connects (`session/connection`), which decides whether
//! the session may have keys. With keys it syncs (`sync`), keeps the account in its rooms (`rooms`) and the device signed
//! (`encryption/upkeep`), and hands what others say to acts (`events/acting`); without, it serves plain rooms only (`without_keys`). When the homeserver rejects the session it
//! connects again, and no failure ends it. The lanes send (`events/send`) and search for sent events (`events/read_back`)
//! at any time, and learn at once why an event cannot go out.

mod api;
mod context;
mod encryption;
mod events;
mod login;
mod probe;
mod rooms;
mod session;
mod sync;
mod without_keys;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::{OnceCell, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::rooms::power::{Create, Powers};
pub(crate) use self::{
    api::http_client::{build as http_client, locate},
    login::{LoginOutcome, LoginRequest, SharedLogin, SharedOutcome, log_in, log_out},
    session::{sdk_store::has_keys, session_file::StoredSession},
};
use self::{
    context::Context,
    encryption::upkeep::TrustUpkeep,
    events::{
        acting::{Acting, read::RoomReader},
        media::Uploader,
        presence::event_presence,
        read_back::Reader,
        send::Sender,
        sending_device::SendingDevice,
    },
    rooms::Rooms,
    session::{connection::Connection, device::in_file, mode::SessionMode, shared::Shared},
    sync::SyncLoop,
    without_keys::RoundsWithoutKeys,
};
pub use self::{
    events::acting::{ActingRooms, acting_rooms},
    rooms::SaveResolvedRoom,
    session::{
        device::SaveDevice,
        shared::{LoadSharedSession, SaveSharedSession, SharedSetup},
    },
};
use crate::{
    acts,
    clock::Clock,
    config,
    delivery::{BoxFuture, EventPresence, FrozenEvent, ReadBack, RoomChanges, Search, Transport},
    evidence,
    health::Health,
    metrics::Metrics,
    model::{Member, ResolvedRoom, RoomAddress, RoomEvent, RoomEvents, SendError},
};

/// How long to wait after a panic before the session starts again.
const PANIC_PAUSE: Duration = Duration::from_secs(5);

/// What an account is made of.
pub struct Setup {
    pub config: config::Matrix,
    /// `store.path`: `session.json` and `matrix/<device>/` are in it.
    pub store_path: PathBuf,
    /// Every room of the config once; see [`Account::serve`] for later ones.
    pub rooms: Vec<RoomAddress>,
    /// Where addresses led in earlier runs.
    pub resolved_rooms: HashMap<RoomAddress, ResolvedRoom>,
    pub save_resolved_room: SaveResolvedRoom,
    /// The device of the last run. Not used with `shared`: then `store.path` keeps it.
    pub known_device: Option<String>,
    pub save_device: SaveDevice,
    /// `None`: this receiver has no replicas, and one device does everything.
    pub shared: Option<SharedSetup>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub cancel: CancellationToken,
}

/// One Matrix account.
pub struct Account {
    context: Arc<Context>,
    connection: Connection,
    rooms: Rooms,
    trust: TrustUpkeep,
    acting: Acting,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user", &self.context.config.user_id).finish_non_exhaustive()
    }
}

impl Account {
    /// Creates the account, and the task that connects it. The task ends only when `cancel` is cancelled; sends still work
    /// after that, so that lanes can finish.
    pub fn start(setup: Setup) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let context = Arc::new(Context {
            config: setup.config,
            store_path: setup.store_path,
            clock: setup.clock,
            metrics: setup.metrics,
            health: setup.health,
            cancel: setup.cancel,
            api: OnceCell::new(),
        });
        let (known_device, save_device) = match &setup.shared {
            Some(_) => in_file(&context.store_path),
            None => (setup.known_device, setup.save_device),
        };
        let shared = setup.shared.map(|shared| Shared::new(&context, shared));
        let leads = shared.as_ref().map(Shared::leads);
        let connection = Connection::new(&context, known_device, save_device, shared);
        let synced = connection.status.synced();
        let account = Arc::new(Self {
            rooms: Rooms::new(&context, setup.resolved_rooms, setup.save_resolved_room, synced),
            trust: TrustUpkeep::new(&context, leads),
            acting: Acting::new(),
            connection,
            context,
        });
        account.rooms.serve(&setup.rooms, &account.context.config.aliases);
        let task = Arc::clone(&account).run();
        (account, task)
    }

    /// Replaces the rooms of the config and what it says about aliases. The account enters new rooms at once, and does not
    /// leave those that are gone.
    pub fn serve(&self, rooms: &[RoomAddress], aliases: &BTreeMap<RoomAddress, RoomAddress>) {
        self.rooms.serve(rooms, aliases);
        // Starts the next round of a session without keys.
        self.connection.link.wake();
    }

    /// Replaces the rooms from which people may act. Syncs bring what is said there from the next one on, which may be half
    /// a minute away; what is missing is reported as a gap, and read back.
    pub fn act_in(&self, rooms: ActingRooms) {
        self.context.health.update(|health| health.acting = !rooms.is_empty());
        self.acting.serve(rooms);
    }

    /// The end at which the events of others arrive from now on, and nowhere else. While nobody listens they are left out:
    /// whoever begins reads rooms back from where they were left.
    #[must_use]
    pub fn room_events(&self) -> mpsc::Receiver<RoomEvents> {
        self.acting.listen()
    }

    async fn run(self: Arc<Self>) {
        let forever = async {
            loop {
                // After a panic in the SDK the receiver must not accept alerts that it never delivers.
                if AssertUnwindSafe(Box::pin(self.stay_connected())).catch_unwind().await.is_err() {
                    tracing::error!("the Matrix session panicked; restarting it");
                    self.connection.drop_session().await;
                    tokio::time::sleep(PANIC_PAUSE).await;
                }
            }
        };
        let shared = async {
            match &self.connection.shared {
                Some(shared) => loop {
                    if AssertUnwindSafe(Box::pin(shared.keep())).catch_unwind().await.is_err() {
                        tracing::error!("the shared session panicked; restarting it");
                        tokio::time::sleep(PANIC_PAUSE).await;
                    }
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.context.cancel.cancelled() => {}
            () = forever => {}
            () = shared => {}
        }
    }

    /// Never returns.
    async fn stay_connected(&self) {
        let Self { context, connection, rooms, trust, acting } = self;
        connection.restore_offline().await;
        loop {
            let open = connection.connect().await;
            match &open.mode {
                SessionMode::WithKeys(client) => tokio::select! {
                    () = SyncLoop { context, connection, rooms, trust, acting }.run(client) => {}
                    () = acting.keep_reporting(client, rooms) => {}
                    () = rooms.keep_entered(&open, client) => {}
                    () = connection.needs_reconnect(&open) => {}
                },
                SessionMode::WithoutKeys(why) => tokio::select! {
                    () = RoundsWithoutKeys { context, connection, rooms }.run(&open, *why) => {}
                    () = connection.needs_reconnect(&open) => {}
                },
            }
        }
    }
}

impl Transport for Account {
    fn send<'a>(&'a self, room: &'a RoomAddress, event: FrozenEvent<'a>) -> BoxFuture<'a, Result<String, SendError>> {
        let Self { context, connection, rooms, trust, .. } = self;
        Box::pin(Sender { context, connection, rooms, trust }.send(room, event))
    }

    fn read_back<'a>(
        &'a self,
        room: &'a RoomAddress,
        search: Search<'a>,
    ) -> BoxFuture<'a, Result<ReadBack, SendError>> {
        let Self { context, connection, rooms, trust, .. } = self;
        Box::pin(Reader { context, connection, rooms, trust }.read_back(room, search))
    }

    fn event_presence<'a>(
        &'a self,
        room: &'a RoomAddress,
        event: &'a str,
    ) -> BoxFuture<'a, Result<EventPresence, SendError>> {
        Box::pin(event_presence(&self.context, &self.connection, &self.rooms, room, event))
    }

    fn take_room_changes(&self, room: &RoomAddress) -> RoomChanges {
        self.rooms.take_observed(room)
    }

    fn has_room_changes(&self, room: &RoomAddress) -> bool {
        self.rooms.has_observed(room)
    }

    fn joined<'a>(&'a self, room: &'a RoomAddress) -> BoxFuture<'a, ()> {
        Box::pin(self.rooms.entered(room))
    }

    fn remembers_transactions(&self) -> bool {
        self.connection.is_synapse()
    }

    fn device(&self, room: &RoomAddress) -> Option<String> {
        let Self { context, connection, rooms, .. } = self;
        SendingDevice { context, connection, rooms }.known(room)
    }

    fn prepare<'a>(&'a self, room: &'a RoomAddress) -> BoxFuture<'a, ()> {
        let Self { context, connection, rooms, .. } = self;
        Box::pin(SendingDevice { context, connection, rooms }.find_out(room))
    }

    fn ask_ahead<'a>(&'a self, room: &'a RoomAddress, enough: Option<Instant>) -> BoxFuture<'a, ()> {
        let Self { context, connection, rooms, trust, .. } = self;
        Box::pin(Sender { context, connection, rooms, trust }.ask_ahead(room, enough))
    }

    fn connected<'a>(&'a self, room: &'a RoomAddress) -> BoxFuture<'a, Result<String, SendError>> {
        let Self { context, connection, rooms, .. } = self;
        Box::pin(SendingDevice { context, connection, rooms }.confirmed(room))
    }
}

impl Account {
    fn room_reader(&self) -> RoomReader<'_> {
        let Self { context, connection, rooms, trust, acting } = self;
        RoomReader { context, connection, rooms, trust, acting }
    }
}

impl acts::rooms::Rooms for Account {
    fn member<'a>(&'a self, room: &'a RoomAddress, user: &'a str) -> BoxFuture<'a, Result<Member, SendError>> {
        Box::pin(self.room_reader().member(room, user))
    }

    fn read_since<'a>(
        &'a self,
        room: &'a RoomAddress,
        position: &'a str,
    ) -> BoxFuture<'a, Result<RoomEvents, SendError>> {
        Box::pin(self.room_reader().read_since(room, position))
    }

    fn event<'a>(
        &'a self,
        room: &'a RoomAddress,
        event: &'a str,
    ) -> BoxFuture<'a, Result<Option<RoomEvent>, SendError>> {
        Box::pin(self.room_reader().event(room, event))
    }
}

impl evidence::Media for Account {
    fn upload<'a>(
        &'a self,
        room: &'a RoomAddress,
        png: &'a [u8],
    ) -> BoxFuture<'a, Result<serde_json::Value, SendError>> {
        let Self { context, connection, rooms, .. } = self;
        Box::pin(Uploader { context, connection, rooms }.upload(room, png))
    }

    fn is_encrypted<'a>(&'a self, room: &'a RoomAddress) -> BoxFuture<'a, Option<bool>> {
        let Self { context, connection, rooms, .. } = self;
        Box::pin(Uploader { context, connection, rooms }.knows_encrypted(room))
    }
}
