"""nginx's configuration: the template with the options' values, and the files it needs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from bls_models.cpus import cpu_count
from bls_models.errors import SetupError
from gateway.keys import ApiKey, key_maps, picture_secret_map, read_keys
from gateway.options import GatewayOptions

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE / "nginx.conf.template"

# Debian's nginx keeps its modules here, and so does nginx's own package under the other; one that
# was unpacked elsewhere keeps them beside its program.
MODULE_FOLDERS = (Path("/usr/lib/nginx/modules"), Path("/etc/nginx/modules"))
SCRIPT_MODULE = "ngx_http_js_module.so"
# Debian keeps programs for administrators where only root's PATH leads.
SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin"
# A body that is larger goes to a file. Most photos are smaller.
BODY_BUFFER_KB = 256
# One worker has the connections of thousands of clients, and each takes memory of its own.
MOST_WORKERS = 4

_PLACEHOLDER = re.compile(r"@([A-Z_]+)@")


def nginx_program() -> str:
    """Nginx's path.

    Raises:
        SetupError: it is not installed.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path=SYSTEM_FOLDERS)
    if program is None:
        raise SetupError(
            "nginx is missing; install it: apt-get install nginx-light libnginx-mod-http-js"
        )
    return program


def nginx_command(configuration: Path) -> list[str]:
    """Nginx in the foreground with a configuration of ``write_configuration``."""
    return [
        nginx_program(),
        *("-p", str(configuration.parent)),
        *("-c", str(configuration)),
        # Otherwise it first tries a log file that only root may write.
        *("-e", "stderr"),
    ]


def script_module() -> Path:
    """Nginx's JavaScript module.

    Raises:
        SetupError: it or nginx is not installed.
    """
    program = Path(nginx_program()).resolve()
    # Its own come first: a module fits one version of nginx.
    folders = dict.fromkeys((program.parent.parent / "lib/nginx/modules", *MODULE_FOLDERS))
    for folder in folders:
        if (folder / SCRIPT_MODULE).is_file():
            return folder / SCRIPT_MODULE
    raise SetupError(
        f"nginx's module {SCRIPT_MODULE} is in none of "
        f"{', '.join(map(str, folders))}; install it: apt-get install libnginx-mod-http-js"
    )


def write_configuration(options: GatewayOptions) -> Path:
    """Write everything that nginx reads to the options' folder.

    Returns:
        nginx's configuration file.

    Raises:
        SetupError: the keys, the certificate or nginx's module are missing or cannot be used.
    """
    keys = read_keys(options.keys_path)
    for name in filter(None, (options.tls_certificate, options.tls_key)):
        if not Path(name).is_file():
            raise SetupError(f"{name} is missing; it is named for TLS")
    folder = options.folder_path
    folder.mkdir(parents=True, exist_ok=True)
    # Started as root, nginx has workers of another user, who go through here to their bodies.
    folder.chmod(0o711)
    _write(folder / "keys.conf", key_maps(keys) + picture_secret_map(options.picture_secret))
    path = folder / "nginx.conf"
    _write(path, configuration_text(options, script_module(), keys))
    return path


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def configuration_text(options: GatewayOptions, module: Path, keys: Sequence[ApiKey] = ()) -> str:
    """``nginx.conf`` as text; the keys themselves are in a file of their own."""
    secure = bool(options.tls_certificate)
    values = {
        "MODULE": str(module),
        "SCRIPT_FOLDER": str(HERE),
        "FOLDER": options.folder,
        "MAPS_SIZE": str(max(2048, 4 * len(keys))),
        "UPSTREAM_HTTP": options.upstream_http,
        "UPSTREAM_GRPC": options.upstream_grpc,
        "HTTP_LISTEN": _listen(options.http_port, "ssl" if secure else ""),
        "GRPC_LISTEN": _listen(options.grpc_port, "ssl http2" if secure else "http2"),
        "TLS": _tls(options) if secure else "",
        "REAL_ADDRESS": _real_address(options.trusted_proxies.split()),
        "CORS_ORIGINS": _origins(options.cors_origins.split()),
        "CORS_VARY": "Origin" if options.cors_origins.split() else "",
        "WORKERS": str(options.workers or min(cpu_count(), MOST_WORKERS)),
        "MAX_BODY": f"{options.max_body_mb}m",
        "BODY_BUFFER": f"{BODY_BUFFER_KB}k",
        "MATCH_RATE": f"{options.match_rate}r/s",
        "MATCH_BURST": str(options.match_burst),
        "INGEST_RATE": f"{options.ingest_rate}r/s",
        "INGEST_BURST": str(options.ingest_burst),
        "PICTURE_RATE": f"{options.picture_rate}r/s",
        "PICTURE_BURST": str(options.picture_burst),
        "PICTURE_REQUESTS": str(options.picture_requests),
        "PICTURE_ADDRESS_REQUESTS": str(options.picture_address_requests),
        "REQUESTS": str(options.requests),
        "CLIENT_REQUESTS": str(options.client_requests),
        "ADDRESS_CONNECTIONS": str(options.address_connections),
        "TIMEOUT": f"{options.timeout_s}s",
        "LOG_FORMAT": options.log_format,
    }
    return _PLACEHOLDER.sub(
        lambda found: values[found.group(1)], TEMPLATE.read_text(encoding="utf-8")
    )


def _listen(port: int, words: str) -> str:
    addresses = (str(port), f"[::]:{port} ipv6only=on")
    lines = []
    for address in addresses if _has_ipv6() else addresses[:1]:
        place, _, rest = address.partition(" ")
        lines.append("listen " + " ".join(filter(None, (place, words, rest))) + ";")
    return "\n        ".join(lines)


def _has_ipv6() -> bool:
    # nginx refuses to start where it cannot listen on an address of its configuration.
    addresses = Path("/proc/net/if_inet6")
    return addresses.is_file() and bool(addresses.read_text(encoding="utf-8"))


def _tls(options: GatewayOptions) -> str:
    return "\n    ".join(
        [
            f"ssl_certificate {options.tls_certificate};",
            f"ssl_certificate_key {options.tls_key};",
            "ssl_protocols TLSv1.2 TLSv1.3;",
            "ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;",
            "ssl_session_cache shared:tls:2m;",
            "ssl_session_tickets off;",
        ]
    )


def _real_address(networks: Sequence[str]) -> str:
    if not networks:
        return ""
    lines = [f"set_real_ip_from {network};" for network in networks]
    return "\n    ".join([*lines, "real_ip_header X-Forwarded-For;", "real_ip_recursive on;"])


def _origins(origins: Sequence[str]) -> str:
    if "*" in origins:
        return '"~." "*";'
    # Exact entries of a map ignore case, as hosts do.
    return "\n        ".join(f'"{origin}" $http_origin;' for origin in origins)
