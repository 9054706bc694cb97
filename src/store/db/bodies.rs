//! Bodies of notifications as they are kept: packed, since the alerts of a group mostly say the same. It is a third of what a
//! webhook writes otherwise.

use std::{cell::RefCell, io::Write as _};

use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};

/// In bytes; a shorter body stays as it is.
const SHORT: usize = 512;

thread_local! {
    /// Its buffers, of 150 KiB in all, cost as much to get and to clear as the packing itself.
    static ENCODER: RefCell<Option<FrameEncoder<Vec<u8>>>> = const { RefCell::new(None) };
}

/// The body as it is kept: an LZ4 frame, or as it came where that is not smaller. JSON never begins as a frame does.
pub(crate) fn packed(body: Vec<u8>) -> Vec<u8> {
    if body.len() < SHORT {
        return body;
    }
    // Writing into memory does not fail; if it did, the body as it came is as good.
    frame(&body).filter(|frame| frame.len() < body.len()).unwrap_or(body)
}

fn frame(body: &[u8]) -> Option<Vec<u8>> {
    let used = ENCODER.with_borrow_mut(Option::take);
    let mut encoder = used
        .unwrap_or_else(|| FrameEncoder::with_frame_info(FrameInfo::new().block_size(BlockSize::Max64KB), Vec::new()));
    *encoder.get_mut() = Vec::with_capacity(body.len() / 4);
    encoder.write_all(body).ok()?;
    encoder.try_finish().ok()?;
    let frame = std::mem::take(encoder.get_mut());
    ENCODER.set(Some(encoder));
    Some(frame)
}

#[cfg(test)]
pub(crate) fn unpacked(kept: &[u8]) -> Vec<u8> {
    const FRAME: [u8; 4] = [0x04, 0x22, 0x4D, 0x18];
    if !kept.starts_with(&FRAME) {
        return kept.to_vec();
    }
    let mut body = Vec::new();
    std::io::Read::read_to_end(&mut lz4_flex::frame::FrameDecoder::new(kept), &mut body).expect("a frame");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_as_it_was() {
        let alert = r#"{"status":"firing","labels":{"alertname":"A","pod":"jellyfin"},"annotations":{"summary":"é"}},"#;
        for body in ["{}".to_owned(), alert.to_owned(), alert.repeat(30), alert.repeat(3_000)] {
            let kept = packed(body.clone().into_bytes());
            assert_eq!(String::from_utf8(unpacked(&kept)).expect("text"), body);
        }
    }

    #[test]
    fn what_says_the_same_again_gets_small_and_nothing_gets_larger() {
        let same = br#"{"labels":{"alertname":"A"}},"#.repeat(1_000);
        assert!(packed(same.clone()).len() < same.len() / 50);
        // All different, so that nothing can be packed.
        let different: Vec<u8> = (0..2_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
        assert_eq!(packed(different.clone()), different);
    }
}
