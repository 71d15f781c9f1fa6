"""Python's `sseclient-py` on `requests`, as its README has it, in the loop that every user of it writes.

It reads one response and knows nothing of another, so the last id is kept here. It hands out no block without data: an
`id:` or `retry:` that comes alone is never seen.
"""

import platform
import time
from importlib.metadata import version

import requests
import sseclient

import lines

# Seconds, until the server says otherwise.
DEFAULT_RETRY = 1.0


def follow(stream, url):
    """Reads the stream for ever; returns why it cannot."""
    last_event_id = None
    retry = DEFAULT_RETRY
    while True:
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        reason = "the end"
        try:
            with requests.get(url, stream=True, headers=headers, timeout=(5, 60)) as response:
                if response.status_code != 200:
                    return f"status {response.status_code}"
                for event in sseclient.SSEClient(response).events():
                    if event.id is not None:
                        last_event_id = event.id
                    if event.retry is not None:
                        retry = int(event.retry) / 1000
                    lines.say_event(stream, event.event, event.data, event.id)
        except requests.RequestException as error:
            reason = repr(error)
        lines.say(stream=stream, what="cut", data=reason)
        time.sleep(retry)


if __name__ == "__main__":
    with_requests = f"sseclient-py {version('sseclient-py')}, requests {version('requests')}"
    lines.run(f"{with_requests}, Python {platform.python_version()}", follow)
