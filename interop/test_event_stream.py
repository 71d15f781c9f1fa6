"""The parser that stands for a browser: the examples of the specification, and every way to cut a stream into pieces."""

import unittest

from event_stream import EventStream

STREAM = (
    "\ufeffretry: 2485\nid: 1-0_a\n\n"
    ": a comment\nevent: sse.open\ndata: {}\n\n"
    "data: 안녕\r\ndata:  two\rdata\nid: 2-0_a\n\n"
    "event: nothing\nid: 3-0_a\n\n"
    "data\n\n"
    "data: x\nid: not\0this\nretry: 1x\nunknown: field\n\n"
    "data: unfinished\nid: 9-0_a\n"
).encode()
EVENTS = [("sse.open", "{}"), ("message", "안녕\n two\n"), ("message", ""), ("message", "x")]


class Parser(unittest.TestCase):
    """Bytes in, events out."""

    def test_any_cut_gives_the_same_events(self):
        for size in range(1, len(STREAM) + 1):
            stream = EventStream("0-0_a")
            events = []
            for start in range(0, len(STREAM), size):
                events += stream.feed(STREAM[start : start + size])
            self.assertEqual(events, EVENTS, f"pieces of {size}")
            self.assertEqual((stream.last_event_id, stream.retry), ("3-0_a", 2485), f"pieces of {size}")

    def test_an_id_counts_once_its_block_is_whole(self):
        stream = EventStream("1")
        self.assertEqual(stream.feed(b"id: 2\ndata: x\n"), [])
        self.assertEqual(stream.last_event_id, "1")
        self.assertEqual(stream.feed(b"\n"), [("message", "x")])
        self.assertEqual(stream.last_event_id, "2")

    def test_an_empty_id_forgets(self):
        stream = EventStream("1")
        stream.feed(b"id\n\n")
        self.assertEqual(stream.last_event_id, "")

    def test_line_ends_of_every_kind(self):
        for end in (b"\n", b"\r", b"\r\n"):
            events = EventStream().feed(b"data: x" + end + end + b"data: y" + end + end)
            self.assertEqual(events, [("message", "x"), ("message", "y")])


if __name__ == "__main__":
    unittest.main()
