"""Serving needs none of the packages that only building needs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from serving_support import ROOT

# Only inside the backend's stub: they import what Triton alone provides.
INSIDE_TRITON = (
    "bls_models.triton.bridge",
    "bls_models.triton.client_services",
    "bls_models.triton.database_model",
    "bls_models.triton.gpu_calls",
    "bls_models.triton.index_hosting",
    "bls_models.triton.metrics",
    "bls_models.triton.public_model",
    "bls_models.triton.engine_model",
    "bls_models.triton.served_model",
)

SCRIPT = """
import importlib, pkgutil, sys

REFUSED = {"torch", "transformers", "onnx", "onnxruntime", "onnxscript", "builders"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ImportError(f"{name} is refused here")

sys.meta_path.insert(0, Refuse())
package = importlib.import_module(sys.argv[1])
names = [item.name for item in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
wanted = [name for name in names if name not in sys.argv[2:] and not name.endswith("__main__")]
for name in wanted:
    importlib.import_module(name)
print(len(wanted), *sorted(REFUSED & set(sys.modules)))
try:
    import torch
except ImportError:
    sys.exit(0)
sys.exit("the refusal does not work")
"""


@pytest.mark.parametrize("package", ["bls_models", "local_server", "product_match_client"])
def test_the_package_imports_where_the_building_packages_are_refused(package: str) -> None:
    paths = f"{ROOT}:{ROOT / 'client'}"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, package, *INSIDE_TRITON],
        env={"PYTHONPATH": paths, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, *refused = done.stdout.split()
    assert int(count) >= 4
    assert refused == []
