"""Who may do what with the page, and how much."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from browser_support import opened_page
from demo_support import running_page
from playwright.sync_api import Browser, expect

from demo.access import FOREIGN
from demo.limits import MOST_BODY, TOO_FAST, TOO_LARGE
from demo.upload_room import NO_ROOM
from demo.uploads import NO_UPLOAD
from local_server.processes import LOOPBACK, free_port

PASSWORD = "open sesame"
BURST = 15
# What shows the page or its visitors' files, or makes it work.
CLOSED = (
    ("GET", "/config"),
    ("GET", "/gradio_api/file=/etc/hostname"),
    ("GET", "/gradio_api/queue/data?session_hash=x"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/component_server/"),
)
# What nobody gets, as the page has no use for it.
UNUSED = (
    ("GET", "/gradio_api/file=http://127.0.0.1/x"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/openapi.json"),
    ("GET", "/gradio_api/queue/status"),
    ("GET", "/gradio_api/deep_link?session_hash=x"),
    ("GET", "/gradio_api/runs"),
    ("GET", "/gradio_api/vibe-code"),
    ("GET", "/monitoring"),
    ("OPTIONS", "/gradio_api/queue/join"),
    ("POST", "/"),
    ("POST", "/gradio_api/api/predict"),
    ("POST", "/gradio_api/call/predict"),
    ("POST", "/gradio_api/call/v2/predict"),
    ("POST", "/gradio_api/cancel"),
    ("POST", "/gradio_api/process_recording"),
    ("POST", "/gradio_api/queue/join/"),
    ("POST", "/gradio_api/run/predict"),
    ("POST", "/gradio_api/stream/x"),
    ("POST", "/gradio_api/vibe-edit"),
)
JOIN = "/gradio_api/queue/join"
UPLOAD = "/gradio_api/upload"
FORM = "multipart/form-data; boundary=x"
SECRET = "what is nobody's business"

Answer = tuple[int, str]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page with a password, few requests and little room, whose server is away."""
    away = f"http://{LOOPBACK}:{free_port()}"
    limits = {"DEMO_RATE": "1", "DEMO_BURST": str(BURST), "DEMO_UPLOADS_MB": "1"}
    # The tests stand behind a proxy, so that each has an address of its own.
    proxy = {"FORWARDED_ALLOW_IPS": LOOPBACK}
    folder = tmp_path_factory.mktemp("page")
    with running_page(folder, away, DEMO_PASSWORD=PASSWORD, **limits, **proxy) as address:
        yield address


@pytest.fixture(scope="module")
def open_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page for everyone, whose server is away."""
    with running_page(tmp_path_factory.mktemp("open"), f"http://{LOOPBACK}:{free_port()}") as page:
        yield page


def ask(
    address: str, method: str, path: str, body: bytes = b"", visitor: str = "", **headers: str
) -> Answer:
    """The status and the text of an answer."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if visitor:
            named["X-Forwarded-For"] = visitor
        connection.request(method, path, body or None, named)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_without_the_password_nothing_is_shown(address: str) -> None:
    for method, path in CLOSED:
        body = b"{}" if method == "POST" else b""
        status, text = ask(address, method, path, body, "192.0.2.1", Content_Type="text/json")
        assert (path, status) == (path, 401), text
    for method, path in UNUSED:
        assert (path, ask(address, method, path, b"{}")[0]) == (path, 404)
    status, page = ask(address, "GET", "/")
    assert status == 200
    assert '"auth_required":true' in page.replace(" ", "")
    assert "find-sample" not in page
    assert ask(address, "GET", "/healthz") == (200, '{"status":"ok"}')


def test_each_address_has_its_share(address: str) -> None:
    wrong = urlencode({"username": "demo", "password": "wrong"}).encode()
    form = "application/x-www-form-urlencoded"

    def try_password(visitor: str) -> Answer:
        return ask(address, "POST", "/login", wrong, visitor, Content_Type=form)

    # As many as it may at once; further ones only as time goes by.
    answers = [try_password("192.0.2.2") for _ in range(4 * BURST)]
    assert [status for status, _ in answers[:BURST]] == [400] * BURST
    refused = [text for status, text in answers if status == 429]
    assert refused
    assert json.loads(refused[0])["detail"] == TOO_FAST
    assert try_password("192.0.2.3")[0] == 400


def test_uploads_have_their_room(address: str) -> None:
    status, text = ask(address, "POST", "/gradio_api/upload", b"x" * (2**20 + 1), "192.0.2.4")
    assert (status, json.loads(text)["detail"]) == (507, NO_ROOM)


def part(name: str, content: str) -> bytes:
    """A form with a file."""
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return f"{head}{content}\r\n--x--\r\n".encode()


