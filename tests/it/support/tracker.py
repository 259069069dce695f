"""A minimal HTTP tracker for tests (BEP 3, IPv4 compact replies of BEP 23). usage: tracker.py IP PORT

Prints every announce as one JSON line, so that a test can wait for it.
"""

import json
import socket
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote_to_bytes, urlsplit

INTERVAL_S = 60
MIN_INTERVAL_S = 5
swarms = {}


def reply(query, peer_ip):
    info_hash = unquote_to_bytes(query["info_hash"])
    me = (peer_ip, int(query["port"]))
    swarm = swarms.setdefault(info_hash, {})
    if query.get("event") == "stopped":
        swarm.pop(me, None)
    else:
        swarm[me] = int(query["left"])
    peers = b"".join(socket.inet_aton(ip) + struct.pack(">H", port) for ip, port in swarm if (ip, port) != me)
    complete = sum(left == 0 for left in swarm.values())
    return b"d8:completei%de10:incompletei%de8:intervali%de12:min intervali%de5:peers%d:%be" % (
        complete, len(swarm) - complete, INTERVAL_S, MIN_INTERVAL_S, len(peers), peers)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path != "/announce":
            return self.answer(404, b"")
        query = dict(pair.split("=", 1) for pair in url.query.split("&") if "=" in pair)
        try:
            body = reply(query, self.client_address[0])
        except (KeyError, ValueError) as error:
            body = b"d14:failure reason11:bad requeste"
            query["error"] = repr(error)
        print(json.dumps({"ip": self.client_address[0], **query}), flush=True)
        self.answer(200, body)

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer.request_queue_size = 256
server = ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler)
print(json.dumps({"listening": int(sys.argv[2])}), flush=True)
server.serve_forever()
