"""What the documentation says is there, and its commands work as they are printed."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from PIL import Image
from serving_support import ROOT, SampleProduct, Serving

from bls_models.picture_links import signature
from loadtest.perf.analyzer import find_analyzer
from loadtest.photos import four_in_one
from local_server.reference import configuration_reference

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("seed/**/*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND_SECONDS = 120


def fenced(language: str, document: str = README) -> list[str]:
    return [body for found, body in FENCE.findall(document) if found == language]


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_of_a_document_leads_to_a_file(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z-]+)", text)) | set(
        re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)
    )
    assert named - make_targets() == set()


def test_make_help_lists_every_target_with_its_text() -> None:
    output = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert {line.split()[1] for line in output.splitlines()} == make_targets()


def test_the_configuration_reference_is_what_the_code_says() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == configuration_reference(), "run `make docs`"


def test_the_claim_for_engines_is_the_one_that_the_values_for_gpus_name() -> None:
    (claim,) = fenced("yaml", (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8"))
    values = ROOT / "helm" / "product-match" / "values-gpu.yaml"
    cache = yaml.safe_load(values.read_text(encoding="utf-8"))["engines"]["cache"]
    made = yaml.safe_load(claim)
    assert made["kind"] == "PersistentVolumeClaim"
    assert made["metadata"]["name"] == cache["claimName"]
    assert made["spec"]["accessModes"] == ["ReadWriteMany"]


def at_server(text: str, server: Serving) -> str:
    """The documented default ports replaced by those of the test's server."""
    http = server.triton.http_url.removeprefix("http://")
    grpc = server.triton.grpc_url.removeprefix("grpc://")
    return text.replace("127.0.0.1:8000", http).replace("127.0.0.1:8001", grpc)


@pytest.fixture
def photos(tmp_path: Path, catalogue: list[SampleProduct]) -> Path:
    """A folder with the pictures that the README's commands name."""
    image = Image.open(catalogue[0].queries[0]).convert("RGB")
    for name in ("photo.jpg", "front.jpg", "side.jpg"):
        image.save(tmp_path / name, quality=90 if name == "side.jpg" else 95)
    shelf = four_in_one([item.queries[0].read_bytes() for item in catalogue[::20][:4]])
    (tmp_path / "shelf.jpg").write_bytes(shelf)
    return tmp_path


