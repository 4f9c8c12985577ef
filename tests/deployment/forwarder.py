"""Stands in for nginx where it is not installed: one listener, one location that is forwarded, 403 for the rest.

python forwarder.py -p FOLDER/ -c nginx.conf ...
"""

import posixpath
import re
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

folder = Path(sys.argv[sys.argv.index("-p") + 1])
text = (folder / sys.argv[sys.argv.index("-c") + 1]).read_text()
_OWN = {"host", "connection", "content-length", "transfer-encoding", "date", "server"}


def setting(name):
    return re.search(rf"^\s*{name} ([^;]*);", text, re.MULTILINE)[1]


allowed = re.search(r"location (/\S+) \{\s*limit_except POST", text)[1]
upstream = setting("proxy_pass")
trusted = ssl.create_default_context(cafile=folder / setting("proxy_ssl_trusted_certificate"))


class Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = posixpath.normpath(urllib.parse.unquote(urllib.parse.urlsplit(self.path).path))
        if not path.startswith(allowed):
            self._answer(403, {}, b"")
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OWN}
        request = urllib.request.Request(upstream + self.path, data=body, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request, context=trusted) as response:
                self._answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, error.headers, error.read())

    def do_GET(self):
        self._answer(403, {}, b"")

    def _answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _OWN:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder / setting("ssl_certificate"), folder / setting("ssl_certificate_key"))
server = ThreadingHTTPServer(("", int(setting("listen").split()[0])), Forward)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
