"""``python -m gateway``: run nginx with a configuration made from the environment."""

from __future__ import annotations

import argparse
import os
import ssl
import sys
import urllib.request
from collections.abc import Sequence

from bls_models.errors import SetupError
from bls_models.settings import PICTURE_SECRET, values_from_files
from gateway.config import nginx_command, write_configuration
from gateway.keys import KEY_CLASSES, new_key_line
from gateway.options import GatewayOptions

CHECK_SECONDS = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; ``run`` does not return."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("run", help="write the configuration and become nginx (the default)")
    commands.add_parser("show", help="write the configuration and print it, without the keys")
    commands.add_parser("check", help="ask the gateway that runs here whether it is well")
    new_key = commands.add_parser("new-key", help="print a line for the file of keys")
    new_key.add_argument("client", help="the owner's name, for the access log")
    new_key.add_argument("key_class", choices=KEY_CLASSES)
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "new-key":
            print(new_key_line(arguments.client, arguments.key_class))
            return 0
        from_files = values_from_files(os.environ, [PICTURE_SECRET])
        options = GatewayOptions.from_environment(os.environ | from_files)
        if arguments.command == "check":
            return check(options)
        configuration = write_configuration(options)
        if arguments.command == "show":
            sys.stdout.write(configuration.read_text(encoding="utf-8"))
            return 0
        command = nginx_command(configuration)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    # In this process's place, so that the container's signals reach nginx.
    os.execv(command[0], command)


def check(options: GatewayOptions) -> int:
    """Ask for the gateway's own health; returns 0 if it answers, else 1."""
    scheme = "https" if options.tls_certificate else "http"
    # The certificate is for the gateway's public name, not for this address.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    url = f"{scheme}://127.0.0.1:{options.http_port}/healthz"
    try:
        with urllib.request.urlopen(url, timeout=CHECK_SECONDS, context=context):
            return 0
    except OSError as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
