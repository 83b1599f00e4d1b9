"""What several test files share: waiting, pictures, a small bundle and its stand-in encoders."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pymongo import MongoClient
from pymongo.database import Database
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from bls_models.bundle import Bundle
from bls_models.database.store import Document
from bls_models.engines.encoders import Encoders
from bls_models.errors import EncoderError
from bls_models.specs import PRODUCT_MATCH, ModelSpec
from bls_models.vectors import FloatArray
from local_server.database import local_database, local_uri
from local_server.processes import free_port
from local_server.temporary_stack import NO_FIT
from local_server.triton import Ports, TritonServer, running_triton
from product_match_client import ProductMatchClient
from product_match_client.calls import Call, Tensor
from product_match_client.endpoint import endpoint_from_url
from product_match_client.transports import BlockingTransport, open_blocking

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = ROOT / "model_repository"
SAMPLE = ROOT / "seed" / "sample"

# Generous: the machine may be busy, and a wait ends as soon as its condition holds.
WAIT_SECONDS = 60.0
CALL_SECONDS = 120.0
# Of a database that a test takes away: long enough for a busy one to answer, and short enough to
# wait for it in vain.
UNSTEADY_MS = 3000
# What a server under test waits for its parts, unless the test is about that wait.
PATIENT = {
    **NO_FIT,
    "PRODUCT_MATCH_MONGODB_TIMEOUT_MS": "20000",
    "PRODUCT_MATCH_CALL_TIMEOUT_MS": "60000",
    "PRODUCT_MATCH_CAPTION_TIMEOUT_MS": "60000",
    "PRODUCT_MATCH_INGEST_CAPTION_TIMEOUT_MS": "60000",
}

T = TypeVar("T")


def wait_for(find: Callable[[], T | None], what: str, seconds: float = WAIT_SECONDS) -> T:
    """The first true value of ``find``; fails if none comes in time."""
    deadline = time.monotonic() + seconds
    while not (found := find()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.02)
    return found


# --- pictures ---------------------------------------------------------------------------------


def blocks(seed: int, size: int = 96) -> Image.Image:
    """A picture of 4 x 4 coloured blocks; each seed has its own."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(colours.repeat(size // 4, 0).repeat(size // 4, 1))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(seed: int) -> bytes:
    """A small PNG; each seed has its own."""
    return encoded(blocks(seed))


# --- a bundle without models ------------------------------------------------------------------

SMALL_BUNDLE = Bundle(
    name="small",
    fingerprint="0123456789abcdef",
    image_size=32,
    resize="stretch",
    image_dim=48,
    text_dim=8,
    max_tokens=16,
    shared_space=False,
    files={},
)


def unit(vectors: npt.NDArray[Any]) -> FloatArray:
    """L2-normalised rows, float32."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    normalised: FloatArray = (vectors / lengths).astype(np.float32)
    return normalised


def image_vector(pixels: npt.NDArray[np.uint8]) -> FloatArray:
    """The mean colours of a 4 x 4 grid, (48,)."""
    side = pixels.shape[0] // 4
    grid = pixels.reshape(4, side, 4, side, 3).mean(axis=(1, 3))
    return unit(grid.ravel() - 127.3)


def text_vector(text: str) -> FloatArray:
    """A vector that depends on the text alone, (8,)."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    return unit(np.random.default_rng(seed).normal(size=8))


class ContentEncoders(Encoders):
    """Encoders of ``SMALL_BUNDLE``: vectors follow from the content, no model is needed."""

    def __init__(self, bundle: Bundle = SMALL_BUNDLE) -> None:
        super().__init__(self._refuse, bundle, Tokenizer(WordLevel({"?": 0}, "?")))
        self.encoded_images = 0
        self.encoded_texts = 0

    @staticmethod
    def _refuse(model: ModelSpec, inputs: object) -> dict[str, npt.NDArray[Any]]:
        raise EncoderError(f"{model.name} is not there")

    def encode_images(self, pixels: Sequence[npt.NDArray[np.uint8]]) -> FloatArray:
        """Vectors (n, 48)."""
        self.encoded_images += len(pixels)
        return np.array([image_vector(item) for item in pixels], np.float32).reshape(-1, 48)

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Vectors (n, 8)."""
        self.encoded_texts += len(texts)
        return np.array([text_vector(text) for text in texts], np.float32).reshape(-1, 8)


# --- servers ----------------------------------------------------------------------------------


class RestartableDatabase:
    """A real local database that can be stopped and started on the same port and folder."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._port = free_port()
        self._running = contextlib.ExitStack()
        self.uri = local_uri(self._port)

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self._running.enter_context(local_database(self._state, self._port)) == self.uri

    def stop(self) -> None:
        """Stop it; one that is stopped already stays so."""
        self._running.close()


