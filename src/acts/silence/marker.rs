//! Our mark in the comment of a silence. Alertmanager has nothing by which a repeated request is known.

/// Begins the mark.
const START: &str = "[mar:";

/// `[mar:ACT/N]`.
#[must_use]
pub fn of(act: &str, n: i64) -> String {
    format!("{START}{act}/{n}]")
}

/// The act and the number in a comment that bears a mark.
#[must_use]
pub fn find(comment: &str) -> Option<(&str, i64)> {
    let (_, rest) = comment.rsplit_once(START)?;
    let (inner, _) = rest.split_once(']')?;
    let (act, n) = inner.split_once('/')?;
    let is_id = !act.is_empty() && act.len() <= 40 && act.bytes().all(|b| b.is_ascii_alphanumeric());
    is_id.then_some(())?;
    Some((act, n.parse().ok().filter(|n| (0..100).contains(n))?))
}

/// A comment without the mark.
#[must_use]
pub fn without(comment: &str) -> &str {
    match find(comment) {
        Some(_) => comment.rsplit_once(START).map_or(comment, |(before, _)| before.trim_end()),
        None => comment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_again() {
        let comment = format!("disk [mar:x] {}", of("01J", 3));
        assert_eq!((find(&comment), without(&comment)), (Some(("01J", 3)), "disk [mar:x]"));
        for bare in ["", "[mar:]", "[mar:a/]", "[mar:/1]", "[mar:a/x]", "[mar:a/1", "[mar:a b/1]", "[mar:a/-1]"] {
            assert_eq!((find(bare), without(bare)), (None, bare), "{bare}");
        }
    }
}
