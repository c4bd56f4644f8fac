"""A receiver of webhooks."""

import base64
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Message = tuple[dict[str, str], bytes]


class Receiver:
    """A small server that remembers what it was sent."""

    secret = "whsec_" + base64.b64encode(b"d" * 32).decode()

    def __init__(self) -> None:
        self.got: list[Message] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
