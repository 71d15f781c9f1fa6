//! `address`: whether somebody is there; `protocol`: which HTTP it speaks.

use crate::cli::doctor::checks::{Check, span};
use crate::cli::doctor::connection::{How, Protocol, Stage, Unreachable};

const NAME: &str = "address";

/// Of the first connection; `failed` others before it did not come about.
pub(in crate::cli::doctor) fn address(reached: &Result<How, Unreachable>, failed: usize) -> Check {
    let unreachable = match reached {
        Ok(how) => {
            let tls = how.tls.map(|tls| format!(", TLS in {}", span(tls))).unwrap_or_default();
            let measured = format!("{}, connected in {}{tls}, {}", how.address, span(how.connect), how.protocol.name());
            if failed == 0 {
                return Check::ok(NAME, measured);
            }
            let meaning = format!("{failed} of {} connections did not come about: `nodes` says more", failed + 1);
            return Check::remark(NAME, measured, meaning);
        }
        Err(unreachable) => unreachable,
    };
    let why = &unreachable.why;
    match unreachable.stage {
        Stage::Name => Check::wrong(NAME, why, "the name leads nowhere: browsers do not come as far as a connection")
            .change("DNS", "an A or AAAA record for the name; and ask the resolver that this machine uses"),
        Stage::Tcp => Check::wrong(NAME, why, "nobody takes connections there, or a firewall drops them")
            .change("listener", "does the load balancer run, and listen on this port and address? Behind --url stands what browsers use")
            .change("firewall", "allow the port: security groups, NetworkPolicy, host firewall"),
        Stage::Certificate => Check::wrong(NAME, why, "browsers refuse such a certificate too, and an EventSource says nothing but `error`")
            .change("nginx", "ssl_certificate: a file with the server's certificate and, behind it, those between it and its authority")
            .change("HAProxy", "crt: the same, with the key in one file")
            .change("here", "an authority of your own: SSL_CERT_FILE=/path/of/ca.pem before the command"),
        Stage::Tls => Check::wrong(NAME, why, "there is a connection, and no TLS on it")
            .change("--url", "http:// where the port is plain")
            .change("nginx", "listen 443 ssl; without ssl the port speaks plain HTTP"),
        Stage::Http => Check::wrong(NAME, why, "there is a connection, and no HTTP on it")
            .change("--url", "the port of the load balancer, not of something else"),
    }
}

/// Which HTTP a browser gets.
pub(in crate::cli::doctor) fn protocol(tls: bool, protocol: Protocol) -> Check {
    const SIX: &str = "a browser opens six HTTP/1.1 connections to a host at most, over all its tabs: with a stream in each, \
                       the seventh tab hangs without a word";
    match (tls, protocol) {
        (true, Protocol::Http2) => Check::ok("protocol", "HTTP/2 by ALPN: one connection has room for all tabs"),
        (true, Protocol::Http1) => {
            Check::wrong("protocol", "HTTP/1.1 alone: h2 was offered by ALPN and not taken", SIX)
                .change("nginx", "http2 on; in the server block, or before 1.25.1: listen 443 ssl http2;")
                .change("HAProxy", "bind ... ssl crt ... alpn h2,http/1.1")
                .change("Caddy", "does it by itself, unless servers { protocols h1 } says otherwise")
                .change(
                    "AWS ALB",
                    "does it by itself on an HTTPS listener; one that is TCP or TLS leaves it to what is behind",
                )
                .change("gateway", "does it by itself where tls.certificate is set")
        }
        (false, _) => Check::remark("protocol", "HTTP/1.1: browsers speak HTTP/2 by https alone", SIX).change(
            "pages",
            "https with HTTP/2 for whoever may have several tabs open; until then one stream a browser",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::doctor::checks::Verdict;

    #[test]
    fn reached() {
        let how = How {
            address: ([127, 0, 0, 1], 443).into(),
            connect: Duration::from_micros(400),
            tls: Some(Duration::from_millis(12)),
            protocol: Protocol::Http2,
        };
        let check = address(&Ok(how.clone()), 0);
        let measured = "127.0.0.1:443, connected in 0.4 ms, TLS in 12 ms, HTTP/2";
        assert_eq!((check.verdict, &*check.measured), (Verdict::Ok, measured));
        let check = address(&Ok(How { tls: None, protocol: Protocol::Http1, ..how }), 2);
        assert_eq!(
            (check.verdict, &*check.measured),
            (Verdict::Remark, "127.0.0.1:443, connected in 0.4 ms, HTTP/1.1")
        );
        assert_eq!(check.meaning, "2 of 3 connections did not come about: `nodes` says more");
    }

    #[test]
    fn not_reached() {
        for (stage, first) in [
            (Stage::Name, "DNS"),
            (Stage::Tcp, "listener"),
            (Stage::Certificate, "nginx"),
            (Stage::Tls, "--url"),
            (Stage::Http, "--url"),
        ] {
            let check = address(&Err(Unreachable { stage, why: "it is so".to_owned() }), 2);
            assert_eq!((check.verdict, &*check.measured, check.change[0].at), (Verdict::Wrong, "it is so", first));
        }
    }

    #[test]
    fn six_connections_are_wrong_on_https_and_a_remark_on_http() {
        assert_eq!(protocol(true, Protocol::Http2).verdict, Verdict::Ok);
        let check = protocol(true, Protocol::Http1);
        assert_eq!(check.verdict, Verdict::Wrong);
        assert_eq!(check.measured, "HTTP/1.1 alone: h2 was offered by ALPN and not taken");
        assert_eq!(check.change[0].what, "http2 on; in the server block, or before 1.25.1: listen 443 ssl http2;");
        assert_eq!(protocol(false, Protocol::Http1).verdict, Verdict::Remark);
    }
}
