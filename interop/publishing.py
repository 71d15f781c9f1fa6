"""Publishes numbered durable events through `sse-publisher serve`, at a steady rate, one after the other.

One after the other, so that their numbers are also the order of their positions.
"""

import asyncio
import http.client
import json
import time

from processes import RunError

# What follows the number: what a decoder may stumble over. The last one makes an event several packets long.
TAILS = [
    "plain",
    "안녕하세요, grüß dich, 🙂",
    "two\nlines: the second has a colon",
    "an empty line\n\nin between, and one at the end\n",
    " leading and trailing spaces ",
    '{"json":[1,2.50,null],"text":"a\\nb"}',
    "x" * 4_000,
]


class Publishing:
    """Owns the numbers."""

    def __init__(self, port, published):
        self._port = port
        self._published = published
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._number = 0
        self._lock = asyncio.Lock()

    async def publish(self, channel, tail="plain"):
        """Publishes one event and returns its number. The run fails when the publisher does not take it."""
        async with self._lock:
            self._number += 1
            number = self._number
            text = f"{number} {channel} {tail}"
            self._published.begin(number, channel, text)
            await asyncio.to_thread(self._post, {"channel": channel, "data": text})
            return number

    async def run(self, rate, channels, tails, stop):
        """Publishes `rate` events a second, on each channel in turn, until the event `stop` is set."""
        begun = time.monotonic()
        turn = 0
        while not stop.is_set():
            await self.publish(channels[turn % len(channels)], tails[turn % len(tails)])
            turn += 1
            await asyncio.sleep(max(0.0, begun + turn / rate - time.monotonic()))

    def _post(self, event):
        try:
            body = json.dumps(event).encode()
            self._connection.request("POST", "/publish", body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise RunError(f"publishing failed: {error!r}") from error
        if response.status != 200:
            raise RunError(f"publishing failed: {response.status} {answer[:500]!r}")
