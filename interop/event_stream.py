"""Reads event streams as the WHATWG specification says (9.2.6). Pure: bytes in, events out.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

BOM = b"\xef\xbb\xbf"


class EventStream:
    """One response's stream. `last_event_id` and `retry` outlive it: they belong to the EventSource."""

    def __init__(self, last_event_id="", retry=None):
        self.last_event_id = last_event_id
        # Milliseconds; None until the server has said.
        self.retry = retry
        self._id = last_event_id
        self._event = ""
        self._data = []
        self._rest = b""
        self._first = True
        self._skip_lf = False

    def feed(self, chunk):
        """Takes bytes; returns the events that are complete by them, as `(event, data)`."""
        if self._first:
            chunk = self._rest + chunk
            self._rest = b""
            if len(chunk) < len(BOM) and BOM.startswith(chunk):
                self._rest = chunk
                return []
            self._first = False
            chunk = chunk.removeprefix(BOM)
        if self._skip_lf and chunk:
            # A CR ended the last chunk, and a line with it: the LF of a CRLF ends no other.
            self._skip_lf = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._skip_lf = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._rest:
            chunk = self._rest + chunk
        lines = chunk.split(b"\n")
        self._rest = lines.pop()
        events = []
        for line in lines:
            if line:
                self._field(line)
                continue
            # Also where there is no data, and so no event.
            self.last_event_id = self._id
            if self._data:
                events.append((self._event or "message", "\n".join(self._data)))
                self._data = []
            self._event = ""
        return events

    def _field(self, line):
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "event":
            self._event = value
        elif name == "retry":
            if value.isascii() and value.isdigit():
                self.retry = int(value)
