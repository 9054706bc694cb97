//! A room that says what the test tells it to.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use super::{ALICE, ROOM};
use crate::{
    acts::rooms::{BoxFuture, Rooms},
    model::{Member, Reason, RoomAddress, RoomEvent, RoomEvents, SendError},
};

#[derive(Default)]
pub(super) struct ScriptedRooms {
    pub members: Mutex<HashMap<String, Member>>,
    /// What the next read-backs bring; an empty list: nothing was missed.
    pub missed: Mutex<VecDeque<Result<RoomEvents, SendError>>>,
    /// The positions that were read from.
    pub read_from: Mutex<Vec<String>>,
    /// Events that can be decrypted by now.
    pub decrypted: Mutex<HashMap<String, RoomEvent>>,
    pub is_encrypted: Mutex<bool>,
    pub is_down: Mutex<bool>,
    pub asked: Mutex<usize>,
}

impl ScriptedRooms {
    pub fn power(&self, user: &str, power: i64) {
        let room_is_encrypted = *self.is_encrypted.lock().expect("a lock");
        let member = Member { is_joined: true, power, name: name(user).to_owned(), room_is_encrypted };
        self.members.lock().expect("a lock").insert(user.to_owned(), member);
    }

    pub fn leaves(&self, user: &str) {
        self.members.lock().expect("a lock").remove(user);
    }
}

fn name(user: &str) -> &str {
    if user == ALICE { "Alice <b>" } else { "" }
}

pub(super) fn down() -> SendError {
    SendError { reason: Reason::Unreachable, retry_after: None, detail: "down".to_owned() }
}

impl Rooms for ScriptedRooms {
    fn member<'a>(&'a self, _: &'a RoomAddress, user: &'a str) -> BoxFuture<'a, Result<Member, SendError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            *self.asked.lock().expect("a lock") += 1;
            if *self.is_down.lock().expect("a lock") {
                return Err(down());
            }
            let known = self.members.lock().expect("a lock").get(user).cloned();
            let room_is_encrypted = *self.is_encrypted.lock().expect("a lock");
            Ok(known.unwrap_or(Member { is_joined: false, power: 0, name: String::new(), room_is_encrypted }))
        })
    }

    fn read_since<'a>(
        &'a self,
        room: &'a RoomAddress,
        position: &'a str,
    ) -> BoxFuture<'a, Result<RoomEvents, SendError>> {
        Box::pin(async move {
            self.read_from.lock().expect("a lock").push(position.to_owned());
            let next = self.missed.lock().expect("a lock").pop_front();
            next.unwrap_or_else(|| {
                Ok(RoomEvents {
                    room: room.clone(),
                    room_id: ROOM.to_owned(),
                    is_encrypted: false,
                    events: Vec::new(),
                    gap: false,
                })
            })
        })
    }

    fn event<'a>(&'a self, _: &'a RoomAddress, event: &'a str) -> BoxFuture<'a, Result<Option<RoomEvent>, SendError>> {
        Box::pin(async move { Ok(self.decrypted.lock().expect("a lock").get(event).cloned()) })
    }
}
