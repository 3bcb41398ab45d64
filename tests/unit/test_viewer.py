"""The viewer's server: the timeline and Perfetto, to this machine, under a secret path, and nothing else."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from shardprof.errors import ShardprofError
from shardprof.viewer import ONLINE, ONLINE_PORT, Viewer

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def timeline(tmp_path: Path) -> Path:
    file = tmp_path / "time line.json.gz"
    file.write_bytes(b"the timeline")
    (tmp_path / "secret.txt").write_text("not for others")
    return file


@contextmanager
def serving(viewer: Viewer) -> Iterator[Viewer]:
    with viewer:
        thread = threading.Thread(target=viewer.serve)
        thread.start()
        try:
            yield viewer
        finally:
            viewer.stop()
            thread.join()


def ask(viewer: Viewer, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def page_of(viewer: Viewer) -> str:
    """Where the address leads."""
    status, headers, _ = ask(viewer, urlsplit(viewer.address).path)
    assert status == 302
    return headers["Location"]


def asked(viewer: Viewer) -> dict[str, str]:
    """What the address asks of the page."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page_of(viewer)).fragment.partition("?")[2]).items()}


def trace_path(viewer: Viewer) -> str:
    return urlsplit(asked(viewer)["url"]).path


def test_the_page_the_viewer_and_the_timeline_are_served_whole(timeline: Path) -> None:
    with serving(Viewer(timeline, shown_ns=(5, 9))) as viewer:
        address, page = urlsplit(viewer.address), urlsplit(page_of(viewer))
        assert (address.scheme, address.hostname, address.port) == ("http", "127.0.0.1", viewer.port)
        assert (asked(viewer)["visStart"], asked(viewer)["visEnd"]) == ("5", "9")
        status, headers, body = ask(viewer, page.path)
        assert status == 200
        assert headers["Content-Type"] == "text/html"
        assert b"Perfetto" in body
        assert b'src="arrange.js?ranks="' in body
        script = ask(viewer, page.path.replace("index.html", "arrange.js"))
        assert b"step classes" in script[2]
        assert ask(viewer, trace_path(viewer))[2] == b"the timeline"


def test_nothing_may_be_loaded_from_a_network(timeline: Path) -> None:
    with serving(Viewer(timeline)) as viewer:
        _, headers, _ = ask(viewer, urlsplit(page_of(viewer)).path)
    policy = headers["Content-Security-Policy"]
    assert "connect-src 'self'" in policy
    assert "http" not in policy
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "path",
    ["/", "/index.html", "/{secret}", "/{secret}/secret.txt", "/{secret}/../secret.txt",
     "/{secret}/%2e%2e/secret.txt", "//etc/passwd", "/{secret}//etc/passwd", "/time%20line.json.gz"],
)  # fmt: skip
def test_nothing_else_is_served(path: str, timeline: Path) -> None:
    with serving(Viewer(timeline)) as viewer:
        secret = urlsplit(viewer.address).path.split("/")[1]
        assert ask(viewer, path.format(secret=secret))[0] == 404


def test_a_page_that_points_its_name_here_gets_nothing(timeline: Path) -> None:
    with serving(Viewer(timeline)) as viewer:
        path = trace_path(viewer)
        assert ask(viewer, path, Host=f"evil.example:{viewer.port}")[0] == 404
        assert ask(viewer, path, Host=f"localhost:{viewer.port}")[0] == 200
        assert ask(viewer, path, method="POST")[0] == 501
        for damaged in ("[", "[::1", "127.0.0.1", "127.0.0.1:x", ""):
            assert ask(viewer, path, Host=damaged)[0] == 404


def test_no_two_paths_are_alike(timeline: Path) -> None:
    with Viewer(timeline) as one, Viewer(timeline) as other:
        secrets = {urlsplit(viewer.address).path.split("/")[1] for viewer in (one, other)}
    assert len(secrets) == 2
    assert all(len(secret) >= 32 for secret in secrets)


def test_online_only_the_timeline_is_served_and_only_to_perfetto(timeline: Path) -> None:
    with serving(Viewer(timeline, online=True)) as viewer:
        assert viewer.port == ONLINE_PORT
        assert page_of(viewer).startswith(f"{ONLINE}/#!/")
        assert json.loads(asked(viewer)["startupCommands"])
        status, headers, body = ask(viewer, trace_path(viewer), Origin=ONLINE)
        assert (status, body) == (200, b"the timeline")
        assert headers["Access-Control-Allow-Origin"] == ONLINE
        before = ask(viewer, trace_path(viewer), method="OPTIONS", Origin=ONLINE)
        assert before[0] == 204
        assert before[1]["Access-Control-Allow-Private-Network"] == "true"
        secret = trace_path(viewer).split("/")[1]
        assert ask(viewer, f"/{secret}/index.html")[0] == 404
        with pytest.raises(ShardprofError, match=f"port {ONLINE_PORT}"):
            Viewer(timeline, online=True)


def test_from_afar_the_way_here_is_told(timeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setenv("USER", "ada")
    with Viewer(timeline) as viewer:
        assert viewer.tunnel() is None
        monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 5000 10.0.0.2 2222")
        told = viewer.tunnel()
    assert told is not None
    assert told == f"ssh -N -L {viewer.port}:127.0.0.1:{viewer.port} -p 2222 ada@10.0.0.2"
