//! What one event asks for, if anything.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    acts::{
        answers::{lists::routes_of, words},
        command::{self, Command},
        context::{ActContext, ActSettings},
        limits::Refused,
        reaction,
        rights::{self, Asked},
        work::TOO_OLD,
    },
    config::Actions,
    model::{
        ActArgs, ActKind, CardKind, RoomAddress, RoomAliases, RoomEvent, RoomEventContent, RouteName, Timestamp, Trust,
    },
    store::{ActTarget, NewAct, Redacted, StoreError, TargetIncident},
};

/// Alertnames that a hint lists.
const NAMES: usize = 8;

pub(super) enum Asks {
    Nothing,
    /// What it is about may be on its way into the room: to be decided later.
    NotKnownYet,
    For(Box<NewAct>),
    Undoing(Redacted),
}

/// Why it cannot be said what an event asks for.
enum Undecided {
    NotKnownYet,
    Store(StoreError),
}

impl From<StoreError> for Undecided {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Decides for the events of one room.
pub(super) struct Decider<'a> {
    pub context: &'a ActContext,
    pub settings: &'a ActSettings,
    pub room: &'a RoomAddress,
    pub is_encrypted: bool,
    pub now: Timestamp,
    /// Whether what is not known by now is none of ours.
    pub is_last: bool,
}

/// What an event is about, and on which route.
struct About {
    route: RouteName,
    incident: Option<TargetIncident>,
    target: Option<ActTarget>,
    thread: Option<String>,
    alert: Option<String>,
}

impl<'a> Decider<'a> {
    /// `is_act`: whether an event of the same reading asks for something.
    pub async fn decide(&self, event: &RoomEvent, is_act: impl Fn(&str) -> bool) -> Result<Asks, StoreError> {
        if event.sender == self.settings.config.matrix.user_id {
            return Ok(Asks::Nothing);
        }
        let act = match &event.content {
            RoomEventContent::Text { body, thread, reply_to } => {
                self.text(event, body, thread.as_deref(), reply_to.as_deref()).await
            }
            RoomEventContent::Reaction { target, key } => self.reaction(event, target, key).await,
            RoomEventContent::Redaction { target } => {
                let is_known = is_act(target) || self.context.store.act_of_event(target).await?.is_some();
                return Ok(if is_known { Asks::Undoing(self.redacted(event, target)) } else { Asks::Nothing });
            }
            RoomEventContent::Undecryptable | RoomEventContent::Other => Ok(None),
        };
        let mut act = match act {
            Ok(Some(act)) => act,
            Ok(None) => return Ok(Asks::Nothing),
            Err(Undecided::NotKnownYet) => return Ok(Asks::NotKnownYet),
            Err(Undecided::Store(error)) => return Err(error),
        };
        if event.age.is_some_and(|age| age > TOO_OLD) && act.args.refusal.is_none() {
            act.args.refusal = Some("Too late: that was sent over 10 minutes ago. Say it again".to_owned());
        }
        if !self.is_admitted(&mut act).await {
            return Ok(Asks::Nothing);
        }
        Ok(Asks::For(Box::new(act)))
    }

    fn redacted(&self, event: &RoomEvent, target: &str) -> Redacted {
        Redacted {
            event_id: event.event_id.clone(),
            sender: event.sender.clone(),
            room: self.room.clone(),
            target: target.to_owned(),
        }
    }

