"""A cluster on loopback: Redis, gateways, the publisher, and nginx or HAProxy in front, from the files in `config/`."""

import os
import re
import subprocess
from pathlib import Path

from processes import Processes, RunError, eventually, free_ports, http_status, program

ROOT = Path(__file__).resolve().parent.parent
BIN_DIR = ROOT / os.environ.get("BIN_DIR", "target/release")

# Seconds that everything has to get ready.
START_WITHIN = 60.0


class Cluster:
    """Starts and stops nodes; knows the ports. Addresses are those of 127.0.0.1."""

    def __init__(self, folder, nodes, proxy, gateway_env=None):
        self.processes = Processes(folder)
        self.folder = Path(folder)
        self.proxy = proxy
        self.nodes = [f"gateway-{number}" for number in range(1, nodes + 1)]
        self._gateway_env = gateway_env or {}
        self._redis, self.publisher, self._publisher_admin, self.front, *ports = free_ports(4 + 2 * nodes)
        self._ports = dict(zip(self.nodes, zip(ports[:nodes], ports[nodes:])))

    async def start(self):
        """Starts everything and waits until it is ready."""
        for name in ("sse-gateway", "sse-publisher"):
            if not (BIN_DIR / name).is_file():
                build = "cargo build --release -p gateway -p publisher"
                raise RunError(f"{BIN_DIR / name} is missing; `{build}` builds it")
        (self.folder / "redis").mkdir()
        redis = [program("redis-server"), ROOT / "config/cluster/redis.conf"]
        redis += ["--bind", "127.0.0.1", "--port", self._redis, "--dir", self.folder / "redis"]
        await self.processes.start("redis", *redis)
        publisher = [BIN_DIR / "sse-publisher", "serve", "--config", ROOT / "config/cluster/publisher.toml"]
        publisher += ["--listen", f"127.0.0.1:{self.publisher}", "--redis-url", self._redis_url()]
        publisher += ["--admin-listen", f"127.0.0.1:{self._publisher_admin}"]
        await self.processes.start("publisher", *publisher)
        for node in self.nodes:
            await self.start_node(node)
        await {"nginx": self._start_nginx, "haproxy": self._start_haproxy}[self.proxy]()
        await self._ready("publisher", self._publisher_admin, "/readyz", 200)
        for node in self.nodes:
            await self.node_ready(node)
        await self._ready(self.proxy, self.front, "/", 404)

    async def start_node(self, node):
        """Starts a gateway, on the ports that are always its own."""
        port, admin = self._ports[node]
        command = [BIN_DIR / "sse-gateway", "--config", ROOT / "config/cluster/gateway.toml"]
        command += ["--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin}"]
        command += ["--redis-url", self._redis_url()]
        await self.processes.start(node, *command, env={"SSE_GATEWAY__NODE": node, **self._gateway_env})

    async def node_ready(self, node):
        """Waits for the gateway's /readyz."""
        await self._ready(node, self._ports[node][1], "/readyz", 200)

    def proxy_version(self):
        """What the proxy calls itself."""
        output = subprocess.run([program(self.proxy), "-v"], check=True, capture_output=True, text=True)
        found = re.search(r"\d+\.\d+[\w.]*", output.stdout + output.stderr)
        return f"{self.proxy} {found.group() if found else '?'}"

    def _redis_url(self):
        return f"redis://127.0.0.1:{self._redis}"

    async def _ready(self, name, port, path, status):
        async def answers():
            self.processes.check()
            return await http_status(port, path) == status

        await eventually(f"{name} answers {path} with {status}", answers, START_WITHIN)

    async def _start_nginx(self):
        folder = self.folder / "nginx"
        folder.mkdir()
        text = (ROOT / "config/cluster/nginx.conf").read_text()
        listen = "        listen 8000;"
        if text.count(listen) != 1:
            raise RunError(f'config/cluster/nginx.conf has no line "{listen}" to put the port in')
        text = text.replace(listen, f"        listen 127.0.0.1:{self.front};")
        (folder / "nginx.conf").write_text(text)
        # The upstreams of config/cluster/upstreams.conf with other addresses, and as many as there are nodes.
        text = (ROOT / "config/cluster/upstreams.conf").read_text()
        text, publishers = re.subn(r"server publisher:8090;", f"server 127.0.0.1:{self.publisher};", text)
        pattern = re.compile(r"^( *server )gateway-1:8080( .*\n) *server gateway-2:8080 .*\n", re.MULTILINE)
        lines = lambda match: "".join(f"{match[1]}127.0.0.1:{port}{match[2]}" for port, _ in self._ports.values())
        text, gateways = pattern.subn(lines, text)
        if (publishers, gateways) != (1, 1):
            raise RunError("config/cluster/upstreams.conf is not as it was: no servers to put addresses in")
        (folder / "upstreams.conf").write_text(text)
        command = [program("nginx"), "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf", "-g"]
        # nginx started by root gives its workers to another user, who may not reach this folder.
        user = "user root;" if os.getuid() == 0 else ""
        await self.processes.start("nginx", *command, f"daemon off; {user}")

    async def _start_haproxy(self):
        env = {"LISTEN": f"127.0.0.1:{self.front}"}
        for number, (port, admin) in enumerate(self._ports.values(), 1):
            env |= {f"GATEWAY_{number}": f"127.0.0.1:{port}", f"GATEWAY_{number}_ADMIN_PORT": str(admin)}
        config = ROOT / "config/lb/haproxy.cfg"
        await self.processes.start("haproxy", program("haproxy"), "-db", "-f", config, env=env)