@pytest.mark.server
def test_the_curl_commands_of_the_documents_get_answers(
    server: Serving, catalogue: list[SampleProduct]
) -> None:
    documents = [README, API]
    commands = [text for doc in documents for text in fenced("sh", doc) if "curl" in text]
    assert len(commands) == 9

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON, and strict parsers refuse it")

    answers = [
        json.loads(
            subprocess.run(
                ["bash", "-euo", "pipefail", "-c", at_server(command, server)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
                timeout=COMMAND_SECONDS,
            ).stdout,
            parse_constant=refuse,
        )
        for command in commands
    ]
    assert answers[0]["product_id"][0] == "mug-classic-red"
    assert len(answers[1]["object_box"]) == 4 * len(answers[1]["object_score"]) > 4
    assert answers[2]["product_id"][0] == "mug-classic-blue"
    assert len(json.loads(answers[3]["details"])["facets"]["price"]["ranges"]) == 3
    assert answers[4]["status"] == "found"
    assert answers[5]["status"] == "recorded"
    assert base64.b64decode(answers[6]["picture"])[:2] == b"\xff\xd8"
    assert len(json.loads(answers[7]["report"])["buckets"]) == 6


def run_python(code: str, server: Serving, folder: Path) -> list[str]:
    """Lines that a document's Python prints."""
    done = subprocess.run(
        [sys.executable, "-c", at_server(code, server)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.server
def test_the_python_of_the_api_prints_matches(server: Serving, photos: Path) -> None:
    lists, _, objects, nvidia_objects, like, facets, *pictures, _, report, project, nvidia = fenced(
        "python", API
    )
    for found, expected in (("mug", ["mug"]), (["mug", "cup"], ["mug", "cup"]), ([], [])):
        names: dict[str, Any] = {"answer": {"product_id": found}}
        exec(lists, names)
        assert names["ids"] == expected
    (line,) = run_python(project, server, photos)
    assert line.startswith("order-8 ")
    assert run_python(nvidia, server, photos)[0].startswith("mug-classic-red ")
    for code in (objects, nvidia_objects):
        first, *others = run_python(code, server, photos)
        assert first == f"{len(others)} objects"
        assert len(others) > 1
    assert run_python(like, server, photos)[0] == "mug-classic-blue blue"
    for code, printed in zip(pictures, ("image/webp 200 200", "image/webp"), strict=True):
        assert run_python(code, server, photos) == [printed]
        with Image.open(photos / "mug.webp") as image:
            assert image.format == "WEBP"
    *buckets, following = run_python(report, server, photos)
    assert (len(buckets), following) == (6, "True")
    # Three matches, three colours, three ranges.
    assert len(run_python(facets, server, photos)) == 9
    assert server.log_entry("order-9")["status"] == "ok"


@pytest.mark.parametrize(
    ("answer", "boxes", "matches"),
    [
        ({"object": [], "product_id": [], "object_box": []}, [], [[]]),
        ({"object": 0, "product_id": "a", "object_box": []}, [], [["a"]]),
        (
            {"object": [0, 2, 2], "product_id": ["a", "b", "c"], "object_box": list(range(8))},
            [[0, 1, 2, 3], [4, 5, 6, 7]],
            [["a"], [], ["b", "c"]],
        ),
    ],
)
def test_the_python_of_the_api_reads_boxes_from_flat_lists(
    answer: dict[str, Any], boxes: list[Any], matches: list[Any]
) -> None:
    (code,) = [text for text in fenced("python", API) if "object_box" in text and "def" in text]
    names: dict[str, Any] = {"answer": answer}
    exec(code, names)
    assert (names["boxes"], names["matches"]) == (boxes, matches)


def test_the_python_of_the_api_signs_links_as_the_server_does() -> None:
    (code,) = [text for text in fenced("python", API) if "def signed_link" in text]
    names: dict[str, Any] = {}
    exec(code, names)
    url, sha256, secret = "https://gateway.example/pictures", "ab" * 32, "s" * 32
    link = urlsplit(names["signed_link"](url, sha256, secret))
    query = parse_qs(link.query)
    assert link.path == f"/pictures/{sha256}"
    assert query["signature"] == [signature(secret, sha256, int(query["expires"][0]))]


@pytest.mark.nightly
@pytest.mark.server
def test_the_perf_analyzer_command_of_the_api_measures(
    server: Serving, catalogue: list[SampleProduct], tmp_path: Path
) -> None:
    (command,) = [text for text in fenced("sh", API) if "perf_analyzer" in text]
    analyzer = find_analyzer(ROOT / "build" / "perf_analyzer")
    environment = dict(os.environ)
    if analyzer.libraries is not None:
        environment["PATH"] = f"{analyzer.program.parent}:{environment['PATH']}"
        environment["LD_LIBRARY_PATH"] = str(analyzer.libraries)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", at_server(command, server)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Concurrency: 4, throughput: \d", done.stdout)


@pytest.mark.server
def test_the_command_lines_of_the_readme_run_one_after_another(
    server: Serving, photos: Path
) -> None:
    (block,) = [text for text in fenced("sh") if text.startswith("product-match ")]
    program = f"{shlex.quote(sys.executable)} -m product_match_client"
    script = re.sub(r"^product-match", program, block, flags=re.MULTILINE)
    environment = os.environ | {
        "PRODUCT_MATCH_URL": server.triton.http_url,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=photos,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert "mug-classic-red" in done.stdout
    assert "My mug" in done.stdout


@pytest.mark.server
def test_the_python_of_the_readme_prints_matches(server: Serving, photos: Path) -> None:
    (code,) = fenced("python")
    lines = run_python(code, server, photos)
    assert len(lines) == 3
    assert lines[0].startswith("mug-classic-red ")
