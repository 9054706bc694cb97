//! The status page: plain data in, HTML out. The caller judges health; this folder only presents it.

mod incident;
mod page;
mod picture;
mod time;
mod words;

pub use self::{
    incident::{IncidentSummary, StatementRow, statements, summarize},
    page::{
        Backlog, DeliveryRow, IncidentRow, LetterRow, Level, Link, List, PageError, Part, RoomLink, RoomRow, SCRIPT,
        STYLE, StatusPage, WaitingRow,
    },
    picture::{Bar, Picture},
    time::{Moment, Times, short},
    words::{event_link, room_link, words},
};
