"""Thousands of EventSources on asyncio, as faithful as a browser's where it matters.

Each reconnects after the `retry:` it was last told, with the last id of a whole block in `Last-Event-ID`, whatever ended
its stream; and gives up for good on a status other than 200 or another type than text/event-stream.
"""

import asyncio
import json
from collections import Counter

from account import Account
from event_stream import EventStream

# Milliseconds, until the server has said.
DEFAULT_RETRY = 3_000
# Seconds from the request to the head of the answer.
HEAD_WITHIN = 30.0


class Fleet:
    """What all clients share, and what happened to them."""

    def __init__(self, port, published, on_cut=None, on_back=None):
        self.address = ("127.0.0.1", port)
        self.published = published
        self.loop = asyncio.get_running_loop()
        # Called with a client that lost a stream that had been opened, and with one that has another.
        self.on_cut = on_cut or (lambda client: None)
        self.on_back = on_back or (lambda client: None)
        self.clients = []
        # Clients that gave up, by reason.
        self.over = Counter()
        # Streams that ended before `sse.open`, by reason.
        self.turned_away = Counter()
        self.gaps = 0
        self.closing = False

    async def open(self, count, paths, rate):
        """Opens `count` clients, `rate` a second, on each path in turn. `paths` holds `(path, channels)`."""
        begun = self.loop.time()
        for index in range(count):
            path, channels = paths[index % len(paths)]
            client = Client(self, path, channels)
            self.clients.append(client)
            client.connect()
            await asyncio.sleep(max(0.0, begun + index / rate - self.loop.time()))

    def on(self, node):
        """Number of clients with an open stream of that node."""
        return sum(client.node == node for client in self.clients)

    def is_complete(self):
        """Whether each has come to its end, or never will."""
        return all(client.given_up or client.account.is_complete(self.published) for client in self.clients)

    def close(self):
        """Ends all of them."""
        self.closing = True
        for client in self.clients:
            client.close()


class Client:
    """One EventSource."""

    def __init__(self, fleet, path, channels):
        self.fleet = fleet
        self.path = path
        self.account = Account(channels)
        self.last_event_id = ""
        self.retry = DEFAULT_RETRY
        # Node of the stream that is open; None while it is away.
        self.node = None
        # Node that the last stream was cut off from, and the loop's time of that.
        self.cut_from = None
        self.cut_at = None
        self.opened = 0
        self.given_up = None
        self._task = None
        self._timer = None
        self._transport = None

    def connect(self):
        """Asks for the stream."""
        self._timer = None
        if not self.fleet.closing:
            self._task = self.fleet.loop.create_task(self._connect())

    async def _connect(self):
        try:
            connecting = self.fleet.loop.create_connection(lambda: Response(self), *self.fleet.address)
            self._transport, _ = await asyncio.wait_for(connecting, HEAD_WITHIN)
        except (OSError, asyncio.TimeoutError) as error:
            self.ended(f"connect: {error!r}")

    def request(self):
        """What a browser sends."""
        host, port = self.fleet.address
        head = f"GET {self.path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        head += "Accept: text/event-stream\r\nCache-Control: no-cache\r\n"
        if self.last_event_id:
            head += f"Last-Event-ID: {self.last_event_id}\r\n"
        return (head + "\r\n").encode()

    def heard(self, name, data):
        """An event."""
        if name == "message":
            self.account.receive(data, self.fleet.published)
        elif name == "sse.open":
            self.node = json.loads(data)["node"]
            self.opened += 1
            self.fleet.on_back(self)
        elif name == "sse.gap":
            self.fleet.gaps += 1

    def ended(self, reason):
        """The stream ended, somehow; it is asked for again."""
        if self.fleet.closing:
            return
        if self.node is None:
            self.fleet.turned_away[reason] += 1
        else:
            self.cut_from, self.node = self.node, None
            self.cut_at = self.fleet.loop.time()
            self.fleet.on_cut(self)
        self._timer = self.fleet.loop.call_later(self.retry / 1000, self.connect)

    def give_up(self, reason):
        """An answer on which an EventSource gives up."""
        self.given_up = reason
        self.fleet.over[reason] += 1

    def close(self):
        """Ends it."""
        if self._timer:
            self._timer.cancel()
        if self._task:
            self._task.cancel()
        if self._transport:
            self._transport.abort()


class Response(asyncio.Protocol):
    """One HTTP/1.1 answer: its head, and its body in chunks, of a known length, or up to the end of the connection."""

    def __init__(self, client):
        self._client = client
        self._stream = EventStream(client.last_event_id, client.retry)
        self._buffer = b""
        self._transport = None
        self._chunked = False
        # Bytes of the body, or of the chunk and its line end, that are still to come; None: up to the connection's end.
        self._left = None
        self._in_body = False
        self._done = False
        self._timer = None

    def connection_made(self, transport):
        self._transport = transport
        transport.write(self._client.request())
        self._timer = self._client.fleet.loop.call_later(HEAD_WITHIN, self._end, "no head in time")

    def data_received(self, data):
        if self._done:
            return
        if self._in_body:
            self._body(data)
            return
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        self._buffer = b""
        self._timer.cancel()
        if self._head(head.decode("latin-1")):
            self._in_body = True
            self._body(rest)

    def connection_lost(self, exc):
        self._end("the connection was cut off" if exc is None else repr(exc))

    def _head(self, text):
        """Whether a stream follows."""
        first, *lines = text.split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        status = first.split(" ")[1] if first.startswith("HTTP/1.1 ") else first
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if status != "200" or media_type != "text/event-stream":
            self._done = True
            self._client.give_up(f"status {status}, type {media_type or 'none'}")
            self._transport.abort()
            return False
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._left = 0 if self._chunked else None
        if not self._chunked and "content-length" in headers:
            self._left = int(headers["content-length"])
        return True

    def _body(self, data):
        if self._chunked:
            self._chunks(data)
            return
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        self._take(data)
        if self._left == 0:
            self._end("the end of the answer")

    def _chunks(self, data):
        """`_left` counts the chunk's bytes and the line end behind them; 0 is where a size is to come."""
        data = self._buffer + data
        self._buffer = b""
        at = 0
        while at < len(data):
            if self._left == 0:
                end = data.find(b"\r\n", at)
                if end < 0:
                    self._buffer = data[at:]
                    return
                size = int(data[at:end].split(b";")[0], 16)
                if size == 0:
                    self._end("the end of the answer")
                    return
                self._left = size + 2
                at = end + 2
            taken = min(self._left, len(data) - at)
            # The last two are the line end.
            content = min(taken, self._left - 2) if self._left > 2 else 0
            if content > 0:
                self._take(data[at : at + content])
            self._left -= taken
            at += taken

    def _take(self, data):
        client, stream = self._client, self._stream
        for name, text in stream.feed(data):
            client.heard(name, text)
        client.last_event_id = stream.last_event_id
        client.retry = DEFAULT_RETRY if stream.retry is None else stream.retry

    def _end(self, reason):
        if self._done:
            return
        self._done = True
        if self._timer:
            self._timer.cancel()
        self._transport.abort()
        self._client.ended(reason)
