"""Claim checks: only what is allowed, whole and unchanged is ever returned."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from fsspec.spec import AbstractFileSystem

from streams.claim_check import fetch
from streams.errors import BadInput

CONTENT = bytes(range(256)) * 4
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An allowed folder with one sample, beside one that is not allowed."""
    for name in ("samples", "samples-private"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a b.bin").write_bytes(CONTENT)
    return tmp_path


def fetch_file(folder: Path, dataref: str, **promised: object) -> bytes:
    options: dict[str, object] = {"sha256": SHA256, "size": len(CONTENT), "max_bytes": 10_000, **promised}
    return fetch(dataref, allowed=[(folder / "samples").as_uri()], **options)  # type: ignore[arg-type]


def test_an_allowed_file_is_read_and_verified(folder: Path) -> None:
    assert fetch_file(folder, (folder / "samples" / "a b.bin").as_uri()) == CONTENT
    assert fetch_file(folder, (folder / "samples" / "a b.bin").as_uri(), sha256="sha256:" + SHA256.upper()) == CONTENT


@pytest.mark.parametrize("scheme", ["file", "FILE", "File"])
def test_spelling_of_the_scheme_and_inner_dots_do_not_matter(folder: Path, scheme: str) -> None:
    inner = (folder / "samples").as_posix()
    assert fetch_file(folder, f"{scheme}://{inner}/x/../%61%20b.bin") == CONTENT


@pytest.mark.parametrize(
    "spelling",
    [
        "file://{root}/samples-private/a%20b.bin",
        "file://{root}/samples/../samples-private/a%20b.bin",
        "file://{root}/samples/%2e%2e/samples-private/a%20b.bin",
        "file://{root}/samples%2f..%2fsamples-private/a%20b.bin",
        "file://{root}/samples/%252e%252e/samples-private/a%20b.bin",
        "file://{root}/samples/..\\samples-private/a%20b.bin",
        "file://localhost{root}/samples/a%20b.bin",
        "file://{root}/samples/a b.bin",
        "file://{root}/samples/a%20b.bin%00.png",
        "file://{root}/samples/a%20b.bin#x",
        "file://{root}/samples/a%20b.bin?x",
        "simplecache::file://{root}/samples/a%20b.bin",
        "simplecache%3a%3afile://{root}/samples/a%20b.bin",
        "{root}/samples/a%20b.bin",
        "local://{root}/samples/a%20b.bin",
        "memory://{root}/samples/a%20b.bin",
        "",
        "://",
        "http://[",
    ],
)
def test_everything_else_is_refused(folder: Path, spelling: str) -> None:
    with pytest.raises(BadInput, match=r"refused|percent-encode"):
        fetch_file(folder, spelling.format(root=folder.as_posix()))


def test_a_link_does_not_lead_out_of_the_allowed_folder(folder: Path) -> None:
    (folder / "samples" / "link").symlink_to(folder / "samples-private")
    with pytest.raises(BadInput, match="under no allowed prefix"):
        fetch_file(folder, (folder / "samples" / "link").as_uri() + "/a%20b.bin")


def test_an_empty_allow_list_refuses_all(folder: Path) -> None:
    with pytest.raises(BadInput, match="allowed: none"):
        fetch((folder / "samples" / "a b.bin").as_uri(), sha256=None, size=None, allowed=[], max_bytes=10_000)


@pytest.mark.parametrize(
    ("promised", "reason"),
    [
        ({"sha256": "0" * 64}, "hashes to"),
        ({"size": 7}, "has 1024 bytes, the record promises 7"),
        ({"size": 20_000}, "declared as 20000 bytes, 10000 are allowed"),
        ({"size": None, "max_bytes": 1023}, "larger than the 1023 bytes"),
    ],
)
def test_other_bytes_than_promised_are_refused(folder: Path, promised: dict[str, object], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        fetch_file(folder, (folder / "samples" / "a b.bin").as_uri(), **promised)


def test_the_cap_is_inclusive(folder: Path) -> None:
    assert fetch_file(folder, (folder / "samples" / "a b.bin").as_uri(), max_bytes=1024) == CONTENT


def test_what_is_missing_or_no_file_says_so(folder: Path) -> None:
    with pytest.raises(BadInput, match="not there"):
        fetch_file(folder, (folder / "samples" / "gone.bin").as_uri())
    with pytest.raises(BadInput, match="cannot be read"):
        fetch_file(folder, (folder / "samples").as_uri())


def test_a_protocol_without_driver_says_what_to_install() -> None:
    with pytest.raises(BadInput, match="driver"):
        fetch("nosuch://bucket/key", sha256=None, size=None, allowed=["nosuch://bucket"], max_bytes=10)


class Locked(AbstractFileSystem):  # type: ignore[misc]
    """An object store whose driver has an error of its own for want of credentials, as that of S3 has."""

    protocol = "locked"

    def _open(self, path: str, *args: object, **options: object) -> None:
        raise NoCredentialsError("unable to locate credentials")


class NoCredentialsError(Exception):
    """No OSError."""


def test_an_error_of_a_driver_s_own_is_told_as_any_other() -> None:
    fsspec.register_implementation("locked", Locked, clobber=True)
    with pytest.raises(BadInput, match="NoCredentialsError: unable to locate credentials"):
        fetch("locked://bucket/key", sha256=None, size=None, allowed=["locked://bucket"], max_bytes=10)


def test_a_bucket_is_a_prefix_of_its_keys_only() -> None:
    with fsspec.open("memory://bucket/day/sample.bin", "wb") as target:
        target.write(CONTENT)
    for allowed in ("memory://bucket", "memory://bucket/", "memory://bucket/day/", "memory://bucket/day/sample.bin"):
        got = fetch("memory://bucket/day/sample.bin", sha256=SHA256, size=None, allowed=[allowed], max_bytes=10_000)
        assert got == CONTENT
    for allowed in ("memory://buck", "memory://bucket/da", "memory://Bucket", "memory://"):
        with pytest.raises(BadInput, match="under no allowed prefix"):
            fetch("memory://bucket/day/sample.bin", sha256=SHA256, size=None, allowed=[allowed], max_bytes=10_000)


class Server(BaseHTTPRequestHandler):
    """`/samples/*` has the content, `/samples/moved` redirects out of the prefix."""

    def do_GET(self) -> None:
        moved = self.path.endswith("moved")
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("Location", "/private")
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(CONTENT)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()
    running.server_close()


def test_http_is_read_without_following_redirects(server: str) -> None:
    allowed = [server + "/samples"]
    got = fetch(server + "/samples/a%20b?v=1", sha256=SHA256, size=len(CONTENT), allowed=allowed, max_bytes=10_000)
    assert got == CONTENT
    with pytest.raises(BadInput, match="redirects"):
        fetch(server + "/samples/moved", sha256=None, size=None, allowed=allowed, max_bytes=10_000)
    with pytest.raises(BadInput, match="larger than"):
        fetch(server + "/samples/a", sha256=None, size=None, allowed=allowed, max_bytes=100)
    with pytest.raises(BadInput, match="under no allowed prefix"):
        fetch(server + "/private", sha256=None, size=None, allowed=allowed, max_bytes=10_000)
