"""The EventSource of Debian's Chromium, driven through its own ChromeDriver (WebDriver, https://www.w3.org/TR/webdriver2/).

The page is whatever the first URL's server has at `/`, so streams of that URL's origin are of the page's own origin, and
those of another (`localhost` beside `127.0.0.1`) are not and need CORS.
"""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from urllib.parse import urlsplit

import lines

# Seconds between two looks at what the page has heard.
POLL = 0.2

ARGS = [
    "--headless=new",
    # Chromium refuses its sandbox to root, which containers and CI are; it opens our own page alone.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Containers have a /dev/shm of 64 MiB, too small for it.
    "--disable-dev-shm-usage",
]

FOLLOW = """
const heard = window.heard = [];
[...arguments].forEach((url, stream) => {
  const source = new EventSource(url);
  source.addEventListener('sse.open', event => heard.push({stream, what: 'open', data: event.data}));
  source.addEventListener('sse.gap', event => heard.push({stream, what: 'gap', data: event.data}));
  source.onmessage = event => heard.push({stream, what: 'event', id: event.lastEventId, data: event.data});
  source.onerror = () => {
    const over = source.readyState === EventSource.CLOSED;
    heard.push({stream, what: over ? 'over' : 'cut', data: ''});
  };
});
"""


class Driver:
    """A session of a ChromeDriver, which is a child of this process. Chromium is a child of it."""

    def __init__(self, profile):
        command = [shutil.which("chromedriver") or "chromedriver", "--port=0"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        started = "ChromeDriver was started successfully on port "
        port = next((line.removeprefix(started) for line in self._process.stdout if line.startswith(started)), None)
        if port is None:
            raise RuntimeError("chromedriver named no port")
        self._url = f"http://127.0.0.1:{int(port.strip().rstrip('.'))}/session"
        options = {"binary": shutil.which("chromium"), "args": [*ARGS, f"--user-data-dir={profile}"]}
        capabilities = {"alwaysMatch": {"goog:chromeOptions": options}}
        session = self.call("POST", "", capabilities=capabilities)
        self._url += "/" + session["sessionId"]
        self.version = session["capabilities"]["browserVersion"]

    def call(self, method, path, **body):
        """One WebDriver command; returns its value."""
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as response:
            return json.load(response)["value"]

    def script(self, text, *arguments):
        """Runs a script in the page; returns what it does."""
        return self.call("POST", "/execute/sync", script=text, args=arguments)

    def close(self):
        """Ends Chromium in good order, then the driver."""
        try:
            self.call("DELETE", "")
        finally:
            self._process.terminate()
            self._process.wait(10)


def main(urls):
    """Opens the page, follows the URLs, prints what it hears until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        driver = Driver(profile)
        try:
            lines.say(what="version", text=f"Chromium {driver.version}")
            parts = urlsplit(urls[0])
            origin = f"{parts.scheme}://{parts.netloc}"
            driver.call("POST", "/url", url=f"{origin}/")
            if driver.script("return location.origin") != origin:
                raise RuntimeError(f"{origin}/ is no page")
            driver.script(FOLLOW, *urls)
            while True:
                for line in driver.script("return window.heard.splice(0)"):
                    lines.say(**line)
                time.sleep(POLL)
        finally:
            driver.close()


if __name__ == "__main__":
    main(sys.argv[1:])
