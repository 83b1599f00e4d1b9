"""The index in a model's process: that of ``product_match``, or one that its processes share."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pymongo.database import Database

from bls_models.database.store import Document, Store
from bls_models.errors import SetupError
from bls_models.match.variants import Variants
from bls_models.replication.index_host import LOAD_WAIT_SECONDS, IndexHost
from bls_models.replication.index_socket import IndexSocket, server_folder
from bls_models.settings import INDEX_PROCESS
from bls_models.specs import PRODUCT_INDEX
from bls_models.telemetry.metrics import Metrics
from bls_models.triton.database_model import DatabaseModel, open_database
from bls_models.triton.metrics import TritonMetrics
from bls_models.triton.served_model import ServedModel


def own_index(model: DatabaseModel, store: Store, args: Mapping[str, str]) -> IndexHost:
    """Start the index of ``product_match``, for which the other models can ask by a socket.

    Args:
        model: whose process holds it, and whose ``finalize`` closes it.
        store: the database.
        args: the arguments of ``initialize``.

    Raises:
        SetupError: the model has several processes, each of which would hold an index.
    """
    groups = json.loads(args["model_config"])["instance_group"]
    count = sum(group["count"] * max(1, len(group.get("gpus", ()))) for group in groups)
    if count > 1:
        raise SetupError(
            f"{count} instances of {args['model_name']} would hold an index each; set "
            f"{INDEX_PROCESS}={PRODUCT_INDEX.name} so that they share one, or count: 1 in its "
            "configuration"
        )
    host = _host(model, store.database, model.metrics)
    model.closing.callback(IndexSocket(host, server_folder()).close)
    host.start(LOAD_WAIT_SECONDS)
    return host


def shared_index(model: ServedModel) -> IndexHost:
    """Start the index of a model that is no ``DatabaseModel`` where it holds none."""
    metrics = TritonMetrics()
    model.closing.callback(metrics.close)
    host = _host(model, open_database(model.settings), metrics)
    host.start(LOAD_WAIT_SECONDS)
    return host


def _host(model: ServedModel, database: Database[Document], metrics: Metrics) -> IndexHost:
    keeps_raw = Variants.from_settings(model.settings).any_raw
    host = IndexHost(model.settings, model.bundle, database, metrics, keeps_raw)
    model.closing.callback(host.close)
    return host
