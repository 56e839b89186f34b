"""A real Chromium, driven by the DevTools protocol over its own web socket: no driver beside it.

with chromium(folder) as browser:
    tab = browser.tab()
    tab.open("http://127.0.0.1:6066/")
    tab.wait("document.title.includes('good')")
"""

import base64
import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.debian import program

FLAGS = (
    "--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0", "--lang=en-GB",
    "--disable-extensions", "--disable-dev-shm-usage", "--force-color-profile=srgb",
)  # fmt: skip
PATIENCE = 60.0  # seconds for what a page must do
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35}


class Wire:
    """A web socket to the browser, without the parts of the standard that it does not use."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self._socket.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self._file = self._socket.makefile("rb")
        while self._file.readline().strip():
            pass

    def send(self, message: dict[str, Any]) -> None:
        """One message, masked as clients must."""
        data = json.dumps(message).encode()
        size = len(data)
        head = struct.pack("!BB", 0x81, 0x80 | size) if size < 126 else (
            struct.pack("!BBH", 0x81, 0xFE, size) if size < 65536 else struct.pack("!BBQ", 0x81, 0xFF, size)
        )  # fmt: skip
        self._socket.sendall(head + bytes(4) + data)  # a mask of zeroes leaves the bytes as they are

    def receive(self) -> dict[str, Any]:
        """The next message, joined from its parts."""
        data = b""
        while True:
            first, second = self._file.read(2)
            size = second & 0x7F
            if size >= 126:
                (size,) = struct.unpack("!H" if size == 126 else "!Q", self._file.read(2 if size == 126 else 8))
            data += self._file.read(size)
            if first & 0x80:
                found: dict[str, Any] = json.loads(data)
                return found

    def close(self) -> None:
        """Gone."""
        self._file.close()
        self._socket.close()


class Navigated(AssertionError):
    """The page went elsewhere while it was asked."""


class Tab:
    """One page. `said` holds what it wrote to the console as an error, and what it threw; `asked` what it fetched."""

    def __init__(self, wire: Wire, session: str) -> None:
        self._wire, self._session, self._number = wire, session, 0
        self.said: list[str] = []
        self.asked: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers to a command of the protocol; events that come meanwhile are noted."""
        self._number += 1
        self._wire.send({"id": self._number, "sessionId": self._session, "method": method, "params": parameters})
        while True:
            message = self._wire.receive()
            if message.get("id") == self._number and message.get("sessionId") == self._session:
                told = message.get("error", {}).get("message", "")
                if "navigated" in told or "context was destroyed" in told:
                    raise Navigated(told)
                assert not told, f"{method}: {told}"
                result: dict[str, Any] = message["result"]
                return result
            self._note(message.get("method", ""), message.get("params", {}))

    def _note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.said.append(str(details.get("exception", {}).get("description") or details["text"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.said.append(" ".join(str(part.get("value", part.get("description"))) for part in told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.said.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str) -> Any:
        """The value of an expression, once it is true."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            tried = f"try {{ const v = {script}; return v instanceof Node || v }} catch {{ return false }}"
            with suppress(Navigated):
                if found := self.run(f"(() => {{ {tried} }})()"):
                    return found
            time.sleep(0.03)
        raise AssertionError(f"never so: {script}\n{self.said}\n{self.run('document.body.innerText')[:2000]}")

    def open(self, url: str) -> None:
        """Go to an address and wait until the page is there."""
        self.call("Page.navigate", url=url)
        place = url.partition("#")[0]
        self.wait(f"document.readyState === 'complete' && location.href.split('#')[0] === {place!r}")

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """The window, in pixels of the page."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )  # fmt: skip

    def prefers(self, **features: str) -> None:
        """Media features, such as color_scheme="dark"."""
        told = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=told)

    def zone(self, name: str) -> None:
        """The reader's time zone."""
        self.call("Emulation.setTimezoneOverride", timezoneId=name)

    def press(self, key: str, *, shift: bool = False) -> None:
        """A key, as from a keyboard."""
        code, text = KEYS[key], {"Enter": "\r", " ": " "}.get(key)
        event = {
            "key": key,
            "code": "Space" if key == " " else key,
            "windowsVirtualKeyCode": code,
            "modifiers": 8 * shift,
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", **event, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def write(self, text: str) -> None:
        """Text into what has the focus."""
        self.call("Input.insertText", text=text)

    def picture(self, path: Path, *, whole: bool = False) -> Path:
        """A PNG of what is seen, or of the whole page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))
        return path


class Browser:
    """The browser; every tab has cookies of its own."""

    def __init__(self, wire: Wire) -> None:
        self._wire, self._number = wire, 1 << 20

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._wire.send({"id": self._number, "method": method, "params": parameters})
        while (message := self._wire.receive()).get("id") != self._number:
            pass
        result: dict[str, Any] = message["result"]
        return result

    def tab(self) -> Tab:
        """A new tab, as a new user."""
        context = self._call("Target.createBrowserContext")["browserContextId"]
        target = self._call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        return Tab(self._wire, self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A Chromium that keeps its files in `folder` and is gone at the end of the block."""
    root = ("--no-sandbox",) if os.geteuid() == 0 else ()  # its sandbox refuses root, which containers run as
    command = [str(program("chromium")), *FLAGS, *root, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        where, deadline = folder / "DevToolsActivePort", time.monotonic() + 60
        while not (where.exists() and where.read_text().count("\n")):
            assert process.poll() is None, f"Chromium ended with {process.returncode}"
            assert time.monotonic() < deadline, "Chromium does not start"
            time.sleep(0.05)
        port, path = where.read_text().split("\n")[:2]
        wire = Wire(int(port), path)
        try:
            yield Browser(wire)
        finally:
            wire.close()
    finally:
        process.terminate()
        process.wait(20)
