//! As much of the `WebSocket` framing (RFC 6455 §5.2) as it takes to say goodbye in the right place:
//! between two frames. What is in them is nobody's business here.

/// `Close` (§5.5.1).
const CLOSE: u8 = 0x8;
/// Two bytes, an extended length of eight and a mask of four.
const LONGEST_HEAD: usize = 14;

/// Where one direction of a connection is.
#[derive(Debug, Default)]
pub struct FrameCursor {
    head: [u8; LONGEST_HEAD],
    have: usize,
    payload_left: u64,
    closed: bool,
}

impl FrameCursor {
    /// The next bytes of this direction have passed.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload_left > 0 {
                let skipped = bytes.len().min(usize::try_from(self.payload_left).unwrap_or(usize::MAX));
                self.payload_left -= skipped as u64;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *first;
            }
            self.have += 1;
            bytes = rest;
            if self.have >= self.head_length() {
                self.payload_left = self.payload_length();
                self.closed |= self.byte(0) & 0x0f == CLOSE;
                self.have = 0;
            }
        }
    }

    /// Whether a frame may be put in here.
    #[must_use]
    pub fn between_frames(&self) -> bool {
        self.have == 0 && self.payload_left == 0
    }

    /// Whether this direction has said `Close`: nothing may follow it.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.closed
    }

    fn byte(&self, at: usize) -> u8 {
        self.head.get(at).copied().unwrap_or(0)
    }

    fn head_length(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let extended = match self.byte(1) & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if self.byte(1) & 0x80 == 0 { 0 } else { 4 }
    }

    fn payload_length(&self) -> u64 {
        let extended = match self.byte(1) & 0x7f {
            126 => 2,
            127 => 8,
            short => return u64::from(short),
        };
        self.head.iter().skip(2).take(extended).fold(0, |length, byte| (length << 8) | u64::from(*byte))
    }
}

/// A whole `Close` frame with `code` (§7.4) and a reason, as a server sends it.
#[must_use]
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    frame(code, reason, 0)
}

/// The same as a client sends it: masked (§5.3), here with zeros, since nothing in it is chosen by anybody.
#[must_use]
pub fn masked_close_frame(code: u16, reason: &str) -> Vec<u8> {
    frame(code, reason, 0x80)
}

/// `reason` is one of ours: far below the 123 bytes that fit.
fn frame(code: u16, reason: &str, mask: u8) -> Vec<u8> {
    let length = u8::try_from(reason.len() + 2).unwrap_or(2);
    let mut frame = vec![0x80 | CLOSE, mask | length];
    if mask != 0 {
        frame.extend([0; 4]);
    }
    frame.extend(code.to_be_bytes());
    frame.extend(reason.bytes().take(usize::from(length) - 2));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize, masked: bool) -> Vec<u8> {
        let mut frame = vec![0x81];
        let mask = if masked { 0x80 } else { 0 };
        match u8::try_from(length) {
            Ok(short) if short < 126 => frame.push(mask + short),
            _ if length <= 0xffff => {
                frame.push(mask + 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask + 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(if masked { &[1, 2, 3, 4][..] } else { &[] });
        frame.extend(std::iter::repeat_n(0x88, length));
        frame
    }

    /// However the bytes are cut, only the ends of frames are ends of frames.
    #[test]
    fn ends_of_frames_are_found() {
        for masked in [false, true] {
            let (mut bytes, mut ends) = (Vec::new(), vec![0]);
            for length in [0, 1, 125, 126, 300, 65_535, 65_536] {
                bytes.extend(text(length, masked));
                ends.push(bytes.len());
            }
            for step in [1, 2, 3, 7, 1000, 70_000] {
                let mut cursor = FrameCursor::default();
                let mut at = 0;
                for piece in bytes.chunks(step) {
                    cursor.pass(piece);
                    at += piece.len();
                    assert_eq!(cursor.between_frames(), ends.contains(&at), "masked {masked}, step {step}, at {at}");
                }
                assert!(!cursor.closed(), "a payload is no head");
            }
        }
    }

    #[test]
    fn our_goodbyes_are_frames() {
        let plain = close_frame(1008, "session ended");
        assert_eq!(plain, b"\x88\x0f\x03\xf0session ended");
        let masked = masked_close_frame(1001, "going away");
        assert_eq!(masked, b"\x88\x8c\0\0\0\0\x03\xe9going away");
        for frame in [plain, masked] {
            let mut cursor = FrameCursor::default();
            cursor.pass(&frame);
            assert!(cursor.between_frames() && cursor.closed());
        }
    }
}