@dataclass
class Serving:
    """A running Triton with its database."""

    triton: TritonServer
    database: Database[Document]

    def url(self, protocol: str) -> str:
        """The address of an endpoint, ``http`` or ``grpc``."""
        return self.triton.http_url if protocol == "http" else self.triton.grpc_url

    def client(self, protocol: str = "http") -> ProductMatchClient:
        """A client of its own, to be closed by the caller."""
        return ProductMatchClient(self.url(protocol), timeout_s=CALL_SECONDS)

    def log_entry(self, request_id: str) -> Document:
        """The one ``match_log`` entry of a request, waited for."""
        return self._entry("match_log", request_id)

    def ingest_log_entry(self, request_id: str) -> Document:
        """The one ``ingest_log`` entry of a request, waited for."""
        return self._entry("ingest_log", request_id)

    def _entry(self, collection: str, request_id: str) -> Document:
        query = {"request_id": request_id}
        wait_for(
            lambda: self.database[collection].find_one(query),
            f"{request_id} is in {collection}",
        )
        (entry,) = self.database[collection].find(query)
        return entry


@contextlib.contextmanager
def serving(
    state: Path,
    uri: str,
    name: str,
    repository: Path = REPOSITORY,
    flags: Sequence[str] = (),
    **settings: str,
) -> Iterator[Serving]:
    """Run Triton on the built models, with a database of that name."""
    client: MongoClient[Document] = MongoClient(uri, tz_aware=True)
    environment = {**PATIENT, "MONGODB_URI": uri, "PRODUCT_MATCH_DATABASE": name, **settings}
    try:
        ports = Ports(0, 0, 0)
        with running_triton(repository, state, ports, environment, flags=flags) as triton:
            yield Serving(triton, client[name])
    finally:
        client.close()


HANG = """

import time
from pathlib import Path

_answer_batch = TritonPythonModel.answer

def _hang(self, requests):
    flag = Path({flag!r})
    if flag.exists():
        with open({noted!r}, "a") as stream:
            stream.write("x" * len(requests))
    while flag.exists():
        time.sleep(0.05)
    return _answer_batch(self, requests)

TritonPythonModel.answer = _hang
"""


class HangingModels:
    """A copy of the built models, of which some can hang with their processes alive.

    Args:
        folder: for the copy.
        models: those that can.
    """

    def __init__(self, folder: Path, *models: str) -> None:
        self._folder = folder
        self.repository = folder / "repository"
        shutil.copytree(REPOSITORY, self.repository, ignore=shutil.ignore_patterns("__pycache__"))
        for model in models:
            path = self.repository / model / "1" / "model.py"
            hang = HANG.format(flag=str(self._flag(model)), noted=str(self._noted(model)))
            path.write_text(path.read_text(encoding="utf-8") + hang, encoding="utf-8")

    @contextlib.contextmanager
    def held(self, model: str) -> Iterator[None]:
        """Let a model hang until the end of the block."""
        self._flag(model).touch()
        try:
            yield
        finally:
            self._flag(model).unlink()

    def taken(self, model: str) -> int:
        """Requests that the model has taken while it hung."""
        noted = self._noted(model)
        return len(noted.read_text(encoding="utf-8")) if noted.exists() else 0

    def _flag(self, model: str) -> Path:
        return self._folder / f"{model} hangs"

    def _noted(self, model: str) -> Path:
        return self._folder / f"{model} has taken"


def change_model(server: Serving, model: str, action: str) -> None:
    """Load or unload a model through the repository API."""
    url = f"{server.triton.http_url}/v2/repository/models/{model}/{action}"
    request = urllib.request.Request(url, data=b"{}", method="POST")
    with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:
        assert answer.status == 200


def stubs_of(server: Serving, model: str) -> list[int]:
    """A model's processes: children of Triton with the model's file in their command lines."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == server.triton.process.pid and f"/{model}/" in command:
            found.append(int(folder.name))
    return found


def stub_of(server: Serving, model: str) -> int:
    """The one process of a model."""
    (pid,) = stubs_of(server, model)
    return pid


def send(
    url: str,
    tensors: dict[str, npt.NDArray[Any]],
    request_id: str = "",
    model: ModelSpec = PRODUCT_MATCH,
) -> dict[str, npt.NDArray[Any]]:
    """Send tensors as they are, past the client's own checks; returns the outputs as they came."""
    endpoint = endpoint_from_url(url)
    transport = BlockingTransport(open_blocking(endpoint, CALL_SECONDS), endpoint, CALL_SECONDS, {})
    inputs = tuple(Tensor(name, model.input(name).dtype, array) for name, array in tensors.items())
    try:
        return transport.send(Call(model, inputs, dict, request_id))
    finally:
        transport.close()


def bytes_tensor(*values: bytes | str) -> npt.NDArray[np.object_]:
    """BYTES [1, n]."""
    array = np.empty((1, len(values)), np.object_)
    array[0, :] = [value.encode() if isinstance(value, str) else value for value in values]
    return array


def float_tensor(*values: Any) -> npt.NDArray[np.float32]:
    """FP32 [1, n, ...]."""
    return np.array([values], np.float32)


def int_tensor(*values: int) -> npt.NDArray[np.int32]:
    """INT32 [1, n]."""
    return np.array([values], np.int32)


# --- the sample catalogue ---------------------------------------------------------------------


@dataclass(frozen=True)
class SampleProduct:
    """One line of the sample catalogue."""

    product: dict[str, Any]
    images: list[Path] = field(default_factory=list)
    queries: list[Path] = field(default_factory=list)

    @property
    def product_id(self) -> str:
        """Its id."""
        return str(self.product["product_id"])
