//! Upstreams by TLS: those that are trusted, those that are not, and one that never says a word.

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A server with a certificate for `localhost`, which answers one request. Returns its port and the certificate.
async fn serve_tls() -> (u16, CertificateDer<'static>, JoinSet<()>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let certificate = certificate.der().clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(socket).await else { return };
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        let answer = format!(
            "{HEAD}data: {{\"choices\":[{{\"delta\":{{\"content\":\"safe\"}},\"finish_reason\":\"stop\"}}]}}\n\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    (port, certificate, server)
}

/// Asks `url`, trusting just `trusted`.
async fn ask_trusting(url: &str, trusted: CertificateDer<'static>) -> (Vec<String>, Result<String, SourceError>) {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let connector = Connector::trusting(Endpoint::parse(url).unwrap(), roots).unwrap();
    let upstream = Upstream::with(connector, &ChatSettings::default());
    let items: Vec<_> = upstream.answer(Question::new("x")).collect().await;
    let texts = items.iter().filter_map(|item| match item {
        Ok(Piece::Text(text)) => Some(text.clone()),
        _ => None,
    });
    let last = match items.last().unwrap().clone() {
        Ok(Piece::End { reason }) => Ok(reason),
        Ok(Piece::Text(text)) => panic!("{text}"),
        Err(error) => Err(error),
    };
    (texts.collect(), last)
}

#[tokio::test]
async fn one_that_is_trusted_answers() {
    let (port, certificate, _server) = serve_tls().await;
    let outcome = ask_trusting(&format!("https://localhost:{port}/"), certificate).await;
    assert_eq!(outcome, (vec!["safe".to_owned()], Ok("stop".to_owned())));
}

#[tokio::test]
async fn others_are_told_nothing() {
    let (port, certificate, _server) = serve_tls().await;
    let (_, other, _other_server) = serve_tls().await;
    // In these words, which name no host.
    let refused = ("upstream_unreachable", "cannot reach the upstream: its certificate was refused".to_owned());
    assert_eq!(failure(ask_trusting(&format!("https://localhost:{port}/"), other).await.1), refused);
    let (port, certificate, _server) = {
        drop(certificate);
        serve_tls().await
    };
    let told = failure(ask_trusting(&format!("https://127.0.0.1:{port}/"), certificate.clone()).await.1);
    assert_eq!(told, refused, "a certificate for another name");
    // One that does not speak TLS at all.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let mut plain = JoinSet::new();
    plain.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    let told = failure(ask_trusting(&url, certificate).await.1);
    assert_eq!(told, ("upstream_unreachable", "cannot reach the upstream: no connection by TLS".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn one_that_says_nothing_is_not_waited_for_long() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let start = Instant::now();
    let told = failure(ask_trusting(&url, certificate.der().clone()).await.1);
    assert_eq!(told, ("upstream_unreachable", "cannot reach the upstream: no connection within 10s".to_owned()));
    assert_eq!(start.elapsed().as_secs(), 10);
}
