//! Handshakes and what becomes of the connections, on real sockets, and files that change. Where time stands still, it jumps
//! when everybody waits.

use std::fs;

use testkit::{Certificates, TlsStream, tls_client, tls_connect};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

fn settings(certificates: &Certificates) -> TlsSettings {
    TlsSettings { certificate: Some(certificates.certificate.clone()), key: Some(certificates.key.clone()) }
}

fn load(certificates: &Certificates) -> Arc<Tls> {
    Tls::load(&settings(certificates), &["h2", "http/1.1"]).unwrap().unwrap()
}

/// Why they cannot be used; the key, and whether the file is named.
fn refused(certificate: &Path, key: &Path) -> String {
    let settings = TlsSettings { certificate: Some(certificate.to_owned()), key: Some(key.to_owned()) };
    let Err(error) = Tls::load(&settings, &[]) else { panic!("{certificate:?} and {key:?} were taken") };
    error.to_string()
}

/// A socket that `tls` has accepted, or not, and the client's end, which asks for `protocols`.
async fn shake(
    tls: &Tls,
    ca: &Path,
    protocols: &[&str],
) -> (io::Result<ClientStream>, io::Result<TlsStream<TcpStream>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = async {
        let (socket, _) = listener.accept().await.unwrap();
        tls.accept(socket, Arc::default(), WRITE_TIMEOUT).await
    };
    tokio::join!(server, tls_connect(&address, tls_client(ca, protocols)))
}

/// What a plain client that sends `bytes` gets, and what the server says of it.
async fn plainly(tls: &Tls, bytes: &[u8]) -> (io::Error, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.write_all(bytes).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let mut answer = Vec::new();
    let accepting = tls.accept(socket, Arc::default(), WRITE_TIMEOUT);
    let reading = async {
        // A reset counts as the end.
        let _ = client.read_to_end(&mut answer).await;
        drop(client);
    };
    let (accepted, ()) = tokio::join!(accepting, reading);
    let Err(error) = accepted else { panic!("{bytes:?} were a handshake") };
    (error, answer)
}

fn serial(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn both_files_or_none() {
    let told = |certificate: Option<&str>, key: Option<&str>| {
        let settings = TlsSettings { certificate: certificate.map(PathBuf::from), key: key.map(PathBuf::from) };
        settings.check().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(None, None), [""; 0]);
    assert_eq!(told(Some("a"), Some("b")), [""; 0]);
    let expected =
        "invalid value for \"tls.certificate\": there is no tls.key to go with it, and TLS takes both".to_owned();
    assert_eq!(told(Some("a"), None), [expected]);
    let expected =
        "invalid value for \"tls.key\": there is no tls.certificate to go with it, and TLS takes both".to_owned();
    assert_eq!(told(None, Some("b")), [expected]);
    assert!(Tls::load(&TlsSettings::default(), &[]).unwrap().is_none());
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Certificates { certificate, key, .. } = Certificates::create(folder.path());
    let others = Certificates::create(other.path());
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let half = fs::read_to_string(&key).unwrap();
    let half = file("half.key", &half[..half.len() / 2]);
    let long = file("long.pem", &"x".repeat((1 << 20) + 1));
    let (empty, missing) = (file("empty.pem", ""), folder.path().join("missing.pem"));
    let broken = file("broken.pem", "-----BEGIN CERTIFICATE-----\nnonsense\n");
    let unfit = file("unfit.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");

    for (wrong, reason) in [
        (&missing, "No such file or directory"),
        (&empty, "there is no PEM certificate in it"),
        (&broken, "it is no PEM: "),
        (&long, "it is longer than 1048576 bytes"),
        (&folder.path().to_owned(), "it is no file"),
        (&key, "there is no PEM certificate in it"),
    ] {
        let told = refused(wrong, &key);
        assert!(told.starts_with(&format!("tls.certificate: {}: {reason}", wrong.display())), "{told}");
    }
    for (wrong, reason) in [
        (&missing, "No such file or directory"),
        (&empty, "there is no PEM private key in it"),
        (&half, "there is no PEM private key in it"),
        (&certificate, "there is no PEM private key in it"),
        (&unfit, ""),
        (&others.key, &*format!("it is not the key of the certificate in {}", certificate.display())),
    ] {
        let told = refused(&certificate, wrong);
        assert!(told.starts_with(&format!("tls.key: {}: {reason}", wrong.display())), "{told}");
        assert!(!told.contains("PRIVATE KEY-"), "{told}");
    }
}

#[tokio::test]
async fn what_is_spoken_is_agreed_on() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::create(folder.path());
    let tls = load(&certificates);
    for (asked, agreed) in
        [(&["h2", "http/1.1"][..], Some(&b"h2"[..])), (&["http/1.1"], Some(b"http/1.1")), (&[], None)]
    {
        let (server, client) = shake(&tls, &certificates.ca, asked).await;
        let (mut server, mut client) = (server.unwrap(), client.unwrap());
        assert_eq!(client.get_ref().1.alpn_protocol(), agreed);
        client.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ping");
        server.write_all(b"pong").await.unwrap();
        server.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // An end without `close_notify` would be an error.
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"pong");
    }
}

