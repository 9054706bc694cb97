//! Private keys that are spread over several lines of a stream.

/// A line of a key may stand in so many lines: one of 16,384 bits has 200.
const MAX_LINES: usize = 220;

/// Which lines of one stream, oldest first, are to be blanked as a whole: those between the first and the last line of a key,
/// both included. A key whose first line is older than the oldest is recognised by its last one.
pub(super) fn lines_of_keys<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<bool> {
    let lines: Vec<&str> = lines.collect();
    let mut hidden = vec![false; lines.len()];
    // Lines that the key may still have.
    let mut left = 0;
    for (at, line) in lines.iter().enumerate() {
        match mark(line) {
            Some(Mark::Begins) => left = MAX_LINES,
            Some(Mark::Ends) if left > 0 => (hidden[at], left) = (true, 0),
            Some(Mark::Ends) => {
                hidden[at] = true;
                for before in (0..at).rev().take_while(|before| is_body(lines[*before])) {
                    hidden[before] = true;
                }
            }
            // The pattern for keys within a line blanks what it holds.
            Some(Mark::Whole) => left = 0,
            None => {}
        }
        if left > 0 {
            hidden[at] = true;
            left -= 1;
        }
    }
    hidden
}

enum Mark {
    Begins,
    Ends,
    /// Begins and ends on the same line.
    Whole,
}

fn mark(line: &str) -> Option<Mark> {
    let last = |before: &str| {
        let marks = line.match_indices(before).filter(|(at, _)| {
            let label = line[at + before.len()..].split("-----").next().unwrap_or_default();
            label.ends_with("PRIVATE KEY") || label.ends_with("PRIVATE KEY BLOCK")
        });
        marks.map(|(at, _)| at).last()
    };
    match (last("-----BEGIN "), last("-----END ")) {
        (None, None) => None,
        (None, Some(_)) => Some(Mark::Ends),
        (Some(begins), Some(ends)) if begins < ends => Some(Mark::Whole),
        (Some(_), _) => Some(Mark::Begins),
    }
}

/// Whether the last word of a line may be one of a key's lines, which are base64 in whole groups of four.
fn is_body(line: &str) -> bool {
    let word = line.trim_end_matches(['"', '\'', '}', ',', ' ', '\n', '\r']);
    let word = word.trim_end_matches("\\n").rsplit([' ', '"', '\'', '\t']).next().unwrap_or_default();
    let of_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    word.len() >= 4 && word.len().is_multiple_of(4) && word.chars().all(of_base64)
}

#[cfg(test)]
mod tests {
    use super::lines_of_keys;

    /// `-` for a line that is hidden, `.` for one that is not.
    fn hidden(lines: &[&str]) -> String {
        lines_of_keys(lines.iter().copied()).into_iter().map(|hidden| if hidden { '-' } else { '.' }).collect()
    }

    #[test]
    fn a_key_is_hidden_from_its_first_line_to_its_last() {
        let key =
            ["a", "-----BEGIN RSA PRIVATE KEY-----", "MIIE", "Proc-Type: 4", "-----END RSA PRIVATE KEY-----", "b"];
        assert_eq!(hidden(&key), ".----.");
        assert_eq!(hidden(&["x -----BEGIN PRIVATE KEY-----", "\"abc\"", "y -----END PRIVATE KEY----- z", "b"]), "---.");
        assert_eq!(
            hidden(&["-----BEGIN PGP PRIVATE KEY BLOCK-----", "a", "-----END PGP PRIVATE KEY BLOCK-----"]),
            "---"
        );
        assert_eq!(hidden(&["-----BEGIN OPENSSH PRIVATE KEY-----", "the newest line"]), "--");
        // Certificates and public keys may be seen.
        assert_eq!(hidden(&["-----BEGIN CERTIFICATE-----", "MIIE", "-----END CERTIFICATE-----"]), "...");
        assert_eq!(hidden(&["-----BEGIN PUBLIC KEY-----", "MIIE"]), "..");
        // One on one line is for the pattern.
        assert_eq!(hidden(&["-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY-----", "b"]), "..");
        assert_eq!(
            hidden(&[
                "-----BEGIN PRIVATE KEY-----",
                "-----BEGIN PRIVATE KEY-----\\nM\\n-----END PRIVATE KEY-----",
                "b"
            ]),
            "-.."
        );
        let two = "-----END PRIVATE KEY----- -----BEGIN PRIVATE KEY-----";
        assert_eq!(hidden(&["-----BEGIN PRIVATE KEY-----", two, "a", "-----END PRIVATE KEY-----", "b"]), "----.");
    }

    #[test]
    fn a_key_whose_first_line_is_not_there() {
        let end = "-----END EC PRIVATE KEY-----";
        assert_eq!(hidden(&["started", "MIIEabcd", "2026 INFO abc=", end, "b"]), ".---.");
        assert_eq!(hidden(&["a line of words", end]), ".-");
    }

    #[test]
    fn a_key_that_never_ends_hides_a_bounded_number_of_lines() {
        let mut lines = vec!["-----BEGIN PRIVATE KEY-----"];
        lines.extend(vec!["a line"; 1000]);
        assert_eq!(hidden(&lines).matches('-').count(), 220);
    }
}
