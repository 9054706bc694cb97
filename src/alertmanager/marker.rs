//! Our mark in the comment of a silence. Alertmanager has nothing by which a repeated request is known.

/// Begins the mark.
const START: &str = "[mar:";
/// The comment of a silence for which nobody gave a reason; Alertmanager requires one.
pub const NO_REASON: &str = "silenced from a Matrix room";

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

/// The reason that a comment gives: without our mark, and nothing where there was none.
#[must_use]
pub fn reason(comment: &str) -> &str {
    let comment = comment.trim();
    if find(comment).is_none() {
        return comment;
    }
    let reason = comment.rsplit_once(START).map_or(comment, |(before, _)| before.trim_end());
    if reason == NO_REASON { "" } else { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_again() {
        let comment = format!("disk [mar:x] {}", of("01J", 3));
        assert_eq!((find(&comment), reason(&comment)), (Some(("01J", 3)), "disk [mar:x]"));
        for bare in ["", "[mar:]", "[mar:a/]", "[mar:/1]", "[mar:a/x]", "[mar:a/1", "[mar:a b/1]", "[mar:a/-1]"] {
            assert_eq!((find(bare), reason(bare)), (None, bare), "{bare}");
        }
    }

    #[test]
    fn a_reason_is_what_a_person_wrote() {
        for (comment, expected) in [
            ("disk is replaced [mar:01J/0]", "disk is replaced"),
            ("[mar:01J/0]", ""),
            (" plain ", "plain"),
            ("a [mar:1/0] b [mar:2/0]", "a [mar:1/0] b"),
            ("silenced from a Matrix room [mar:1/0]", ""),
            ("silenced from a Matrix room", "silenced from a Matrix room"),
        ] {
            assert_eq!(reason(comment), expected, "{comment:?}");
        }
    }
}
