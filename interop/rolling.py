"""A rolling restart of three nodes behind nginx, then behind HAProxy, under thousands of live clients.

Each node in turn gets SIGTERM, is waited for, is started again on its port, and the next one's turn comes when its /readyz
says so. Durable events go on meanwhile. Every client is owed every event of its channels, once and in order, and no client
may be told what an EventSource gives up on.

Exit code: 0 all is well behind every proxy; 1 not so; 2 the run could not be done.
"""

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlencode

import report
from account import Published, Verdict
from cluster import Cluster
from fleet import Fleet
from processes import RunError, eventually, supervise
from publishing import Publishing

CHANNELS = ["rolling:1", "rolling:2", "rolling:3", "rolling:4"]
# Each client reads one of these; there are two events on CHANNELS[0] and [1] for each on the others.
PATHS = [CHANNELS[:1], CHANNELS[1:2], CHANNELS[2:]]
TURNS = [CHANNELS[index] for index in (0, 1, 2, 0, 1, 3)]

# Clients that are opened in a second.
OPEN_RATE = 400
# Seconds that a node has from SIGTERM to its end: more than the longest drain.deadline that makes sense here.
END_WITHIN = 90.0
# Seconds that clients have to hear of what is still missing, once all was published.
HEARD_WITHIN = 30.0


class Restart:
    """What one node's restart did to the clients. Times are seconds since its SIGTERM."""

    def __init__(self, node, clients, begun):
        self.node = node
        self.clients = clients
        self.begun = begun
        self.exit_code = None
        self.ended_after = 0.0
        self.ready_after = 0.0
        self.cut = Counter()
        self.back = Counter()


class Restarts:
    """All of them, and what happened to clients outside any."""

    def __init__(self):
        self.done = []
        self.unexpected = 0
        self.longest_away = 0.0

    def cut(self, client):
        """A client lost its stream."""
        restart = self._of(client.cut_from)
        if restart is None:
            self.unexpected += 1
            return
        restart.cut[int(client.cut_at - restart.begun)] += 1

    def back(self, client):
        """A client has a stream, perhaps again."""
        if client.cut_at is None:
            return
        now = client.fleet.loop.time()
        self.longest_away = max(self.longest_away, now - client.cut_at)
        restart = self._of(client.cut_from)
        if restart is not None:
            restart.back[int(now - restart.begun)] += 1

    def _of(self, node):
        """The restart of that node, if it has been told to stop."""
        return next((restart for restart in self.done if restart.node == node), None)


async def run(options, folder, proxy):
    """The run behind one proxy; returns whether all is well."""
    cluster = Cluster(folder, nodes=3, proxy=proxy)
    fleet = None
    try:
        await cluster.start()
        published = Published()
        restarts = Restarts()
        fleet = Fleet(cluster.front, published, restarts.cut, restarts.back)
        paths = [("/events?" + urlencode([("channel", channel) for channel in path]), path) for path in PATHS]
        await fleet.open(options.clients, paths, OPEN_RATE)
        await all_open(cluster, fleet)
        await restart_and_publish(options, cluster, fleet, published, restarts)
        deadline = time.monotonic() + HEARD_WITHIN
        while not fleet.is_complete() and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        # What would come twice would come now.
        await asyncio.sleep(2)
        cluster.processes.check()
        return tell(cluster, fleet, published, restarts)
    finally:
        if fleet:
            fleet.close()
        await cluster.processes.stop_all()
        if options.logs:
            cluster.processes.copy_logs(options.logs / proxy)


async def all_open(cluster, fleet):
    """Waits until every client has its stream: from then on every event is owed to it."""

    async def check():
        cluster.processes.check()
        if fleet.over:
            raise RunError(f"clients were turned away for good before anything was restarted: {dict(fleet.over)}")
        return all(client.node for client in fleet.clients)

    await eventually("every client has its stream", check, within=60)


async def restart_and_publish(options, cluster, fleet, published, restarts):
    """The rolling restart, while events are published."""
    publishing = Publishing(cluster.publisher, published)
    stop = asyncio.Event()
    # Short events: it is about how many clients there are.
    steady = asyncio.create_task(publishing.run(options.rate, TURNS, ["plain", "안녕하세요"], stop))
    try:
        await asyncio.sleep(3)
        for node in cluster.nodes:
            restart = Restart(node, fleet.on(node), fleet.loop.time())
            restarts.done.append(restart)
            print(f"{cluster.proxy}: {node} with {restart.clients} clients is told to stop", flush=True)
            restart.exit_code = await cluster.processes.terminate(node, END_WITHIN)
            restart.ended_after = fleet.loop.time() - restart.begun
            await cluster.start_node(node)
            await cluster.node_ready(node)
            restart.ready_after = fleet.loop.time() - restart.begun
            if steady.done():
                break
        await asyncio.sleep(5)
    finally:
        stop.set()
        await steady


