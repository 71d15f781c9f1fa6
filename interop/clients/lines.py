"""What the clients in Python share: a line of JSON for whatever happens, and a thread for each stream."""

import json
import sys
import threading

_lock = threading.Lock()


def say(**line):
    """Prints one line, whole."""
    with _lock:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def run(version, follow):
    """Calls `follow(stream, url)` for every URL of the command line; it returns when the stream is over for good."""
    say(what="version", text=version)
    threads = []
    for stream, url in enumerate(sys.argv[1:]):
        threads.append(threading.Thread(target=_guarded, args=(follow, stream, url), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join()


def _guarded(follow, stream, url):
    try:
        reason = follow(stream, url)
    except Exception as error:  # pylint: disable=broad-except
        reason = repr(error)
    say(stream=stream, what="over", data=reason)


def say_event(stream, name, data, event_id):
    """Prints an event by its name."""
    if name == "message":
        say(stream=stream, what="event", id=event_id, data=data)
    elif name in ("sse.open", "sse.gap"):
        say(stream=stream, what=name.removeprefix("sse."), data=data)
