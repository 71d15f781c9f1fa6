"""Python's `httpx-sse`, in the loop that its README has for reconnecting.

What is otherwise here: the README has `stamina` retry on httpx.ReadError alone. A stream that ends in good order is no
error at all, and one that a proxy cuts off is another, so this goes on after either.
"""

import platform
import time
from importlib.metadata import version

import httpx
from httpx_sse import connect_sse

import lines


def follow(stream, url):
    """Reads the stream for ever; returns why it cannot."""
    last_event_id = ""
    reconnection_delay = 0.0
    # The default gives up after five silent seconds.
    with httpx.Client(timeout=httpx.Timeout(5.0, read=60.0)) as client:
        while True:
            time.sleep(reconnection_delay)
            headers = {"Accept": "text/event-stream"}
            if last_event_id:
                headers["Last-Event-ID"] = last_event_id
            reason = "the end"
            try:
                with connect_sse(client, "GET", url, headers=headers) as event_source:
                    if event_source.response.status_code != 200:
                        return f"status {event_source.response.status_code}"
                    for sse in event_source.iter_sse():
                        last_event_id = sse.id
                        if sse.retry is not None:
                            reconnection_delay = sse.retry / 1000
                        # It hands out blocks without data too.
                        if sse.data:
                            lines.say_event(stream, sse.event, sse.data, sse.id)
            except httpx.TransportError as error:
                reason = repr(error)
            lines.say(stream=stream, what="cut", data=reason)


if __name__ == "__main__":
    lines.run(f"httpx-sse {version('httpx-sse')}, Python {platform.python_version()}", follow)
