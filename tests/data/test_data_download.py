"""Downloads from a local server that fails in every way a real one does."""

import errno
import hashlib
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mllab.data.download import CHUNK_BYTES, fetch
from mllab.data.files import File, locate
from mllab.errors import UserError
from support.mistakes import refused_in_one_line

CONTENT = bytes(range(256)) * 3000  # several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    requests: list[str]

    def do_GET(self):
        self.requests.append(self.path)
        match self.path:
            case "/absent":
                return self.send_error(404)
            case "/broken":
                return self.send_error(503)
            case "/chunked_cut":
                self.protocol_version = "HTTP/1.1"
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                return self.wfile.write(b"%x\r\n" % len(CONTENT) + CONTENT[:1000])
        body = {"/longer": CONTENT + b"!", "/other": CONTENT[::-1]}.get(self.path, CONTENT)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.daemon_threads = True
        Server.requests = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def test_a_file_is_downloaded_whole_with_progress(server, tmp_path):
    seen = []
    destination = tmp_path / "folder" / "file"
    fetch(
        f"{server}/good",
        destination,
        sha256=SHA256,
        size=len(CONTENT),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert destination.read_bytes() == CONTENT
    assert [path.name for path in destination.parent.iterdir()] == ["file"]
    assert len(seen) >= len(CONTENT) // CHUNK_BYTES
    assert seen == sorted(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/absent", "answered 404 Not Found: get the file elsewhere and put it in --data_dir"),
        ("/broken", "answered 503"),
        ("/cut", "broke off after 384,000 of 768,000 bytes: try again"),
        ("/chunked_cut", "cannot download .*: check the network"),
        ("/longer", "is longer than the expected 768,000 bytes: it has changed upstream"),
        ("/other", f"has SHA-256 .*, expected {SHA256[:12]}…: it has changed upstream"),
    ],
)
@pytest.mark.parametrize("before", [None, b"what was there"])
def test_a_failure_leaves_the_folder_unchanged(server, tmp_path, path, words, before):
    destination = tmp_path / "file"
    if before:
        destination.write_bytes(before)
    with refused_in_one_line(words) as caught:
        fetch(f"{server}{path}", destination, sha256=SHA256, size=len(CONTENT))
    assert f"{server}{path}" in str(caught.value)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == ([("file", before)] if before else [])


def test_without_a_network_the_message_says_so(tmp_path):
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
        with pytest.raises(UserError, match=r"cannot download .*Connection refused.*check the network"):
            fetch(url, tmp_path / "file", sha256=SHA256, size=len(CONTENT))
    with pytest.raises(UserError, match="cannot download"):
        fetch("http://host.invalid/file", tmp_path / "file", sha256=SHA256, size=len(CONTENT))
    assert not list(tmp_path.iterdir())


def test_an_interrupt_leaves_the_folder_unchanged(server, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(f"{server}/good", tmp_path / "file", sha256=SHA256, size=len(CONTENT), progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_destination_is_named(server, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"cannot write .*file/mnist/a: "):
        fetch(f"{server}/good", tmp_path / "file" / "mnist" / "a", sha256=SHA256, size=len(CONTENT))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full, which no byte can be written to")
def test_a_full_disk_is_named(server, tmp_path, monkeypatch):
    name = str(tmp_path / "part")
    monkeypatch.setattr("tempfile.mkstemp", lambda **options: (os.open("/dev/full", os.O_WRONLY), name))
    with pytest.raises(UserError, match=r"cannot write .*file: No space left on device"):
        fetch(f"{server}/good", tmp_path / "file", sha256=SHA256, size=len(CONTENT))
    assert not list(tmp_path.iterdir())


def test_a_failing_rename_is_named(server, tmp_path, monkeypatch):
    def fail(*paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UserError, match=r"cannot write .*file: No space left on device"):
        fetch(f"{server}/good", tmp_path / "file", sha256=SHA256, size=len(CONTENT))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("MLLAB_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mllab" / "data"


def test_a_file_is_downloaded_once_and_again_when_damaged(server, cache):
    file = File("good", f"{server}/good", len(CONTENT), SHA256)
    before = Server.requests.count("/good")
    for _ in range(2):
        path = locate("some", file)
        assert path == cache / "some" / "good"
        assert path.read_bytes() == CONTENT
    assert Server.requests.count("/good") == before + 1
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=r"some needs good: download it from http.*/good into data_dir"):
        locate("some", file, download=False)
    locate("some", file)
    assert path.read_bytes() == CONTENT
