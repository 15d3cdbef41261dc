"""Serve a checkpoint over HTTP: post the bytes of an audio file, get genres and their scores as JSON.

    python recipes/serve.py CHECKPOINT [PORT]
    curl --data-binary @song.mp3 http://127.0.0.1:8000

This is an example for the local machine: it handles one request at a time, without authentication.
"""

import contextlib
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from hfmgc import TrackClassifier
from hfmgc.errors import AudioError, HfmgcError


LARGEST_UPLOAD = 200 * 2**20  # bytes


def make_server(checkpoint: str, port: int) -> HTTPServer:
    """Load the checkpoint and return a server that is ready to run; port 0 picks a free port."""
    classifier = TrackClassifier(checkpoint)

    class Handler(BaseHTTPRequestHandler):
        timeout = 60  # seconds, for a client that stops sending

        def do_POST(self) -> None:
            size = self.headers.get("Content-Length", "")
            try:
                if not size.isdecimal() or int(size) > LARGEST_UPLOAD:
                    raise AudioError(
                        "upload", f"needs a Content-Length of at most {LARGEST_UPLOAD} bytes, not {size!r}"
                    )
                status, answer = 200, classifier.pipeline(self.rfile.read(int(size)))
            except AudioError as error:
                status, answer = 400, {"error": str(error)}
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

    return HTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    checkpoint, port = [*sys.argv[1:], "8000"][:2] if len(sys.argv) > 1 else ("--help", "")
    if checkpoint in ("-h", "--help") or not port.isdecimal():
        raise SystemExit(__doc__)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            make_server(checkpoint, int(port)).serve_forever()
    except (HfmgcError, OSError, OverflowError) as error:
        raise SystemExit(f"error: {checkpoint}, port {port}: {error}") from None
