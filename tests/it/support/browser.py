"""A page in headless Chromium. usage: browser.py URL light|dark SCREENSHOT EXPRESSION [WIDTH]

Opens the page, waits until the JavaScript expression is true, saves a screenshot, and prints the text of the page.
Implements the part of the DevTools protocol that it needs: WebSocket (RFC 6455) with text frames.
"""

import base64
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

DEADLINE_S = 60


class DevTools:
    def __init__(self, url):
        host, _, path = url.removeprefix("ws://").partition("/")
        address, _, port = host.rpartition(":")
        self.socket = socket.create_connection((address, int(port)), timeout=DEADLINE_S)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        self.stream = self.socket.makefile("rb")
        while self.stream.readline().strip():
            pass
        self.last = 0

    def call(self, method, **params):
        self.last += 1
        text = json.dumps({"id": self.last, "method": method, "params": params}).encode()
        length = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + struct.pack(">H", len(text))
        # The mask may be zero: no proxy interprets the frames.
        self.socket.sendall(b"\x81" + length + bytes(4) + text)
        while True:
            answer = json.loads(self.message())
            if answer.get("id") == self.last:
                return answer.get("result", answer)

    def message(self):
        parts = []
        while True:
            first, length = self.stream.read(2)
            if length == 126:
                length, = struct.unpack(">H", self.stream.read(2))
            elif length == 127:
                length, = struct.unpack(">Q", self.stream.read(8))
            parts.append(self.stream.read(length))
            if first & 0x80:
                return b"".join(parts)

    def value(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True).get("result", {}).get("value")


def end(chromium):
    """Kills Chromium with its child processes, which write to the profile until they end."""
    os.killpg(chromium.pid, signal.SIGKILL)
    chromium.wait()
    deadline = time.monotonic() + DEADLINE_S
    while in_session(chromium.pid):
        assert time.monotonic() < deadline, "Chromium did not end"
        time.sleep(0.02)


def in_session(session):
    """Returns whether a process of this session still runs. A zombie no longer writes and does not count."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, _, _, its_session = open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state not in "ZX":
            return True
    return False


def main(url, scheme, screenshot, expression, width="1100"):
    deadline = time.monotonic() + DEADLINE_S
    with tempfile.TemporaryDirectory() as profile:
        chromium = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,1500",
             "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            place = os.path.join(profile, "DevToolsActivePort")
            while not (os.path.exists(place) and open(place).read().count("\n") >= 1):
                assert time.monotonic() < deadline, "Chromium did not start"
                time.sleep(0.05)
            port = open(place).readline().strip()
            tabs = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10))
            page = DevTools(next(tab for tab in tabs if tab["type"] == "page")["webSocketDebuggerUrl"])
            page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            page.call("Emulation.setDeviceMetricsOverride", width=int(width), height=1500, deviceScaleFactor=1, mobile=False)
            page.call("Page.navigate", url=url)
            while not page.value(expression):
                assert time.monotonic() < deadline, page.value("document.body.innerText")
                time.sleep(0.1)
            picture = page.call("Page.captureScreenshot", format="png")["data"]
            with open(screenshot, "wb") as file:
                file.write(base64.b64decode(picture))
            print(page.value("document.body.innerText"))
        finally:
            end(chromium)


main(*sys.argv[1:])