    fn actions(&self, route: &RouteName) -> Option<&'a Actions> {
        self.settings.config.routes.get(route)?.actions.as_ref()
    }

    async fn text(
        &self,
        event: &RoomEvent,
        body: &str,
        thread: Option<&str>,
        reply_to: Option<&str>,
    ) -> Result<Option<NewAct>, Undecided> {
        let acting = routes_of(self.settings, self.room);
        let prefixes: BTreeSet<&str> =
            acting.iter().filter_map(|route| self.actions(route)).map(|actions| actions.prefix.as_str()).collect();
        // Most of what is written in a room is none of ours, and is not looked up.
        let mut commands = prefixes.iter().filter_map(|prefix| command::parse(body, prefix, false));
        let Some(command) = commands.next() else { return Ok(None) };
        let by_thread = self.target(thread).await?;
        let by_reply = match self.target(reply_to).await {
            Err(Undecided::NotKnownYet) if !depends_on_reply(command.kind, by_thread.is_some()) => None,
            by_reply => by_reply?,
        };
        let alert = by_reply.as_ref().and_then(|target| target.alert.clone());
        let is_reply_within = |target: &ActTarget| by_reply.as_ref().is_some_and(|reply| reply.card == target.card);
        let alert = alert.filter(|_| by_thread.as_ref().is_none_or(is_reply_within));
        let Some(target) = by_thread.or(by_reply) else {
            return Ok(if thread.is_some() { None } else { self.in_room(event, body, &acting) });
        };
        let root = thread.map(ToOwned::to_owned).or_else(|| target.root_event.clone());
        let root = root.or_else(|| reply_to.map(ToOwned::to_owned));
        Ok(self.of_card(event, body, target, root, alert, thread.is_some()))
    }

    /// The card of an event, if it is in this room: anybody may name an event of another.
    async fn target(&self, event: Option<&str>) -> Result<Option<ActTarget>, Undecided> {
        let Some(event) = event else { return Ok(None) };
        let mut target = self.context.store.act_target(event).await?;
        if target.is_none() && !self.is_last {
            if self.is_sent_to().await? {
                return Err(Undecided::NotKnownYet);
            }
            // The send may have been answered between the two questions.
            target = self.context.store.act_target(event).await?;
        }
        let Some(target) = target else { return Ok(None) };
        Ok(self.one_is_here(std::slice::from_ref(&target.room)).await?.then_some(target))
    }

    /// Whether an event of ours may be in this room whose id is not known.
    async fn is_sent_to(&self) -> Result<bool, StoreError> {
        self.one_is_here(&self.context.store.rooms_sent_to().await?).await
    }

    /// Whether one of these addresses is that of this room.
    async fn one_is_here(&self, rooms: &[RoomAddress]) -> Result<bool, StoreError> {
        if rooms.is_empty() || rooms.contains(self.room) {
            return Ok(!rooms.is_empty());
        }
        let places = self.context.store.resolved_rooms().await?;
        let aliases = RoomAliases::new(places, &self.settings.config.matrix.aliases);
        Ok(rooms.iter().any(|room| aliases.are_one(room, self.room)))
    }

    /// A command that is about no card.
    fn in_room(&self, event: &RoomEvent, body: &str, acting: &[RouteName]) -> Option<NewAct> {
        let read = |route: &RouteName| {
            let actions = self.actions(route)?;
            Some((route.clone(), actions, command::parse(body, &actions.prefix, false)?))
        };
        let (route, actions, command) = acting.iter().find_map(read)?;
        // Another bot may know it.
        if command.kind == ActKind::Unknown {
            return None;
        }
        let about = About { route, incident: None, target: None, thread: None, alert: None };
        let refusal = words::no_incident(command.kind).map(ToOwned::to_owned);
        let mut act = self.command(event, &command, actions, about, refusal);
        act.args.in_thread = false;
        Some(act)
    }

    fn of_card(
        &self,
        event: &RoomEvent,
        body: &str,
        target: ActTarget,
        thread: Option<String>,
        alert: Option<String>,
        in_thread: bool,
    ) -> Option<NewAct> {
        let is_digest = target.kind == CardKind::Digest && target.incidents.len() != 1;
        let acting = target.incidents.iter().find(|incident| self.actions(&incident.route).is_some())?.route.clone();
        let command = command::parse(body, &self.actions(&acting)?.prefix, is_digest)?;
        let (incident, refusal) =
            if is_digest { pick(&target, &command) } else { (target.incidents.first().cloned(), None) };
        let route = incident.as_ref().map_or(acting, |incident| incident.route.clone());
        let actions = self.actions(&route)?;
        let about = About { route, incident, target: Some(target), thread, alert };
        let mut act = self.command(event, &command, actions, about, refusal);
        act.args.in_thread = in_thread;
        Some(act)
    }

    fn command(
        &self,
        event: &RoomEvent,
        command: &Command,
        actions: &Actions,
        about: About,
        refusal: Option<String>,
    ) -> NewAct {
        let unknown = (command.kind == ActKind::Unknown).then(|| words::unknown(&command.text, &actions.prefix));
        let fault = words::fault(command, &actions.prefix, actions.silence);
        let mut act = self.act(event, command.kind, about);
        act.args.alertname.clone_from(&command.alertname);
        act.args.duration = command.duration;
        act.args.count = command.count;
        act.args.text.clone_from(&command.text);
        act.args.refusal = fault.or(unknown).or(refusal);
        act
    }

    async fn reaction(&self, event: &RoomEvent, target: &str, key: &str) -> Result<Option<NewAct>, Undecided> {
        let Some(kind) = reaction::parse(key) else { return Ok(None) };
        let Some(target) = self.target(Some(target)).await? else { return Ok(None) };
        let reacts =
            |incident: &&TargetIncident| self.actions(&incident.route).is_some_and(|actions| actions.reactions);
        let Some(first) = target.incidents.iter().find(reacts).cloned() else { return Ok(None) };
        let Some(actions) = self.actions(&first.route) else { return Ok(None) };
        let is_digest = target.kind == CardKind::Digest && target.incidents.len() != 1;
        let refusal = (is_digest && kind == ActKind::Silence)
            .then(|| format!("Say which alert of this message: {}silence {}", actions.prefix, an_alertname(&target)));
        let (route, alert) = (first.route.clone(), target.alert.clone());
        let thread = target.root_event.clone();
        let incident = (!is_digest).then_some(first);
        let mut act = self.act(event, kind, About { route, incident, target: Some(target), thread, alert });
        (act.args.by_reaction, act.args.in_thread, act.args.refusal) = (true, true, refusal);
        if let (None, RoomEventContent::Reaction { target, .. }) = (&act.args.thread, &event.content) {
            act.args.thread = Some(target.clone());
        }
        Ok(Some(act))
    }

    fn act(&self, event: &RoomEvent, kind: ActKind, about: About) -> NewAct {
        NewAct {
            event_id: event.event_id.clone(),
            megolm: event.megolm.clone(),
            route: about.route,
            room: self.room.clone(),
            sender: event.sender.clone(),
            kind,
            incident: about.incident.map(|incident| incident.id),
            card: about.target.map(|target| target.card),
            args: ActArgs {
                trust: self.is_encrypted.then_some(event.trust),
                alert: about.alert,
                thread: about.thread,
                ..ActArgs::default()
            },
            not_before: None,
        }
    }

    /// Keeps chatter out of the store.
    async fn is_admitted(&self, act: &mut NewAct) -> bool {
        let (limits, room) = (&self.context.limits, act.room.as_str());
        if !limits.may_ask(room, &act.sender, self.now) {
            self.context.count(&act.route, act.kind, "limited");
            return false;
        }
        let is_denied = match limits.refused(room, &act.sender, self.now) {
            Refused::No => false,
            Refused::JustNow => self.is_above_reading(act),
            Refused::AskAgain => self.is_above_reading(act) && self.is_still_denied(act).await,
        };
        if is_denied {
            limits.may_refuse(room, &act.sender, self.now);
            self.context.count(&act.route, act.kind, "denied");
            return false;
        }
        if act.kind.only_reads() {
            let Some(slot) = limits.read_slot(room, self.now) else {
                self.context.count(&act.route, act.kind, "limited");
                return false;
            };
            act.not_before = (slot > self.now).then_some(slot);
        }
        true
    }

    /// Who may not act may still ask, unless asking needs something as well.
    fn is_above_reading(&self, act: &NewAct) -> bool {
        !act.kind.only_reads() || self.actions(&act.route).is_some_and(|actions| actions.read > 0)
    }

    async fn is_still_denied(&self, act: &NewAct) -> bool {
        let Some(actions) = self.actions(&act.route) else { return true };
        let member = tokio::time::timeout(PATIENCE, self.context.rooms.member(&act.room, &act.sender)).await;
        let Ok(Ok(member)) = member else { return false };
        let asked = Asked {
            kind: act.kind,
            by_reaction: false,
            sender: &act.sender,
            trust: Trust::Signed,
            is_encryptable: false,
            undoes_own: false,
        };
        rights::judge(&asked, &member, actions).is_err_and(rights::Denial::is_about_the_person)
    }
}

