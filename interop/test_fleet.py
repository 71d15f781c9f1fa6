"""The HTTP side of the EventSources: any framing, cut into pieces of any size."""

import unittest

from fleet import Response

EVENTS = "retry: 700\nid: 1-0_a\n\nevent: sse.open\ndata: {}\n\ndata: 안녕\nid: 2-0_a\n\n".encode()
EVENTS += b"data: unfinished\nid: 3-0_a\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"


def chunked(body, size, end=b"0\r\n\r\n"):
    """The body in chunks of `size` bytes."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in parts) + end


class Loop:
    """Stands for the event loop: no time passes."""

    def call_later(self, *_):
        """A timer."""
        return self

    def cancel(self):
        """Of the timer."""


class Transport:
    """Stands for the connection."""

    def write(self, data):
        """Nothing is sent."""

    def abort(self):
        """Nothing is there to end."""


class Client:
    """Stands for the EventSource, and remembers."""

    def __init__(self):
        self.fleet = type("Fleet", (), {"loop": Loop()})()
        self.last_event_id, self.retry = "", 3_000
        self.events, self.ends, self.given_up = [], [], None

    def request(self):
        """Its bytes."""
        return b""

    def heard(self, name, data):
        """An event."""
        self.events.append((name, data))

    def ended(self, reason):
        """The end."""
        self.ends.append(reason)

    def give_up(self, reason):
        """The end for good."""
        self.given_up = reason


def answer(data, piece):
    """What a client makes of an answer that arrives in pieces, and then is cut off."""
    client = Client()
    response = Response(client)
    response.connection_made(Transport())
    for start in range(0, len(data), piece):
        response.data_received(data[start : start + piece])
    response.connection_lost(None)
    return client


class Responses(unittest.TestCase):
    """Bytes in, events and ends out."""

    def check(self, data, end):
        """The same, whatever the pieces."""
        for piece in (1, 2, 3, 5, 8, 13, 64, len(data)):
            client = answer(data, piece)
            self.assertEqual(client.events, [("sse.open", "{}"), ("message", "안녕")], piece)
            self.assertEqual((client.last_event_id, client.retry, client.ends), ("2-0_a", 700, [end]), piece)

    def test_chunks(self):
        for size in (1, 2, 7, 16, 17, len(EVENTS)):
            head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
            self.check(head + chunked(EVENTS, size), "the end of the answer")
            self.check(head + chunked(EVENTS, size, b""), "the connection was cut off")

    def test_a_known_length(self):
        head = HEAD + b"Content-Length: %d\r\n\r\n" % len(EVENTS)
        self.check(head + EVENTS + b"HTTP/1.1 400 Bad\r\n\r\n", "the end of the answer")

    def test_up_to_the_end(self):
        self.check(HEAD + b"\r\n" + EVENTS, "the connection was cut off")

    def test_other_answers_are_for_good(self):
        heads = ["204 No Content", "301 Moved", "502 Bad Gateway", "200 OK", "200 OK\r\nContent-Type: text/html"]
        for head in [*heads, "204 No\r\nContent-Type: text/event-stream", "502 Bad\r\nContent-Type: text/event-stream"]:
            client = answer(f"HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n".encode(), 7)
            self.assertTrue(client.given_up, head)
            self.assertEqual(client.ends, [], head)


if __name__ == "__main__":
    unittest.main()
