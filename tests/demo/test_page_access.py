"""Who may do what with the page, and how much."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from urllib.parse import urlencode, urlsplit

import pytest
from browser_support import opened_page
from demo_support import running_page
from playwright.sync_api import Browser, expect

from demo.limits import NO_LENGTH, NO_ROOM, REFUSAL
from local_server.processes import LOOPBACK, free_port

PASSWORD = "open sesame"
BURST = 15
# What shows the page or its visitors' files, or makes it work.
CLOSED = (
    ("GET", "/config"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/openapi.json"),
    ("GET", "/gradio_api/file=/etc/hostname"),
    ("GET", "/gradio_api/queue/data?session_hash=x"),
    ("GET", "/gradio_api/queue/status"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/run/predict"),
    ("POST", "/gradio_api/component_server"),
)
# What nobody gets, as the page has no use for it.
UNUSED = (
    ("GET", "/gradio_api/deep_link?session_hash=x"),
    ("GET", "/gradio_api/runs"),
    ("GET", "/gradio_api/vibe-code"),
    ("GET", "/monitoring"),
    ("POST", "/gradio_api/api/predict"),
    ("POST", "/gradio_api/call/predict"),
    ("POST", "/gradio_api/call/v2/predict"),
    ("POST", "/gradio_api/process_recording"),
    ("POST", "/gradio_api/stream/x"),
    ("POST", "/gradio_api/vibe-edit"),
)

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
    assert json.loads(refused[0])["detail"] == REFUSAL
    assert try_password("192.0.2.3")[0] == 400


def test_uploads_have_their_room(address: str) -> None:
    status, text = ask(address, "POST", "/gradio_api/upload", b"x" * (2**20 + 1), "192.0.2.4")
    assert (status, json.loads(text)["detail"]) == (507, NO_ROOM)
    status, text = ask(
        address, "POST", "/gradio_api/upload", b"", "192.0.2.4", Transfer_Encoding="chunked"
    )
    assert (status, json.loads(text)["detail"]) == (411, NO_LENGTH)


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
        expect(page.get_by_text(REFUSAL).first).to_be_visible()
