//! Which place of which Megolm session an event took, by which a copy of a ciphertext is recognised.
//!
//! matrix-sdk 0.18 decrypts the same ciphertext in as many events as a homeserver likes: `InboundGroupSession::decrypt`
//! returns the index, and `OlmMachine` drops it (only Olm messages are guarded against replay). So whoever acts on events
//! must remember the index. A decrypted event does not have it either; the ciphertext does.

use serde_json::Value;

/// The version of Megolm messages, and the tag of the index in them.
/// <https://gitlab.matrix.org/matrix-org/olm/blob/master/docs/megolm.md>, "Message format".
const VERSION: u8 = 3;
const INDEX_TAG: u8 = 0x08;
/// The characters of base64 that hold the version, the tag and the longest index.
const HEAD: usize = 12;

/// Session and index of an `m.room.encrypted` content: `SESSION/INDEX`.
pub(super) fn place(content: &Value) -> Option<String> {
    let session = content["session_id"].as_str().filter(|session| (1..=255).contains(&session.len()))?;
    Some(format!("{session}/{}", index(content["ciphertext"].as_str()?)?))
}

fn index(ciphertext: &str) -> Option<u32> {
    let head = decode(ciphertext.as_bytes().get(..HEAD)?)?;
    let [VERSION, INDEX_TAG, varint @ ..] = head.as_slice() else { return None };
    let mut index: u64 = 0;
    for (n, byte) in varint.iter().take(5).enumerate() {
        index |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return u32::try_from(index).ok();
        }
    }
    None
}

/// Decodes whole groups of four base64 characters.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.chunks_exact(4) {
        let mut bits: u32 = 0;
        for c in group {
            bits = bits << 6 | u32::from(sextet(*c)?);
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    Some(bytes)
}

fn sextet(c: u8) -> Option<u8> {
    match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn encode(bytes: &[u8]) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in bytes.chunks_exact(3) {
            let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
            text.extend([18, 12, 6, 0].map(|shift| char::from(ALPHABET[(bits >> shift & 0x3f) as usize])));
        }
        text
    }

    fn message(index: &[u8]) -> String {
        let mut bytes = vec![VERSION, INDEX_TAG];
        bytes.extend_from_slice(index);
        bytes.extend_from_slice(&[0x12, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        encode(&bytes)
    }

    #[test]
    fn the_index_is_a_varint_behind_version_and_tag() {
        for (bytes, expected) in [
            (&[0_u8][..], Some(0)),
            (&[1], Some(1)),
            (&[127], Some(127)),
            (&[0x80, 1], Some(128)),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], Some(u32::MAX)),
            (&[0xff, 0xff, 0xff, 0xff, 0x1f], None),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 1], None),
        ] {
            assert_eq!(index(&message(bytes)), expected, "{bytes:?}");
        }
        // One that was seen on a wire, of which the first bytes are 03 08 00 12.
        assert_eq!(index("AwgAEnACgAkLmt6qF84IK++J7UDH2Za1"), Some(0));
        for odd in ["", "AwgA", "BAgAEnACgAkLmt6qF84I", "AwkAEnACgAkLmt6qF84I", "Aw!AEnACgAkLmt6qF84I", "ÄÄÄÄÄÄÄÄÄÄ"]
        {
            assert_eq!(index(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_place_names_its_session() {
        let content = json!({ "session_id": "S", "ciphertext": "AwgAEnACgAkLmt6qF84IK++J7UDH2Za1" });
        assert_eq!(place(&content).as_deref(), Some("S/0"));
        assert_eq!(place(&json!({ "ciphertext": "AwgAEnACgAkLmt6qF84IK++J7UDH2Za1" })), None);
        assert_eq!(place(&json!({})), None);
    }
}