/// How long the homeserver may take to say who somebody is before others go on.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether it makes a difference what a command replies to.
fn depends_on_reply(kind: ActKind, is_in_thread: bool) -> bool {
    if is_in_thread {
        // They can be about a single alert of the card.
        matches!(kind, ActKind::Silence | ActKind::Logs | ActKind::Graph)
    } else {
        !matches!(kind, ActKind::Alerts | ActKind::Silences | ActKind::Help)
    }
}

/// The incident of a digest that a command names, or what would be right.
fn pick(target: &ActTarget, command: &Command) -> (Option<TargetIncident>, Option<String>) {
    let Some(name) = command.alertname.as_ref() else { return (None, None) };
    let named = |incident: &&TargetIncident| incident.alertnames.iter().any(|known| known.eq_ignore_ascii_case(name));
    let all: Vec<&TargetIncident> = target.incidents.iter().filter(named).collect();
    let open: Vec<&TargetIncident> = all.iter().copied().filter(|incident| incident.is_open).collect();
    match (open.as_slice(), all.as_slice()) {
        ([one], _) | ([], [one]) => (Some((*one).clone()), None),
        ([], []) => {
            let known: Vec<&str> = open_names(target).into_iter().take(NAMES).collect();
            let name = words::repeated(name);
            (None, Some(format!("Nothing here is called {name}; there are: {}", known.join(", "))))
        }
        (several, _) => (
            None,
            Some(format!(
                "{} groups here are called {name}: act on them in Alertmanager, or on their own cards",
                several.len()
            )),
        ),
    }
}

fn open_names(target: &ActTarget) -> BTreeSet<&str> {
    let open = target.incidents.iter().filter(|incident| incident.is_open);
    open.flat_map(|incident| incident.alertnames.iter().map(String::as_str)).collect()
}

fn an_alertname(target: &ActTarget) -> String {
    open_names(target).into_iter().next().unwrap_or("ALERTNAME").to_owned()
}
