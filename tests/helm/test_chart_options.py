"""Each option does what its description says."""

from __future__ import annotations

from typing import Any

import helm_python
import pytest
import yaml
from chart_support import (
    CHART,
    MINIMAL,
    NAMESPACE,
    ROOT,
    Manifest,
    Values,
    container,
    environment,
    kinds,
    leaves,
    merged,
    pod_specs,
    render,
    render_texts,
    the,
    value_file,
    values_of,
)

from bls_models.settings import FILE_SUFFIX, PICTURE_SECRET, EnvironmentSettings, Settings
from demo.options import DemoOptions
from gateway.options import GatewayOptions
from local_server.container import ContainerOptions

PEER = {"namespaceSelector": {"matchLabels": {"team": "shop"}}}

# Everything that can be switched on, so that every other value matters.
ALL_ON = merged(
    MINIMAL,
    {
        "profile": "gpu",
        "import": {"enabled": True},
        "demo": {"enabled": True, "secret": {"existingSecret": "page"}},
        "autoscaling": {"enabled": True},
        "tracing": {"url": "http://collector:4318/v1/traces"},
        "metrics": {
            name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboard")
        },
    },
)
EMBEDDED = merged(
    ALL_ON, {"mongodb": {"embedded": {"enabled": True, "existingSecret": "database"}}}
)
MILVUS = merged(
    ALL_ON, {"index": {"engine": "milvus"}, "milvus": {"uri": "http://milvus.milvus:19530"}}
)
FIXED = merged(ALL_ON, {"autoscaling": {"enabled": False}})
NO_PAGE = merged(ALL_ON, {"demo": {"enabled": False}})