def join(address: str, event: int, path: str, place: int = 0) -> Answer:
    """Ask for an event with a file in one of its fields."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    asked = {"data": [None] * place + [file], "fn_index": event, "session_hash": "abc"}
    body = json.dumps(asked).encode()
    return ask(address, "POST", JOIN, body, Content_Type="application/json")


def test_only_files_that_were_uploaded_are_taken(open_address: str, tmp_path: Path) -> None:
    status, text = ask(open_address, "POST", UPLOAD, part("a.txt", "mine"), Content_Type=FORM)
    assert status == 200
    mine = Path(json.loads(text)[0])
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET, encoding="utf-8")
    link = mine.with_name("link.txt")
    link.symlink_to(secret)
    asked: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    config = json.loads(ask(open_address, "GET", "/config")[1])
    kinds = {component["id"]: component["type"] for component in config["components"]}
    takers = [
        (event["id"], place)
        for event in config["dependencies"]
        for place, component in enumerate(event["inputs"])
        if kinds[component] in {"file", "image"}
    ]
    # The photo of a search, the pictures of a product three times, an import.
    assert len(takers) >= 5
    with HTTPServer((LOOPBACK, 0), Elsewhere) as elsewhere:
        thread = threading.Thread(target=elsewhere.serve_forever)
        thread.start()
        try:
            paths = (
                str(secret),
                "/proc/self/environ",
                f"{mine.parent}/{'../' * 20}{secret}",
                str(link),
                f"file://{secret}",
                f"http://{LOOPBACK}:{elsewhere.server_port}/x.png",
            )
            for event, place in takers:
                for path in paths:
                    status, text = join(open_address, event, path, place)
                    assert (path, status, json.loads(text)["detail"]) == (path, 400, NO_UPLOAD)
        finally:
            elsewhere.shutdown()
            thread.join()
    assert not asked
    for path in (secret, link, Path("/proc/self/environ")):
        status, text = ask(open_address, "GET", f"/gradio_api/file={path}")
        assert status == 403
        assert SECRET not in text


def test_pages_of_other_sites_ask_for_nothing(open_address: str) -> None:
    host = urlsplit(open_address).netloc
    refused: list[tuple[str, str, dict[str, str]]] = [
        ("POST", JOIN, {"Origin": "https://evil.example"}),
        ("POST", UPLOAD, {"Origin": f"http://{LOOPBACK}:1"}),
        ("POST", "/login", {"Origin": "null"}),
        ("GET", "/config", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "document"}),
        ("GET", "/logout", {"Sec_Fetch_Site": "same-site"}),
        ("GET", "/", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "iframe"}),
    ]
    for method, path, headers in refused:
        status, text = ask(open_address, method, path, b"{}", **headers)
        assert (path, status, json.loads(text)["detail"]) == (path, 403, FOREIGN)
    linked = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "document"}
    assert ask(open_address, "GET", "/", **linked)[0] == 200
    own = {"Origin": f"http://{host}", "Sec_Fetch_Site": "same-origin"}
    assert ask(open_address, "GET", "/config", **own)[0] == 200
    # A name that leads here makes another site's page no page of this one.
    assert ask(open_address, "GET", "/", Host="evil.example") == (400, "Invalid host header")


def test_requests_are_small_however_they_come(open_address: str) -> None:
    large = b'{"data": ["' + b"x" * MOST_BODY + b'"]}'
    status, text = ask(open_address, "POST", JOIN, large)
    assert (status, json.loads(text)["detail"]) == (413, TOO_LARGE)
    chunk = f"{len(large):x}\r\n".encode() + large + b"\r\n0\r\n\r\n"
    status, text = ask(open_address, "POST", JOIN, chunk, Transfer_Encoding="chunked")
    assert (status, json.loads(text)["detail"]) == (413, TOO_LARGE)
    for body in (b"no json", b"[" * 100_000):
        assert ask(open_address, "POST", JOIN, body)[0] == 400


def test_an_upload_that_stalls_or_breaks_off_hinders_nobody(open_address: str) -> None:
    parts = urlsplit(open_address)
    gigabyte = f"POST {UPLOAD} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {FORM}\r\n"
    gigabyte += f"Content-Length: {2**30 - 2**20}\r\n\r\n"
    with socket.create_connection((str(parts.hostname), int(parts.port or 0))) as stalled:
        stalled.sendall(gigabyte.encode() + part("a.txt", "begun")[:-9])
        body = part("b.txt", "b")
        assert ask(open_address, "POST", UPLOAD, body, Content_Type=FORM)[0] == 200
    # The page would say what goes wrong in its log, which has to be empty when it ends.
    assert ask(open_address, "POST", UPLOAD, body, Content_Type=FORM)[0] == 200


def test_with_the_password_it_says_that_the_server_is_away_and_when_to_slow_down(
    browser: Browser, address: str
) -> None:
    with opened_page(browser, address) as watched:
        page = watched.page
        page.get_by_label("username").fill("demo")
        page.get_by_label("password").fill(PASSWORD)
        page.get_by_role("button", name="Login").click()
        alert = page.get_by_role("alert").first
        expect(alert).to_contain_text("cannot reach http://127.0.0.1:")
        page.get_by_label("Words", exact=True).fill("mug")
        find = page.get_by_role("button", name="Find", exact=True)
        for _ in range(4 * BURST):
            find.click()
        expect(page.get_by_text(TOO_FAST).first).to_be_visible()
