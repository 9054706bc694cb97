//! `[store]`

use std::{path::PathBuf, time::Duration};

use crate::config::{
    reader::Section,
    schema::Store,
    values::{DURATION, duration, text},
};

const PATH: &str = "/var/lib/matrix-alertmanager-receiver";
const RETENTION: Duration = Duration::from_hours(7 * 24);

pub(super) fn read(store: &Section<'_>) -> Store {
    let path = store.read("path", "the path of a directory", text);
    Store {
        path: path.map_or_else(|| PATH.into(), PathBuf::from),
        retention: store.read("retention", DURATION, duration).unwrap_or(RETENTION),
    }
}