#[tokio::test]
async fn changed_files_are_for_new_handshakes() {
    let folder = tempfile::tempdir().unwrap();
    let old = Certificates::create(folder.path());
    let tls = load(&old);
    assert!(!tls.is_outdated() && !tls.reload().unwrap(), "nothing has changed");
    let (server, client) = shake(&tls, &old.ca, &[]).await;
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    let before = serial(&client);

    // Half of it, as when somebody writes one after the other.
    let key = fs::read(&old.key).unwrap();
    let new = Certificates::create(folder.path());
    let new_key = fs::read(&new.key).unwrap();
    fs::write(&old.key, key).unwrap();
    assert!(tls.is_outdated());
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.starts_with("tls.key: ") && error.contains("it is not the key"), "{error}");
    assert!(!tls.is_outdated(), "it is told once");
    assert!(shake(&tls, &new.ca, &[]).await.1.is_err(), "the new authority vouches for the new certificate alone");

    fs::write(&new.key, new_key).unwrap();
    assert!(tls.is_outdated() && tls.reload().unwrap() && !tls.reload().unwrap());
    let (accepted, another) = shake(&tls, &new.ca, &[]).await;
    assert!(accepted.is_ok());
    assert_ne!(serial(&another.unwrap()), before);

    client.write_all(b"x").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'x', "the connection of before goes on");

    fs::remove_file(&new.certificate).unwrap();
    assert!(tls.is_outdated() && tls.reload().is_err() && !tls.is_outdated());
    assert!(shake(&tls, &new.ca, &[]).await.0.is_ok(), "what was in use stays");
}

#[tokio::test]
async fn plain_http_is_told_that_this_is_tls() {
    let folder = tempfile::tempdir().unwrap();
    let tls = load(&Certificates::create(folder.path()));
    let (error, answer) = plainly(&tls, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(error.to_string(), "plain HTTP where TLS is spoken");
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{answer}");
    assert!(body.contains("TLS"), "{body}");

    let (error, answer) = plainly(&tls, b"\x00nonsense that is no TLS either").await;
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(!answer.starts_with(b"HTTP"), "an alert, or nothing");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_finish_the_handshake_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let tls = load(&Certificates::create(folder.path()));
    // Nothing; the beginning of a record.
    for bytes in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00"] {
        let start = Instant::now();
        let (error, _) = plainly(&tls, bytes).await;
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{bytes:?}: {error}");
        let took = start.elapsed();
        assert!(took >= HANDSHAKE_TIMEOUT && took < HANDSHAKE_TIMEOUT * 2, "{bytes:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_given_up_after_the_write_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::create(folder.path());
    let tls = load(&certificates);
    let (server, client) = shake(&tls, &certificates.ca, &[]).await;
    let (mut server, _client) = (server.unwrap(), client.unwrap());
    let chunk = vec![b'x'; 1 << 20];
    let mut start = Instant::now();
    let error = loop {
        match server.write(&chunk).await {
            Ok(_) => start = Instant::now(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let took = start.elapsed();
    assert!(took >= WRITE_TIMEOUT && took < WRITE_TIMEOUT * 2, "{took:?}");
    let ClientStream::Tls(stream) = &server else { panic!("it is TLS") };
    assert!(stream.get_ref().0.peer().is_timed_out(), "the peer is told");
}
