//! Certificate and private key, as they stand in PEM files. It must not keep anything.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// Longest file: a chain of certificates has some 10 KiB.
const MAX_FILE: u64 = 1 << 20;

/// What a file looks like from outside: time, length, and which one it is, since a link may come to show another. `None`:
/// it is not there.
pub(super) type Stamp = Option<(SystemTime, u64, u64)>;

pub(super) fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// The chain, the server's own certificate first.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError { key: "tls.certificate", file: path.to_owned(), reason };
    let text = contents(path).map_err(|error| wrong(error.to_string()))?;
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| wrong(format!("it is no PEM: {error}")))?;
    if chain.is_empty() {
        return Err(wrong("there is no PEM certificate in it".to_owned()));
    }
    Ok(chain)
}

/// The first private key of the file, PKCS #1, PKCS #8 or SEC 1.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wrong = |reason: String| TlsError { key: "tls.key", file: path.to_owned(), reason };
    let text = contents(path).map_err(|error| wrong(error.to_string()))?;
    // What is wrong with it is told without a word of what is in it.
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| wrong("there is no PEM private key in it".to_owned()))
}

fn contents(path: &Path) -> io::Result<Vec<u8>> {
    // Reading a pipe may wait for ever, and so may opening one.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it is longer than {MAX_FILE} bytes")));
    }
    Ok(text)
}
