//! A public key in a PEM file (`BEGIN PUBLIC KEY`), taken apart as far as that is needed: which kind, and its bits.
//!
//! The DER of `SubjectPublicKeyInfo` is a sequence of the algorithm, which is a constant for each kind that is taken, and a
//! string of bits. So it is compared rather than understood.

use rustls::pki_types::pem::{PemObject, SectionKind};

use super::keys::{KeyError, Verification};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// rsaEncryption, without parameters.
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// id-ecPublicKey on prime256v1.
const P256: &[u8] =
    &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// id-Ed25519.
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

/// The one public key of a PEM text.
pub(super) fn public_key(text: &[u8]) -> Result<Verification, KeyError> {
    // Sections of other names are passed over.
    let sections: Vec<(SectionKind, Vec<u8>)> =
        PemObject::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|_| KeyError("it is no PEM".into()))?;
    let private = [SectionKind::RsaPrivateKey, SectionKind::PrivateKey, SectionKind::EcPrivateKey];
    if sections.iter().any(|(kind, _)| private.contains(kind)) {
        return Err(KeyError("it holds a private key, which is to stay with whoever signs the tokens".into()));
    }
    let mut public = sections.iter().filter(|(kind, _)| *kind == SectionKind::PublicKey);
    let (Some((_, der)), None) = (public.next(), public.next()) else {
        return Err(KeyError("it has to have one section BEGIN PUBLIC KEY".into()));
    };
    let (algorithm, bits) = parts(der).ok_or_else(|| KeyError("its public key cannot be read".into()))?;
    match algorithm {
        RSA => {
            let (n, e) = modulus_and_exponent(bits).ok_or_else(|| KeyError("its RSA key cannot be read".into()))?;
            Verification::rsa(n, e)
        }
        P256 => Verification::p256(bits),
        ED25519 => Verification::ed25519(bits),
        _ => Err(KeyError("its public key is none of RSA, P-256 and Ed25519".into())),
    }
}

fn parts(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (outer, rest) = element(SEQUENCE, der)?;
    let (algorithm, behind) = element(SEQUENCE, outer)?;
    let (bits, end) = element(BIT_STRING, behind)?;
    // The first byte says how many bits of the last one do not count.
    let (&unused, bits) = bits.split_first()?;
    (rest.is_empty() && end.is_empty() && unused == 0).then_some((algorithm, bits))
}

fn modulus_and_exponent(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (both, rest) = element(SEQUENCE, der)?;
    let (n, behind) = element(INTEGER, both)?;
    let (e, end) = element(INTEGER, behind)?;
    (rest.is_empty() && end.is_empty()).then_some((n, e))
}

/// The value of the element at the beginning, and what is behind it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, behind) = der.split_first()?;
    let (&first, behind) = behind.split_first()?;
    let (length, value) = match first {
        0..=0x7f => (usize::from(first), behind),
        0x81 => (usize::from(*behind.first()?), &behind[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*behind.first()?, *behind.get(1)?])), &behind[2..]),
        _ => return None,
    };
    (found == tag && length <= value.len()).then(|| value.split_at(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements() {
        assert_eq!(element(2, &[2, 1, 7, 9]), Some((&[7][..], &[9][..])));
        assert_eq!(element(2, &[2, 0]), Some((&[][..], &[][..])));
        assert_eq!(element(2, &[2, 0x81, 1, 7]), Some((&[7][..], &[][..])));
        assert_eq!(element(2, &[2, 0x82, 0, 1, 7]), Some((&[7][..], &[][..])));
        for wrong in
            [&[][..], &[2], &[3, 1, 7], &[2, 2, 7], &[2, 0x80], &[2, 0x81], &[2, 0x82, 0], &[2, 0x83, 0, 0, 1, 7]]
        {
            assert_eq!(element(2, wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(der in proptest::collection::vec(any::<u8>(), 0..80), text in any::<Vec<u8>>()) {
            let _ = (parts(&der), modulus_and_exponent(&der), public_key(&text));
        }
    }
}