HEAD = ["proxy", "clients", "events", "owed", "received", "lost", "duplicated", "out of order", "altered", "gaps"]
HEAD += ["ended for good", "reconnects", "turned away", "longest away"]


def tell(cluster, fleet, published, restarts):
    """Prints what happened; returns whether all is well."""
    total, wrong = Verdict(), []
    for index, client in enumerate(fleet.clients):
        verdict = client.account.verdict(published)
        total.add(verdict)
        if client.given_up or not verdict.is_clean():
            wrong.append((index, client, verdict))
    reconnects = sum(max(0, client.opened - 1) for client in fleet.clients)
    row = [cluster.proxy_version(), len(fleet.clients), len(published.texts), total.owed, total.received, total.lost]
    row += [total.duplicated, total.out_of_order, total.altered, fleet.gaps, sum(fleet.over.values()), reconnects]
    row += [sum(fleet.turned_away.values()), f"{restarts.longest_away:.1f} s"]
    print()
    print(report.table(HEAD, [row]))
    for reason, count in fleet.over.items():
        print(f"ended for good: {count} x {reason}")
    for reason, count in fleet.turned_away.items():
        print(f"turned away: {count} x {reason}")
    print()
    histogram(restarts)
    for index, client, verdict in wrong[:5]:
        print(f"\nclient {index} ({', '.join(sorted(client.account.channels))}), opened {client.opened} times: {verdict}")
        for before, run_of, after in client.account.holes(published)[:5]:
            print(f"  lost {len(run_of)}: {report.numbers(run_of)}; before them {before}, after them {after}")
        print(f"  last cut off from {client.cut_from}, now on {client.node}, gave up: {client.given_up}")
    if len(wrong) > 5:
        print(f"and {len(wrong) - 5} clients more")
    problems = complaints(restarts, fleet, reconnects)
    for problem in problems:
        print(f"error: {problem}")
    print(flush=True)
    return not wrong and not problems


def complaints(restarts, fleet, reconnects):
    """What is wrong apart from events."""
    problems = [f"{each.node} ended with {each.exit_code}" for each in restarts.done if each.exit_code != 0]
    if fleet.gaps:
        problems.append(f"{fleet.gaps} times clients were told of a gap")
    if restarts.unexpected:
        problems.append(f"{restarts.unexpected} streams ended on nodes that nobody had told to stop")
    if reconnects < len(fleet.clients):
        problems.append(f"only {reconnects} reconnects for {len(fleet.clients)} clients: the restarts were not felt")
    return problems


def histogram(restarts):
    """How streams ended, and clients came back, over the seconds since their node's SIGTERM."""
    for each in restarts.done:
        busiest = max(each.cut.values(), default=0)
        share = 100 * busiest / max(1, sum(each.cut.values()))
        print(
            f"{each.node}: {each.clients} clients, ended after {each.ended_after:.1f} s with {each.exit_code}, "
            f"ready again after {each.ready_after:.1f} s; {share:.0f} % of its streams ended in one second"
        )
    cut, back = Counter(), Counter()
    for each in restarts.done:
        cut += each.cut
        back += each.back
    seconds = range(max([*cut, *back], default=0) + 1)
    highest = max([*cut.values(), *back.values()], default=0)
    print("\nseconds since SIGTERM, streams that ended (of all nodes), clients that came back")
    for second in seconds:
        bars = f"{report.bar(cut[second], highest, 40):40}  {back[second]:6}  {report.bar(back[second], highest, 40)}"
        print(f"{second:4}  {cut[second]:6}  {bars}".rstrip())


async def run_all(options):
    """One proxy after the other; all of them, also when one fails."""
    well = True
    for proxy in options.proxy or ["nginx", "haproxy"]:
        with tempfile.TemporaryDirectory(prefix="rolling-", ignore_cleanup_errors=True) as folder:
            well &= await run(options, Path(folder), proxy)
    return well


def main():
    """Flags and the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=2_000)
    parser.add_argument("--rate", type=float, default=18, help="events a second over all channels")
    parser.add_argument("--proxy", action="append", choices=["nginx", "haproxy"], help="this one alone")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="where to leave the logs of all processes")
    options = parser.parse_args()
    # A connection is an open file here, and two in the proxy.
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * options.clients + 1_000
    if files < needed:
        if most != resource.RLIM_INFINITY and most < needed:
            parser.error(f"--clients {options.clients} takes {needed} open files, and {most} are allowed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))
    return supervise(run_all(options))


if __name__ == "__main__":
    sys.exit(main())
