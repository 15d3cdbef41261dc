"""Serve a checkpoint over HTTP: post the bytes of an audio file, get genres and their scores as JSON.

    python recipes/serve.py CHECKPOINT [PORT]
    curl --data-binary @song.mp3 http://127.0.0.1:8000

This is an example for the local machine: it handles one request at a time, without authentication.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from hfmgc import TrackClassifier
from hfmgc.errors import AudioError


LARGEST_UPLOAD = 200 * 2**20  # bytes


def make_server(checkpoint: str, port: int) -> HTTPServer:
    """Load the checkpoint and return a server that is ready to run; port 0 picks a free port."""
    classifier = TrackClassifier(checkpoint)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            try:
                if size > LARGEST_UPLOAD:
                    raise AudioError("upload", f"larger than {LARGEST_UPLOAD} bytes")
                status, answer = 200, classifier.pipeline(self.rfile.read(size))
            except AudioError as error:
                status, answer = 400, {"error": str(error)}
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

    return HTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    make_server(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8000).serve_forever()
