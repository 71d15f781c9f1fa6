//! Who is measured, and what the load generator has to be told about each. Pure.

/// A server under load, and how it is published to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The gateway, by plain PUBLISH as the baselines: live only.
    Ours,
    /// The gateway, by `sse_publish`: with positions, ids and a history.
    OursDurable,
    /// `sse-floor`: one send() for each delivery, and nothing else. It knows one channel.
    Floor,
    /// `sse-naive`: an afternoon's work.
    Naive,
}

/// Where a subject and its Redis are.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Public ports of its processes, on 127.0.0.1.
    pub(crate) ports: Vec<u16>,
    /// Process ids, or a shell's words for them.
    pub(crate) pids: Vec<String>,
    pub(crate) redis_port: u16,
    pub(crate) redis_pid: String,
}

impl Subject {
    /// As it stands in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursDurable => "ours, durable",
            Self::Floor => "floor",
            Self::Naive => "naive",
        }
    }

    /// Name of its program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Ours | Self::OursDurable => "sse-gateway",
            Self::Floor => "sse-floor",
            Self::Naive => "sse-naive",
        }
    }

    /// Whether an event that it loses is a failure; of the baselines nobody expects better.
    pub(crate) fn must_keep_all(self) -> bool {
        matches!(self, Self::Ours | Self::OursDurable)
    }

    /// Flags of sse-loadtest that say where it is, how its channels are published on, and whose CPU and memory to read.
    pub(crate) fn flags(self, place: &Place) -> Vec<String> {
        let mut flags: Vec<String> = Vec::new();
        let mut flag = |name: &str, value: String| flags.extend([name.to_owned(), value]);
        for port in &place.ports {
            flag("--url", format!("http://127.0.0.1:{port}"));
        }
        flag("--publish", format!("redis://127.0.0.1:{}", place.redis_port));
        let (command, key) = match self {
            Self::Ours => ("publish", "sse:{channel}"),
            Self::OursDurable => ("fcall", "sse:{channel}"),
            Self::Floor | Self::Naive => ("publish", "{channel}"),
        };
        flag("--command", command.to_owned());
        flag("--key", key.to_owned());
        if self == Self::Floor {
            flag("--channel", "bench".to_owned());
        }
        for pid in &place.pids {
            flag("--server-pid", pid.clone());
        }
        flag("--watch-pid", format!("redis={}", place.redis_pid));
        if !self.must_keep_all() {
            flags.push("--tolerate-loss".to_owned());
        }
        flags
    }

    /// How anybody starts it, with a Redis on port 6379.
    pub(crate) fn started_by_hand(self) -> &'static str {
        match self {
            Self::Ours | Self::OursDurable => {
                "SSE_GATEWAY__DEMO=false target/release/sse-gateway --redis-url redis://127.0.0.1:6379"
            }
            Self::Floor => "target/release/sse-floor --listen 127.0.0.1:8080 --redis 127.0.0.1:6379",
            Self::Naive => "target/release/sse-naive --listen 127.0.0.1:8080 --redis 127.0.0.1:6379",
        }
    }

    /// Where it is when it was started by hand.
    pub(crate) fn place_by_hand(self) -> Place {
        Place {
            ports: vec![8080],
            pids: vec![format!("$(pidof {})", self.program())],
            redis_port: 6379,
            redis_pid: "$(pidof redis-server)".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_by_the_flags_it_needs() {
        let place =
            Place { ports: vec![1, 2], pids: vec!["7".into(), "8".into()], redis_port: 3, redis_pid: "9".into() };
        assert_eq!(
            Subject::OursDurable.flags(&place).join(" "),
            "--url http://127.0.0.1:1 --url http://127.0.0.1:2 --publish redis://127.0.0.1:3 --command fcall \
             --key sse:{channel} --server-pid 7 --server-pid 8 --watch-pid redis=9"
        );
        let floor = Subject::Floor.flags(&Subject::Floor.place_by_hand()).join(" ");
        assert_eq!(
            floor,
            "--url http://127.0.0.1:8080 --publish redis://127.0.0.1:6379 --command publish --key {channel} --channel bench \
             --server-pid $(pidof sse-floor) --watch-pid redis=$(pidof redis-server) --tolerate-loss"
        );
    }
}
