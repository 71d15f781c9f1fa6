//! The bytes of one write, in pieces that connections share: however many are at the same place, an event's bytes are there
//! once.

use bytes::{Bytes, BytesMut};

/// What one write holds: at least one piece. Most have one, and that takes no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    One(Bytes),
    Several(Vec<Bytes>),
}

impl Pieces {
    /// The pieces, in order; for a vectored write.
    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        match &self.0 {
            Kind::One(bytes) => std::slice::from_ref(bytes),
            Kind::Several(pieces) => pieces,
        }
    }

    /// All of it in one piece, which is a copy where there were several.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Kind::One(bytes) => bytes,
            Kind::Several(pieces) => {
                let mut all = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
                pieces.iter().for_each(|piece| all.extend_from_slice(piece));
                all.freeze()
            }
        }
    }

    /// Bytes of all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces().iter().all(Bytes::is_empty)
    }

    /// Adds a piece at the end.
    pub(super) fn push(&mut self, piece: Bytes) {
        match &mut self.0 {
            Kind::One(first) if first.is_empty() => *first = piece,
            Kind::One(first) => {
                let mut pieces = Vec::with_capacity(4);
                pieces.extend([std::mem::take(first), piece]);
                self.0 = Kind::Several(pieces);
            }
            Kind::Several(pieces) => pieces.push(piece),
        }
    }
}

impl Default for Pieces {
    fn default() -> Self {
        Self(Kind::One(Bytes::new()))
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::One(bytes))
    }
}

impl From<Vec<u8>> for Pieces {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Kind::One(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_until_somebody_wants_one_piece() {
        let (a, b) = (Bytes::from(b"a".to_vec()), Bytes::from(b"bc".to_vec()));
        let mut pieces = Pieces::default();
        assert!(pieces.is_empty());
        pieces.push(a.clone());
        assert_eq!(pieces.clone().into_bytes().as_ptr(), a.as_ptr(), "the shared bytes themselves");
        pieces.push(b.clone());
        assert_eq!((pieces.len(), pieces.pieces()), (3, [a, b.clone()].as_slice()));
        assert_eq!(pieces.pieces()[1].as_ptr(), b.as_ptr());
        assert_eq!(pieces.into_bytes(), "abc");
    }
}
