//! What one connection makes of the bytes it reads: decodes them and takes each event into its account. It must not do I/O.

use std::sync::atomic::Ordering;

use shared::event_stream::decode::{Decoded, Decoder};

use crate::counters::{Counters, add, get, unix_ns};
use crate::verify::{Arrival, Marker, Tracker};

/// Room for the lines of a block beside the data, in bytes.
const BLOCK_OVERHEAD: usize = 16 * 1024;
/// The number each channel starts from.
const FIRST_SEQUENCE: u64 = 0;

/// One connection's reader.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Index of its channel, which each event of it must carry.
    pub(crate) key: u32,
    /// Whether `sse.open` was seen.
    pub(crate) is_open: bool,
    /// What arrived, in which order.
    pub(crate) tracker: Tracker,
    /// Events without a name that are none of this channel's: no marker, another key, another size.
    pub(crate) foreign: u64,
    /// `sse.gap` events.
    pub(crate) gaps: u64,
    size: usize,
    decoder: Decoder,
}

impl Listener {
    /// For channel `key`, whose events have `size` bytes of data.
    pub(crate) fn new(key: u32, size: usize) -> Self {
        Self {
            key,
            is_open: false,
            tracker: Tracker::starting_at(FIRST_SEQUENCE),
            foreign: 0,
            gaps: 0,
            size,
            decoder: Decoder::with_limit(size + BLOCK_OVERHEAD),
        }
    }

    /// Takes the next bytes of the stream, cut anywhere. An error means that it cannot be read on.
    pub(crate) fn take(&mut self, bytes: &[u8], counters: &Counters) -> Result<(), String> {
        let fed = self.decoder.feed(bytes);
        let now_ns = unix_ns();
        let measure_from_ns = get(&counters.measure_from_ns);
        let (mut arrived, mut delivered) = (0, 0);
        while let Some(item) = self.decoder.next() {
            // Comments, ids and retry times are the gateway's business with real clients.
            let Decoded::Event(event) = item else { continue };
            if event.event != "message" {
                self.take_named(&event.event);
                continue;
            }
            arrived += 1;
            let Some(marker) = self.own_marker(&event.data) else {
                self.foreign += 1;
                continue;
            };
            if self.tracker.receive(marker.sequence) == Arrival::Duplicate {
                continue;
            }
            delivered += 1;
            if marker.sent_at_ns >= measure_from_ns {
                counters.latency.record(now_ns.saturating_sub(marker.sent_at_ns));
            }
        }
        if arrived > 0 {
            add(&counters.arrived, arrived);
            add(&counters.delivered, delivered);
            counters.last_arrival_ns.fetch_max(now_ns, Ordering::Relaxed);
        }
        fed.map_err(|error| error.to_string())
    }

    /// Named events are the gateway's own words; heartbeats and whatever else has a name prove nothing.
    fn take_named(&mut self, name: &str) {
        match name {
            "sse.open" => self.is_open = true,
            "sse.gap" => self.gaps += 1,
            _ => {}
        }
    }

    /// The marker, if the event is whole and of this channel.
    fn own_marker(&self, data: &str) -> Option<Marker> {
        Marker::parse(data).filter(|marker| marker.key == self.key && data.len() == self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Published;

    #[test]
    fn bytes_cut_anywhere_give_the_same_account() {
        let text = "retry: 100\nid: 1-0_ab\n\nevent: sse.open\ndata: {}\n\n: hi\n\ndata: @0,5,7;xx\nid: 2\n\nevent: sse.gap\ndata: {}\n\n\
                    event: ping\ndata: x\n\ndata: @1,5,7;xx\n\ndata: @1,5,7;xx\n\ndata: @3,5,7;xx\n\ndata: @2,5,7;xx\n\n\
                    data: @4,5,8;xx\n\ndata: @4,5,7;x\n\ndata: hello\n\n";
        for cut in 1..text.len() {
            let counters = Counters::new();
            counters.measure_from_ns.store(5, Ordering::Relaxed);
            let mut listener = Listener::new(7, 9);
            for piece in text.as_bytes().chunks(cut) {
                listener.take(piece, &counters).unwrap();
            }
            assert!(listener.is_open);
            assert_eq!((listener.foreign, listener.gaps), (3, 1), "cut every {cut}");
            let verdict = listener.tracker.verdict(&Published { attempted: 5, unsure: Vec::new() });
            assert_eq!((verdict.lost, verdict.duplicated, verdict.out_of_order), (1, 1, 1), "cut every {cut}");
            assert_eq!((get(&counters.arrived), get(&counters.delivered)), (8, 4), "cut every {cut}");
            assert_eq!(counters.latency.count(), 4);
        }
    }

    #[test]
    fn events_sent_before_measuring_count_for_no_latency() {
        let counters = Counters::new();
        counters.measure_from_ns.store(6, Ordering::Relaxed);
        let mut listener = Listener::new(0, 9);
        listener.take(b"data: @0,5,0;xx\n\ndata: @1,6,0;xx\n\n", &counters).unwrap();
        listener.take(b"data: @2,5,0;x\n\ndata: @3,6,0;x\n\n", &counters).unwrap();
        assert_eq!((listener.foreign, counters.latency.count()), (2, 1));
    }

    #[test]
    fn a_block_without_end_ends_the_connection() {
        let counters = Counters::new();
        let mut listener = Listener::new(0, 64);
        let error = listener.take(&vec![b'x'; BLOCK_OVERHEAD + 65], &counters).unwrap_err();
        assert!(error.contains("longer than"), "{error}");
    }
}
