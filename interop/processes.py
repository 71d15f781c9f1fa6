"""Processes of one run, each in a process group of its own, and the folder and ports they use.

Whatever way the run ends, `Processes.stop_all` ends every one of them by its id, with what it started itself.
"""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

# Below the ports that Linux gives to outgoing connections: while a server is down, no client takes its port.
PORTS = range(15_000, 32_000)

# Seconds that all have to end before they are killed: enough for a browser, not for a gateway's drain.
STOP_WITHIN = 3.0

# Debian keeps nginx and haproxy in sbin, which a plain user's PATH may lack.
os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class RunError(Exception):
    """The run could not be done. It says nothing about losses."""


def free_ports(count):
    """Different ports of 127.0.0.1 on which nobody listens at this moment."""
    held = []
    try:
        # All of them are held until the last was found, so that they differ.
        while len(held) < count:
            candidate = socket.socket()
            try:
                candidate.bind(("127.0.0.1", random.choice(PORTS)))
            except OSError:
                candidate.close()
                continue
            held.append(candidate)
        return [candidate.getsockname()[1] for candidate in held]
    finally:
        for candidate in held:
            candidate.close()


def program(name):
    """Path of a program of the PATH."""
    path = shutil.which(name)
    if path is None:
        raise RunError(f"{name} is missing; `make setup` installs it")
    return path


async def eventually(what, check, within=30.0, every=0.05):
    """Asks until the answer is true, and returns it."""
    deadline = time.monotonic() + within
    while True:
        answer = await check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise RunError(f"not within {within:g} s: {what}")
        await asyncio.sleep(every)


async def http_status(port, path):
    """Status of GET `path` on 127.0.0.1; None when no answer comes."""
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 2)
    except (OSError, asyncio.TimeoutError):
        return None
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        line = await asyncio.wait_for(reader.readline(), 2)
        return int(line.split()[1])
    except (OSError, asyncio.TimeoutError, ValueError, IndexError):
        return None
    finally:
        writer.close()


def _with_parent():
    """Prefix that has the system end a child whose parent was killed without a word; empty where it cannot."""
    # Not KILL: nginx would leave its workers behind, and ChromeDriver its browser.
    prefix = ["setpriv", "--pdeathsig", "TERM", "--"]
    try:
        works = subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0
    except OSError:
        works = False
    return prefix if works else []


class Processes:
    """What runs, by name. A name that ended may be started again; its log goes on."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self._prefix = _with_parent()
        self._running = {}

    def log(self, name):
        """The log's path."""
        return self.folder / f"{name}.log"

    async def start(self, name, *command, env=None, stdout=None, cwd=None):
        """Starts `command`; standard output too goes to its log, unless `stdout` says where."""
        with open(self.log(name), "ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self._prefix,
                *map(str, command),
                env={**os.environ, **(env or {})},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=stdout or log,
                stderr=log,
                start_new_session=True,
                limit=1 << 20,
            )
        self._running[name] = process
        return process

    def runs(self, name):
        """Whether it has not ended."""
        process = self._running.get(name)
        return process is not None and process.returncode is None

    def check(self):
        """Fails when one has ended that nobody told to."""
        for name, process in self._running.items():
            if process.returncode is not None:
                raise RunError(f"{name} ended with {process.returncode}; its log:\n{self.tail(name)}")

    def tail(self, name, lines=20):
        """The end of its log, indented."""
        text = self.log(name).read_text(errors="replace")
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])

    def copy_logs(self, folder):
        """Leaves all logs in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        for log in self.folder.glob("*.log"):
            shutil.copy(log, folder)

    async def kill(self, name):
        """SIGKILL to the process alone, and waits for its end."""
        process = self._running.pop(name)
        process.kill()
        await process.wait()

    async def terminate(self, name, within):
        """SIGTERM; returns its exit code."""
        process = self._running[name]
        process.terminate()
        try:
            code = await asyncio.wait_for(process.wait(), within)
        except asyncio.TimeoutError:
            raise RunError(f"{name} did not end within {within:g} s of SIGTERM; its log:\n{self.tail(name)}") from None
        del self._running[name]
        return code

    async def stop_all(self):
        """Asks all of them to end, and kills what is left, with their process groups."""
        for process in self._running.values():
            if process.returncode is None:
                _signal_group(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_WITHIN
        for process in self._running.values():
            try:
                await asyncio.wait_for(process.wait(), max(0.0, deadline - time.monotonic()))
            except asyncio.TimeoutError:
                pass
            # Also what the process itself left behind.
            _signal_group(process.pid, signal.SIGKILL)
            await process.wait()
        self._running.clear()


def _signal_group(group, number):
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def supervise(scenario):
    """Runs it to its end, or until a signal, which lets it clean up too; returns the exit code."""

    async def guarded():
        task = asyncio.current_task()
        interrupted = False

        def interrupt():
            # Once: another signal would end the cleaning up half-way.
            nonlocal interrupted
            if not interrupted:
                interrupted = True
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, interrupt)
        return await scenario

    try:
        return 0 if asyncio.run(guarded()) else 1
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
    except asyncio.CancelledError:
        print("error: interrupted", file=sys.stderr)
    return 2