# Another value for each option; with a base of its own where it matters only there.
OTHER: dict[str, Any] = {
    "nameOverride": "matcher",
    "fullnameOverride": "matcher",
    "profile": "cpu",
    "image.repository": "registry.example/match",
    "image.tag": "v2",
    "image.digest": "sha256:" + "a" * 64,
    "image.pullPolicy": "Always",
    "image.pullSecrets": ["registry"],
    "replicas": (FIXED, 5),
    "strategy.maxSurge": 2,
    "strategy.maxUnavailable": 1,
    "settings": {"PRODUCT_MATCH_MAX_IMAGES": 4},
    "tritonFlags": ["--log-verbose=1"],
    "logFormat": "text",
    "tracing.url": "https://collector.example/v1/traces",
    "tracing.rate": 7,
    "resources.requests": {"cpu": "7"},
    "resources.limits": {"memory": "7Gi"},
    "sharedMemory": "3Gi",
    "scratch": "3Gi",
    "snapshots": "3Gi",
    "catalogue.pictures": 50_000,
    "catalogue.bytesPerPicture": 3000,
    "probe.command": ["check"],
    **{
        f"probe.{probe}.{time}": 77
        for probe in ("startup", "readiness", "liveness")
        for time in ("periodSeconds", "timeoutSeconds", "failureThreshold")
    },
    "shutdown.drainSeconds": 17,
    "shutdown.exitSeconds": 57,
    "serviceAccount.create": (merged(ALL_ON, {"serviceAccount": {"name": "own"}}), False),
    "serviceAccount.name": "own",
    "serviceAccount.annotations": {"a": "b"},
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
    "nodeSelector": {"a": "b"},
    "affinity": {"podAffinity": {}},
    "tolerations": [{"operator": "Exists"}],
    "topologySpread": [{"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
    "priorityClassName": "high",
    "runtimeClassName": "nvidia",
    "service.type": "LoadBalancer",
    "service.annotations": {"a": "b"},
    "service.httpPort": 8888,
    "service.grpcPort": 8889,
    "gateway.enabled": (NO_PAGE, False),
    "gateway.image.repository": "registry.example/gateway",
    "gateway.image.tag": "v2",
    "gateway.image.digest": "sha256:" + "b" * 64,
    "gateway.image.pullPolicy": "Always",
    "gateway.apiKeys.existingSecret": "others",
    "gateway.apiKeys.file": "all",
    "gateway.apiKeys.matchKey": "reader",
    "gateway.apiKeys.ingestKey": "writer",
    "gateway.tls.existingSecret": "certificate",
    "gateway.pictures.existingSecret": "picture-links",
    "gateway.pictures.key": (
        merged(ALL_ON, {"gateway": {"pictures": {"existingSecret": "picture-links"}}}),
        "other",
    ),
    "gateway.settings": {"GATEWAY_MATCH_RATE": 7},
    "gateway.resources.requests": {"cpu": "7"},
    "gateway.resources.limits": {"memory": "7Gi"},
    "mongodb.existingSecret": "other",
    "mongodb.uriKey": "address",
    "mongodb.database": "shop",
    "mongodb.embedded.enabled": True,
    "mongodb.embedded.image.repository": (EMBEDDED, "registry.example/mongo"),
    "mongodb.embedded.image.tag": (EMBEDDED, "8.2"),
    "mongodb.embedded.image.pullPolicy": (EMBEDDED, "Always"),
    "mongodb.embedded.existingSecret": (EMBEDDED, "other"),
    "mongodb.embedded.storage.size": (EMBEDDED, "7Gi"),
    "mongodb.embedded.storage.className": (EMBEDDED, "fast"),
    "mongodb.embedded.resources.requests": (EMBEDDED, {"cpu": "7"}),
    "mongodb.embedded.resources.limits": (EMBEDDED, {"memory": "7Gi"}),
    "index.engine": (merged(MILVUS, {"index": {"engine": "faiss"}}), "milvus"),
    "milvus.uri": (MILVUS, "https://milvus.example:443"),
    "milvus.token.existingSecret": (MILVUS, "milvus"),
    "milvus.token.key": (
        merged(MILVUS, {"milvus": {"token": {"existingSecret": "milvus"}}}),
        "password",
    ),
    "milvus.certificate.existingSecret": (MILVUS, "milvus"),
    "milvus.certificate.key": (
        merged(MILVUS, {"milvus": {"certificate": {"existingSecret": "milvus"}}}),
        "tls.crt",
    ),
    "milvus.consistency": (MILVUS, "Strong"),
    "gpu.count": 2,
    "gpu.resourceName": "nvidia.com/mig-1g.10gb",
    "engines.cache.type": (
        merged(ALL_ON, values_of("engines.cache.hostPath", "/var/engines")),
        "hostPath",
    ),
    "engines.cache.claimName": (
        merged(ALL_ON, {"engines": {"cache": {"type": "persistentVolumeClaim", "claimName": "a"}}}),
        "engines",
    ),
    "engines.cache.hostPath": (
        merged(ALL_ON, {"engines": {"cache": {"type": "hostPath", "hostPath": "/a"}}}),
        "/engines",
    ),
    "engines.cache.sizeLimit": "7Gi",
    "import.enabled": False,
    "import.path": "catalogue",
    "import.volume": {"persistentVolumeClaim": {"claimName": "catalogue"}},
    "import.concurrency": 3,
    "import.deadlineSeconds": 60,
    "import.resources.requests": {"cpu": "7"},
    "import.resources.limits": {"memory": "7Gi"},
    "demo.enabled": False,
    "demo.image.repository": "registry.example/page",
    "demo.image.tag": "v2",
    "demo.image.digest": "sha256:" + "c" * 64,
    "demo.image.pullPolicy": "Always",
    "demo.secret.existingSecret": "other",
    "demo.secret.apiKey": "key",
    "demo.secret.password": "",
    "demo.rate": 7,
    "demo.burst": 7,
    "demo.actions": 7,
    "demo.queueSize": 7,
    "demo.trustedProxies": ["10.0.0.0/8"],
    "demo.shownUrl": "https://gateway.example",
    "demo.scratch": "128Mi",
    "demo.resources.requests": {"cpu": "7"},
    "demo.resources.limits": {"memory": "7Gi"},
    "autoscaling.enabled": False,
    "autoscaling.minReplicas": 3,
    "autoscaling.maxReplicas": 30,
    "autoscaling.queueMilliseconds": 10,
    "autoscaling.metricName": "wait",
    "autoscaling.scaleDownSeconds": 60,
    "autoscaling.adapterRules": False,
    "podDisruptionBudget.enabled": False,
    "podDisruptionBudget.maxUnavailable": "50%",
    "networkPolicy.enabled": False,
    "networkPolicy.clients": [PEER],
    "networkPolicy.monitoring": [PEER],
    "networkPolicy.database": [PEER],
    "networkPolicy.databasePort": 27018,
    "networkPolicy.milvus": (MILVUS, [PEER]),
    "networkPolicy.collector": [PEER],
    "metrics.serviceMonitor.enabled": False,
    "metrics.serviceMonitor.interval": "1m",
    "metrics.serviceMonitor.labels": {"a": "b"},
    "metrics.prometheusRule.enabled": False,
    "metrics.prometheusRule.labels": {"a": "b"},
    "metrics.prometheusRule.exclude": ["ProductMatchSlow"],
    "metrics.dashboard.enabled": False,
    "metrics.dashboard.labels": {"a": "b"},
    "metrics.dashboard.annotations": {"a": "b"},
    "tests.enabled": False,
}


def schema_leaves() -> dict[str, Manifest]:
    with helm_python.Chart.load(CHART) as chart:
        assert chart.schema is not None
        return dict(leaves(chart.schema))


def test_every_option_is_tried() -> None:
    assert set(OTHER) == set(schema_leaves()) - {"global"}


@pytest.mark.parametrize("path", OTHER)
def test_another_value_gives_other_objects(path: str) -> None:
    other = OTHER[path]
    base, value = other if isinstance(other, tuple) else (ALL_ON, other)
    before = render_texts(base)
    after = render_texts(merged(base, values_of(path, value)))
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert {name for name in changed if not name.endswith("NOTES.txt")}


@pytest.mark.parametrize("seconds", [0, 7200])
def test_an_import_takes_as_long_as_it_takes_unless_told(seconds: int) -> None:
    values = merged(ALL_ON, values_of("import.deadlineSeconds", seconds) if seconds else {})
    job = the(render(values), "Job", "-import")
    assert job["spec"].get("activeDeadlineSeconds", 0) == seconds


# --- probes and stopping ----------------------------------------------------------------------


@pytest.mark.parametrize("file", ["values-cpu.yaml", "values-gpu.yaml"])
@pytest.mark.parametrize(
    ("probe", "level"), [("startup", "live"), ("readiness", "ready"), ("liveness", "live")]
)
def test_every_probe_of_the_server_asks_for_a_real_match(file: str, probe: str, level: str) -> None:
    found = container(render(value_file(file)), "triton")[f"{probe}Probe"]
    assert "httpGet" not in found
    command = found["exec"]["command"]
    # Kubernetes' own limit must not end the probe before it has said why.
    assert command == [
        *("python3", "-m", "local_server.probe"),
        f"--level={level}",
        f"--timeout={found['timeoutSeconds'] - 1}",
    ]


def test_a_stopping_pod_drains_before_anything_ends() -> None:
    values = merged(MINIMAL, {"shutdown": {"drainSeconds": 12, "exitSeconds": 40}})
    manifests = render(values)
    server = container(manifests, "triton")["lifecycle"]["preStop"]["exec"]["command"]
    gateway = container(manifests, "gateway")["lifecycle"]["preStop"]["exec"]["command"]
    assert server == ["sleep", "17"]
    assert gateway == ["sh", "-c", "sleep 12; kill -QUIT 1; sleep 40"]
    spec = the(manifests, "Deployment")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > 12 + 40


def test_shared_memory_lies_in_memory() -> None:
    manifests = render(merged(MINIMAL, {"sharedMemory": "3Gi"}))
    volumes = the(manifests, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert {
        "name": "shared-memory",
        "emptyDir": {"medium": "Memory", "sizeLimit": "3Gi"},
    } in volumes
    mounts = container(manifests, "triton")["volumeMounts"]
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in mounts


def test_containers_get_only_variables_that_their_programs_read() -> None:
    def names(kind: type[EnvironmentSettings]) -> set[str]:
        return set(kind.variables().values())

    server = names(ContainerOptions) | names(Settings)
    server |= {f"{name}{FILE_SUFFIX}" for name in server}
    gateway = names(GatewayOptions) | {PICTURE_SECRET + FILE_SUFFIX}
    all_secrets = {
        "gateway": {
            "tls": {"existingSecret": "certificate"},
            "pictures": {"existingSecret": "picture-links"},
        }
    }
    for values in (MINIMAL, merged(ALL_ON, all_secrets), merged(MILVUS, MILVUS_SECRETS)):
        manifests = render(values)
        for name in ("triton", *(["engines"] if values is not MINIMAL else [])):
            assert environment(container(manifests, name)).keys() <= server
        assert environment(container(manifests, "gateway")).keys() <= gateway


def test_a_setting_that_the_chart_has_a_value_for_is_set_once() -> None:
    with helm_python.Chart.load(CHART) as chart:
        schema = chart.schema
    assert schema is not None
    settings = {name: "x" for name in schema["properties"]["settings"]["properties"]}
    for values in (MINIMAL, ALL_ON):
        variables = container(render(merged(values, {"settings": settings})), "triton")["env"]
        names = [item["name"] for item in variables]
        assert len(names) == len(set(names))
        given = {item["name"]: item.get("value") for item in variables}
        assert settings.items() <= given.items()


@pytest.mark.parametrize("given", [False, "no", "off"])
def test_what_the_chart_switches_off_is_off_for_the_models(given: bool | str) -> None:
    variables = ("PRODUCT_MATCH_DEFAULT_MIN_SCORES", "PRODUCT_MATCH_CAPTION_PAST_ON_GPU")
    manifests = render(merged(MINIMAL, {"settings": dict.fromkeys(variables, given)}))
    told = environment(container(manifests, "triton"))
    settings = Settings.from_environment({name: told[name] for name in variables})
    assert (settings.default_min_scores, settings.caption_past_on_gpu) == (False, False)


def test_a_large_number_reaches_the_models_as_it_was_written() -> None:
    """Helm reads numbers as floats, and writes large ones with an exponent."""
    numbers = {"PRODUCT_MATCH_MAX_IMAGE_BYTES": 20971520, "PRODUCT_MATCH_CAPTION_WEIGHT": 0.25}
    told = environment(container(render(merged(MINIMAL, {"settings": numbers})), "triton"))
    settings = Settings.from_environment({name: told[name] for name in numbers})
    assert (settings.max_image_bytes, settings.caption_weight) == (20971520, 0.25)


# --- logs and traces --------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", ["json", "text"])
def test_models_and_gateway_log_in_the_same_form(chosen: str) -> None:
    manifests = render(merged(MINIMAL, {"logFormat": chosen}))
    assert environment(container(manifests, "triton"))["PRODUCT_MATCH_LOG_FORMAT"] == chosen
    assert environment(container(manifests, "gateway"))["GATEWAY_LOG_FORMAT"] == chosen


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://collector.monitoring:4318/v1/traces", 4318),
        ("http://collector/v1/traces", 80),
        ("https://collector.example/v1/traces", 443),
    ],
)
def test_traces_may_leave_the_pod(url: str, port: int) -> None:
    manifests = render(merged(MINIMAL, {"tracing": {"url": url, "rate": 5}}))
    variables = environment(container(manifests, "triton"))
    assert (variables["TRACE_URL"], variables["TRACE_RATE"]) == (url, "5")
    assert ContainerOptions(trace_url=url, trace_rate=5).trace_flags()
    ports = [
        item["port"]
        for rule in the(manifests, "NetworkPolicy")["spec"]["egress"]
        for item in rule["ports"]
    ]
    assert port in ports


def test_without_a_collector_there_are_no_traces() -> None:
    assert "TRACE_URL" not in environment(container(render(MINIMAL), "triton"))


# --- profiles ---------------------------------------------------------------------------------


def test_the_cpu_profile_asks_for_no_gpu_and_builds_no_engine() -> None:
    manifests = render(merged(MINIMAL, {"profile": "cpu"}))
    spec = the(manifests, "Deployment")["spec"]["template"]["spec"]
    assert "initContainers" not in spec
    assert "nvidia" not in str(spec)
    assert container(manifests, "triton")["image"] == "product-match:0.1.0-cpu"


def test_the_gpu_profile_compiles_engines_where_they_will_run() -> None:
    manifests = render(merged(MINIMAL, {"profile": "gpu", "gpu": {"count": 2}}))
    build, server = (container(manifests, name) for name in ("engines", "triton"))
    for item in (build, server):
        assert item["image"] == "product-match:0.1.0-gpu"
        assert item["resources"]["limits"]["nvidia.com/gpu"] == 2
        assert item["resources"]["requests"]["nvidia.com/gpu"] == 2
    assert build["command"] == ["python3", "-m", "local_server.container", "--prepare-only"]
    # What the build writes is where the server looks.
    mount = {"name": "engines", "mountPath": environment(build)["STATE"]}
    assert environment(server)["STATE"] == environment(build)["STATE"]
    assert mount in build["volumeMounts"]
    assert mount in server["volumeMounts"]


@pytest.mark.parametrize(
    ("cache", "volume"),
    [
        (
            {"type": "persistentVolumeClaim", "claimName": "kept"},
            {"persistentVolumeClaim": {"claimName": "kept"}},
        ),
        (
            {"type": "hostPath", "hostPath": "/var/engines"},
            {"hostPath": {"path": "/var/engines", "type": "Directory"}},
        ),
        ({"type": "emptyDir", "sizeLimit": "5Gi"}, {"emptyDir": {"sizeLimit": "5Gi"}}),
    ],
)
def test_the_cache_of_engines_is_the_volume_that_was_asked_for(
    cache: Values, volume: Manifest
) -> None:
    manifests = render(merged(MINIMAL, {"profile": "gpu", "engines": {"cache": cache}}))
    volumes = the(manifests, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "engines", **volume} in volumes


# --- the index in Milvus ----------------------------------------------------------------------

MILVUS_SECRETS: Values = {
    "milvus": {
        "token": {"existingSecret": "access", "key": "password"},
        "certificate": {"existingSecret": "authority", "key": "tls.crt"},
    }
}


def test_without_milvus_nothing_is_said_of_it() -> None:
    manifests = render(ALL_ON)
    assert environment(container(manifests, "triton"))["PRODUCT_MATCH_INDEX_ENGINE"] == "faiss"
    assert "milvus_uri" not in str(the(manifests, "Deployment")).lower()


def test_servers_are_told_where_milvus_is_and_what_it_knows_them_by() -> None:
    values = merged(
        MILVUS,
        MILVUS_SECRETS,
        {"milvus": {"uri": "https://milvus.milvus:19531", "consistency": "Strong"}},
    )
    manifests = render(values)
    server = container(manifests, "triton")
    told = environment(server)
    named = {name: told[name] for name in Settings.variables().values() if name in told}
    settings = Settings.from_environment(named)
    assert settings.index_engine == "milvus"
    assert settings.milvus_uri == "https://milvus.milvus:19531"
    assert settings.milvus_consistency == "Strong"
    files = {
        f"{mount['mountPath']}/{item['path']}": (volume["secret"]["secretName"], item["key"])
        for volume in the(manifests, "Deployment")["spec"]["template"]["spec"]["volumes"]
        for mount in server["volumeMounts"]
        if mount["name"] == volume["name"]
        for item in volume.get("secret", {}).get("items", [])
    }
    assert files[told["MILVUS_TOKEN_FILE"]] == ("access", "password")
    assert files[settings.milvus_certificate] == ("authority", "tls.crt")
    # Nothing of the catalogue lies in the pod, so nothing is saved of it.
    assert not settings.snapshot_folder
    assert "snapshots" not in {mount["name"] for mount in server["volumeMounts"]}
    with_rules = merged(values, {"networkPolicy": {"milvus": [PEER]}})
    (rule,) = (
        rule
        for rule in the(render(with_rules), "NetworkPolicy")["spec"]["egress"]
        if rule["ports"] == [{"port": 19531}]
    )
    assert rule["to"] == [PEER]


# --- the gateway ------------------------------------------------------------------------------


def test_behind_the_gateway_triton_is_not_reachable_from_outside_the_pod() -> None:
    manifests = render(MINIMAL)
    server = environment(container(manifests, "triton"))
    assert server["LISTEN_ADDRESS"] == "127.0.0.1"
    assert server["TRITON_FLAGS"] == "--metrics-address=0.0.0.0"
    assert environment(container(manifests, "gateway"))["GATEWAY_UPSTREAM_HTTP"] == "127.0.0.1:8000"
    ports = {port["targetPort"] for port in the(manifests, "Service")["spec"]["ports"]}
    assert ports == {"gateway-http", "gateway-grpc"}
    allowed = {
        port["port"]
        for rule in the(manifests, "NetworkPolicy")["spec"]["ingress"]
        for port in rule["ports"]
    }
    assert allowed == {"gateway-http", "gateway-grpc", "metrics"}


def test_server_and_gateway_read_the_same_secret_for_links_to_pictures() -> None:
    secret = {"gateway": {"pictures": {"existingSecret": "picture-links", "key": "hmac"}}}
    manifests = render(merged(MINIMAL, secret))
    volumes = the(manifests, "Deployment")["spec"]["template"]["spec"]["volumes"]
    (volume,) = (item["secret"] for item in volumes if item["name"] == "pictures")
    assert volume["secretName"] == "picture-links"
    assert volume["items"] == [{"key": "hmac", "path": "secret"}]
    for name in ("triton", "gateway"):
        found = container(manifests, name)
        mounts = {item["name"]: item["mountPath"] for item in found["volumeMounts"]}
        assert environment(found)[PICTURE_SECRET + FILE_SUFFIX] == f"{mounts['pictures']}/secret"
    for values in (MINIMAL, merged(MINIMAL, merged(secret, {"gateway": {"enabled": False}}))):
        assert PICTURE_SECRET + FILE_SUFFIX not in environment(container(render(values), "triton"))


def test_without_the_gateway_the_service_leads_to_triton() -> None:
    manifests = render(merged(MINIMAL, {"gateway": {"enabled": False}}))
    assert "LISTEN_ADDRESS" not in environment(container(manifests, "triton"))
    ports = {port["targetPort"] for port in the(manifests, "Service")["spec"]["ports"]}
    assert ports == {"http", "grpc"}
    names = {
        c["name"] for c in the(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    }
    assert names == {"triton"}


def test_tls_reaches_the_gateway_its_probes_and_the_clients() -> None:
    manifests = render(merged(ALL_ON, {"gateway": {"tls": {"existingSecret": "certificate"}}}))
    gateway = container(manifests, "gateway")
    variables = environment(gateway)
    mounts = {m["name"]: m["mountPath"] for m in gateway["volumeMounts"]}
    assert variables["GATEWAY_TLS_CERT"] == f"{mounts['gateway-tls']}/tls.crt"
    assert variables["GATEWAY_TLS_KEY"] == f"{mounts['gateway-tls']}/tls.key"
    for probe in ("livenessProbe", "readinessProbe"):
        assert gateway[probe]["httpGet"]["scheme"] == "HTTPS"
    (job,) = (item for item in manifests if item["kind"] == "Job")
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert "--url=https://shop-product-match:80" in command


def test_clients_of_the_release_send_keys_from_the_secret() -> None:
    manifests = render(ALL_ON)
    specs = dict(pod_specs(manifests))
    for name, key in (
        ("shop-product-match-import", "ingest"),
        ("shop-product-match-test", "match"),
    ):
        (item,) = specs[name]["containers"]
        assert environment(item) == {
            "PRODUCT_MATCH_API_KEY": {"secretKeyRef": {"name": "keys", "key": key}}
        }


# --- the database -----------------------------------------------------------------------------


def database_secret(manifests: list[Manifest]) -> tuple[str, str]:
    """Name and entry of the Secret that the server reads its database's address from."""
    server = container(manifests, "triton")
    path = environment(server)["MONGODB_URI_FILE"]
    (mount,) = (m for m in server["volumeMounts"] if path.startswith(m["mountPath"] + "/"))
    volumes = the(manifests, "Deployment")["spec"]["template"]["spec"]["volumes"]
    (secret,) = (volume["secret"] for volume in volumes if volume["name"] == mount["name"])
    (item,) = secret["items"]
    assert f"{mount['mountPath']}/{item['path']}" == path
    return secret["secretName"], item["key"]


def test_the_database_address_comes_from_the_secret_that_was_named() -> None:
    manifests = render(
        merged(MINIMAL, {"mongodb": {"existingSecret": "mine", "uriKey": "address"}})
    )
    assert database_secret(manifests) == ("mine", "address")
    assert "StatefulSet" not in kinds(manifests)


def test_the_embedded_database_is_a_replica_set_with_passwords_of_its_own() -> None:
    values = merged({"gateway": MINIMAL["gateway"]}, {"mongodb": {"embedded": {"enabled": True}}})
    manifests = render(values)
    secret = the(manifests, "Secret", "-mongodb")["stringData"]
    member = f"shop-product-match-mongodb-0.shop-product-match-mongodb.{NAMESPACE}.svc:27017"
    assert secret["uri"] == (
        f"mongodb://product_match:{secret['password']}@{member}"
        "/?replicaSet=rs0&authSource=product_match"
    )
    assert len({secret["password"], secret["root-password"], secret["keyfile"]}) == 3
    assert the(render(values), "Secret", "-mongodb")["stringData"]["password"] != secret["password"]
    assert database_secret(manifests) == ("shop-product-match-mongodb", "uri")
    (item,) = the(manifests, "StatefulSet", "-mongodb")["spec"]["template"]["spec"]["containers"]
    assert environment(item)["MEMBER"] == member
    assert "--replSet rs0 --keyFile" in item["command"][-1]
    scripts = the(manifests, "ConfigMap", "-mongodb")["data"]
    assert "--file /scripts/initiate.js" in item["command"][-1]
    assert "replSetInitiate" in scripts["initiate.js"]
    # What the command makes once this is a primary, the probe looks for.
    assert "touch /tmp/is-primary" in item["command"][-1]
    assert "/tmp/is-primary" in item["readinessProbe"]["exec"]["command"][-1]
    assert 'role: "readWrite", db: "product_match"' in scripts["user.js"]


# --- scaling and disruption -------------------------------------------------------------------


def test_the_autoscaler_owns_the_number_of_servers() -> None:
    on = render(merged(MINIMAL, {"autoscaling": {"enabled": True}}))
    assert "replicas" not in the(on, "Deployment")["spec"]
    scaler = the(on, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == the(on, "Deployment")["metadata"]["name"]
    off = render(merged(MINIMAL, {"replicas": 4}))
    assert the(off, "Deployment")["spec"]["replicas"] == 4
    assert "HorizontalPodAutoscaler" not in kinds(off)


def test_the_adapter_serves_the_metric_that_the_autoscaler_asks_for() -> None:
    manifests = render(merged(MINIMAL, {"autoscaling": {"enabled": True, "metricName": "wait_ms"}}))
    (metric,) = the(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]
    rules = yaml.safe_load(the(manifests, "ConfigMap", "-adapter-rules")["data"]["rules.yaml"])
    (rule,) = rules["rules"]
    assert metric["type"] == "Pods"
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"] == "wait_ms"
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "50"}
    assert set(rule) == {"seriesQuery", "resources", "name", "metricsQuery"}


def test_every_server_spreads_over_nodes_and_zones_by_its_own_labels() -> None:
    manifests = render(MINIMAL)
    deployment = the(manifests, "Deployment")
    constraints = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert [c["topologyKey"] for c in constraints] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    for constraint in constraints:
        assert constraint["labelSelector"] == deployment["spec"]["selector"]


# --- the network ------------------------------------------------------------------------------


def test_named_clients_and_the_releases_own_are_let_in_and_no_others() -> None:
    manifests = render(merged(ALL_ON, {"networkPolicy": {"clients": [PEER], "monitoring": [PEER]}}))
    serving, metrics = the(manifests, "NetworkPolicy")["spec"]["ingress"]
    assert metrics["from"] == [PEER]
    assert serving["from"][0] == PEER
    own = serving["from"][1]["podSelector"]["matchLabels"]
    (job,) = (item for item in manifests if item["kind"] == "Job")
    assert own.items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert own.items() <= the(manifests, "Pod", "-test")["metadata"]["labels"].items()


def test_servers_may_reach_names_and_the_database_only() -> None:
    peer = {"ipBlock": {"cidr": "10.1.0.0/16"}}
    policy = the(
        render(merged(MINIMAL, {"networkPolicy": {"database": [peer], "databasePort": 27018}})),
        "NetworkPolicy",
    )["spec"]
    names, database = policy["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert database == {"ports": [{"port": 27018}], "to": [peer]}
    assert policy["policyTypes"] == ["Ingress", "Egress"]


# --- the page -------------------------------------------------------------------------------------


def page(values: Values) -> tuple[list[Manifest], Manifest]:
    """All objects, and the container of the page."""
    manifests = render(merged(ALL_ON, values))
    (item,) = dict(pod_specs(manifests))["shop-product-match-demo"]["containers"]
    return manifests, item


def test_there_is_no_page_unless_it_is_asked_for() -> None:
    assert "demo" not in {
        item["metadata"]["labels"].get("app.kubernetes.io/component") for item in render(MINIMAL)
    }


def test_the_page_is_told_what_its_program_reads() -> None:
    limits = {"rate": 7, "burst": 9, "actions": 3, "queueSize": 5, "scratch": "301Mi"}
    others = {"trustedProxies": ["10.0.0.0/8", "::1"], "shownUrl": "https://gateway.example"}
    manifests, item = page({"demo": limits | others})
    told = environment(item)
    assert told.pop("FORWARDED_ALLOW_IPS") == "10.0.0.0/8,::1"
    files = {name: told.pop(name) for name in list(told) if name.endswith(FILE_SUFFIX)}
    known = set(DemoOptions.variables().values())
    assert told.keys() | {name.removesuffix(FILE_SUFFIX) for name in files} <= known
    options = DemoOptions.from_environment(told)
    assert (options.rate, options.burst, options.actions, options.queue_size) == (7, 9, 3, 5)
    assert options.uploads_mb == 150
    assert options.url == "http://shop-product-match:80"
    assert options.shown_url == "https://gateway.example"
    # Each file is an entry of the Secret.
    spec = dict(pod_specs(manifests))["shop-product-match-demo"]
    (secret,) = (volume["secret"] for volume in spec["volumes"] if "secret" in volume)
    (mount,) = (m["mountPath"] for m in item["volumeMounts"] if m["name"] == "secret")
    assert secret["secretName"] == "page"
    assert {f"{mount}/{entry['path']}": entry["key"] for entry in secret["items"]} == {
        files["PRODUCT_MATCH_API_KEY_FILE"]: "api-key",
        files["DEMO_PASSWORD_FILE"]: "password",
    }
    (port,) = item["ports"]
    assert port["containerPort"] == DemoOptions().port


def test_the_chart_limits_visitors_as_the_page_does_by_itself() -> None:
    told = environment(page({})[1])
    defaults = DemoOptions()
    named = {name: str(getattr(defaults, field)) for field, name in defaults.variables().items()}
    for name in ("DEMO_RATE", "DEMO_BURST", "DEMO_ACTIONS", "DEMO_QUEUE_SIZE"):
        assert told[name] == named[name]


def test_a_page_without_a_password_is_warned_of() -> None:
    open_page = merged(ALL_ON, {"demo": {"secret": {"password": ""}}})
    assert "DEMO_PASSWORD_FILE" not in environment(page(open_page)[1])
    for values, warned in ((ALL_ON, False), (open_page, True)):
        (notes,) = (
            text for path, text in render_texts(values).items() if path.endswith("NOTES.txt")
        )
        assert "service/shop-product-match-demo 7860:80" in notes
        assert ("WARNING: demo.secret.password is empty" in notes) is warned


def test_the_page_reaches_the_gateway_and_nothing_else() -> None:
    manifests, item = page({"networkPolicy": {"clients": [PEER]}})
    policy = the(manifests, "NetworkPolicy", "-demo")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (visitors,) = policy["ingress"]
    assert visitors == {"ports": [{"port": item["ports"][0]["name"]}], "from": [PEER]}
    names, gateway = policy["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert gateway["ports"] == [{"port": "gateway-http"}]
    (peer,) = gateway["to"]
    server = the(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"].items() <= server.items()
    # Nor does anything but visitors reach it, and the server lets it in.
    labels = the(manifests, "Deployment", "-demo")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    serving, _ = the(manifests, "NetworkPolicy")["spec"]["ingress"]
    assert serving["from"][1]["podSelector"]["matchLabels"].items() <= labels.items()


# --- import and monitoring --------------------------------------------------------------------


def test_the_import_runs_after_each_install_and_upgrade() -> None:
    job = the(render(ALL_ON), "Job", "-import")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    (item,) = job["spec"]["template"]["spec"]["containers"]
    assert item["command"][:5] == ["python3", "-m", "seed", "import", "seed/sample"]


def test_the_import_reads_the_catalogue_of_a_volume() -> None:
    volume = {"persistentVolumeClaim": {"claimName": "shop-catalogue"}}
    job = the(
        render(merged(ALL_ON, {"import": {"volume": volume, "path": "2026/autumn"}})),
        "Job",
        "-import",
    )
    spec = job["spec"]["template"]["spec"]
    assert {"name": "catalogue", **volume} in spec["volumes"]
    (item,) = spec["containers"]
    assert item["command"][4] == "/catalogue"
    assert {
        "name": "catalogue",
        "mountPath": "/catalogue",
        "readOnly": True,
        "subPath": "2026/autumn",
    } in item["volumeMounts"]


def test_alerts_can_be_left_out_by_name() -> None:
    def alerts(exclude: list[str]) -> set[str]:
        values = merged(ALL_ON, {"metrics": {"prometheusRule": {"exclude": exclude}}})
        groups = the(render(values), "PrometheusRule")["spec"]["groups"]
        return {rule["alert"] for group in groups for rule in group["rules"]}

    assert alerts([]) - alerts(["ProductMatchSlow"]) == {"ProductMatchSlow"}


def test_rules_and_dashboard_are_the_files_that_compose_mounts() -> None:
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    mounted = {
        (ROOT / "docker" / volume.split(":")[0]).resolve()
        for name in ("prometheus", "grafana")
        for volume in compose["services"][name]["volumes"]
    }
    assert {CHART / "rules", CHART / "dashboards"} <= mounted
    manifests = render(ALL_ON)
    rules = yaml.safe_load((CHART / "rules" / "product-match.yaml").read_text(encoding="utf-8"))
    assert the(manifests, "PrometheusRule")["spec"]["groups"] == rules["groups"]
    dashboard = (CHART / "dashboards" / "product-match.json").read_text(encoding="utf-8")
    assert the(manifests, "ConfigMap", "-dashboard")["data"] == {"product-match.json": dashboard}
