"""What the page can be told: by flag, else by environment variable, else a default."""

from __future__ import annotations

import argparse
from typing import Annotated, ClassVar

from pydantic import Field

from bls_models.settings import EnvironmentSettings, given_flags, setting
from product_match_client.credentials import API_KEY_VARIABLE

LOOPBACK = "127.0.0.1"
LOCALHOST = "localhost"
Port = Annotated[int, Field(ge=0, le=65535)]
Megabytes = Annotated[int, Field(ge=1, le=1_000_000)]
Count = Annotated[int, Field(ge=1, le=10_000)]


class DemoOptions(EnvironmentSettings):
    """Options of ``python -m demo``; each that is no secret is also a flag, as ``--port``."""

    told_by: ClassVar[str] = "flag or environment variable"

    url: str = setting(
        "",
        "DEMO_URL",
        "The server or its gateway, as the client takes it; unset: the local server of `STATE`, "
        "which is started if it does not run.",
    )
    shown_url: str = setting(
        "",
        "DEMO_SHOWN_URL",
        "Where visitors reach that server, for the requests that they copy from the page; unset: "
        "as the page does.",
    )
    host: str = setting("127.0.0.1", "DEMO_HOST", "Address to listen on; 0.0.0.0: all.")
    names: str = setting(
        "",
        "DEMO_NAMES",
        "Names that the page has for browsers, with commas; unset: `localhost` and `127.0.0.1` "
        "where it listens on loopback, else any.",
    )
    port: Port = setting(7860, "DEMO_PORT", "Port of the page; 0: any free one.")
    api_key: str = setting(
        "",
        API_KEY_VARIABLE,
        "The gateway's key for what everyone may do on the page; one of the class match. Whoever "
        "edits the catalogue types a key of the class ingest into the page.",
        secret=True,
    )
    password: str = setting(
        "",
        "DEMO_PASSWORD",
        "Asked for before anything is shown, with the name `demo`; unset: everyone may look.",
        secret=True,
    )
    rate: Count = setting(
        5, "DEMO_RATE", "Actions and uploads a second of each address; what is beyond gets 429."
    )
    burst: Count = setting(
        20, "DEMO_BURST", "Such requests that an address may send at once on top of its rate."
    )
    uploads_mb: Megabytes = setting(
        1024,
        "DEMO_UPLOADS_MB",
        "MiB that uploads may take on disk, all together, and one address half of it at once; "
        "each is deleted an hour after it came, or half an hour later.",
    )
    actions: Count = setting(
        8, "DEMO_ACTIONS", "Actions of one kind under way at once, of all visitors."
    )
    queue_size: Count = setting(
        32, "DEMO_QUEUE_SIZE", "Actions that may wait beside these; further ones are refused."
    )

    def host_names(self) -> list[str]:
        """What a request may say as its host, without the port."""
        if self.names:
            return [name.strip() for name in self.names.split(",")]
        # Whoever owns a name can let it lead to this machine, and so a page of theirs to this one.
        if self.host in {LOOPBACK, LOCALHOST}:
            return [LOOPBACK, LOCALHOST]
        return ["*"]


def read_options(arguments: argparse.Namespace) -> DemoOptions:
    """Options from flags, then the environment, then defaults.

    Raises:
        SetupError: a value cannot be used.
    """
    return DemoOptions.from_environment(**given_flags(DemoOptions, arguments))
