"""The manifests agree with each other, with the code, and with the schemas of those who read them."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.health import Health
from infra.local.daemon import silent
from infra.local.machine import locked
from infra.worker import AGENTS
from streams import settings
from streams.settings import Settings
from streams.store_engine import parse_url
from tests.deploy_rig import DEPLOY, found_by_others
from tests.test_compose import LOGINS_SH, PROJECT, known

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"
SECRETS = Path("/run/secrets/bestbefore")
PAGES = {"/live", "/ready", "/metrics"}
Manifest = dict[str, Any]


# -- rendered by the real tool -------------------------------------------------------------------------------


def renderer() -> list[str]:
    """The command that renders a folder: kubectl, kustomize, or the latter built with Go."""
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    if found := shutil.which("kustomize"):
        return [found, "build"]
    if shutil.which("go") is None:
        raise RuntimeError(
            "tests render the manifests with kubectl, kustomize or Go, none of which is here; install one"
        )
    folder = Path.home() / ".cache" / "bestbefore" / "kustomize"
    with locked(folder / "lock", report=silent, patience_s=900):
        if not (folder / "kustomize").exists():
            environment = {**os.environ, "GOBIN": str(folder)}
            subprocess.run(["go", "install", KUSTOMIZE], env=environment, check=True, capture_output=True)
    return [str(folder / "kustomize"), "build"]


@cache
def rendered(overlay: str) -> tuple[Manifest, ...]:
    """All objects of an overlay."""
    said = subprocess.run([*renderer(), KUBERNETES / "overlays" / overlay], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    return tuple(yaml.safe_load_all(said.stdout))


def of_kind(overlay: str, *kinds: str) -> list[Manifest]:
    """The objects of these kinds."""
    return [one for one in rendered(overlay) if one["kind"] in kinds]


def containers(overlay: str) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Name of the object, its pod, and the only container in it."""
    for one in of_kind(overlay, "Deployment", "Job"):
        pod = one["spec"]["template"]
        (container,) = pod["spec"]["containers"]
        yield one["metadata"]["name"], pod, container


def test_all_objects_follow_the_schemas_of_those_who_read_them() -> None:
    """Kubernetes, KEDA, the Prometheus operator; and what is wrong is found."""
    good = [one for overlay in OVERLAYS for one in rendered(overlay)]
    bad = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "label": {}}},
        {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "b"},
         "spec": {"scaleTargetRef": {"name": "x"}, "triggers": [], "maxReplicas": 3}},
        {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": {"name": "c"}, "spec": {}},
    ]  # fmt: skip
    found = found_by_others("kubernetes", [*good, *bad])
    assert [line.split()[1].partition(".")[0].rstrip(":") for line in found] == ["a", "b", "c"], found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_are_known_and_load_and_secrets_are_files(overlay: str, tmp_path: Path) -> None:
    shared = {one["metadata"]["name"]: one["data"] for one in of_kind(overlay, "ConfigMap")}
    for name, pod, container in containers(overlay):
        environment = dict(
            pair for source in container.get("envFrom", ()) for pair in shared[source["configMapRef"]["name"]].items()
        )
        environment |= {one["name"]: one["value"] for one in container["env"]}
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        (mount,) = [m for m in container["volumeMounts"] if m["mountPath"] == str(SECRETS)]
        assert volumes[mount["name"]]["secret"]["secretName"] == "bestbefore-secrets"
        for key, value in environment.items():
            if str(SECRETS) == str(Path(value).parent):
                (tmp_path / Path(value).name).write_text("secret")
                environment[key] = str(tmp_path / Path(value).name)
        loaded = settings.load(environment, tmp_path)
        if "BESTBEFORE_STORE" not in environment:
            assert name == "bestbefore-bridge"
            assert loaded.bridge_token == "secret"  # noqa: S105 -- of the file above
            continue
        url = parse_url(loaded.store)
        assert url.password == "secret", name  # noqa: S105 -- of the file above
        assert f"'{str(url.username).removeprefix('bestbefore')}'" in LOGINS_SH.read_text("utf-8")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_who_knows_the_secrets_knows_all_that_are_mounted(overlay: str) -> None:
    """The command of the documentation makes each file that a manifest names."""
    text = yaml.safe_dump_all(rendered(overlay))
    wanted = set(re.findall(rf"{SECRETS}/([\w.-]+)", text)) | set(re.findall(r"key: ([\w.-]+-token)", text))
    page = (DEPLOY.parents[1] / "docs" / "deployment.md").read_text("utf-8")
    assert wanted <= set(re.findall(r"--from-(?:file|literal)=([\w.-]+)=", page))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_and_ports_are_those_of_the_pages(overlay: str) -> None:
    assert set(Health._pages(Health.__new__(Health))) >= PAGES
    numbers = {"worker": Settings().web_port, "bridge": Settings().bridge_port}
    for name, _, container in containers(overlay):
        kind = next(iter(container["args"]))
        if kind not in numbers:
            assert "ports" not in container
            continue
        (port,) = container["ports"]
        assert port["containerPort"] == numbers[kind], name
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] == port["name"]
            assert asked["path"] == ("/ready" if probe == "readinessProbe" else "/live")
    policies = {one["metadata"]["name"]: one["spec"]["ingress"] for one in of_kind(overlay, "NetworkPolicy")}
    assert {name: [rule["ports"] for rule in rules] for name, rules in policies.items()} == {
        "bestbefore": [[{"protocol": "TCP", "port": numbers["worker"]}]],
        "bestbefore-bridge": [[{"protocol": "TCP", "port": numbers["bridge"]}]],
    }
    (service,) = of_kind(overlay, "Service")
    assert [one["port"] for one in service["spec"]["ports"]] == [numbers["bridge"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_commands_agents_and_images_exist(overlay: str) -> None:
    version = PROJECT["project"]["version"]
    for name, _, container in containers(overlay):
        image = container["image"].rpartition(":")[2]
        assert image in (version, f"{version}-gpu"), name
        if "command" in container:
            lines = [line.split() for line in container["args"][0].split("&&")]
            assert all(line[0] == "bestbefore" for line in lines)
            lines = [line[1:] for line in lines]
        else:
            lines = [container["args"]]
        for line in lines:
            known(line)
            for word in line:
                if word.startswith("--agents="):
                    assert set(word.partition("=")[2].split(",")) <= set(AGENTS)
    (job,) = of_kind(overlay, "Job")
    assert job["metadata"]["name"].endswith(version.replace(".", "-"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_may_more_than_it_needs(overlay: str) -> None:
    """As Pod Security's level `restricted` has it, and every one of them behind the network policy."""
    policy = next(one for one in of_kind(overlay, "NetworkPolicy") if one["metadata"]["name"] == "bestbefore")
    for name, pod, container in containers(overlay):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
        }  # fmt: skip
        assert {"memory"} <= set(container["resources"]["limits"])
        selects = policy["spec"]["podSelector"]["matchLabels"].items()
        assert selects <= pod["metadata"]["labels"].items(), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_select_the_pods_that_they_mean(overlay: str) -> None:
    labels = {name: pod["metadata"]["labels"].items() for name, pod, _ in containers(overlay)}
    for one in of_kind(overlay, "Deployment"):
        assert one["spec"]["selector"]["matchLabels"].items() <= labels[one["metadata"]["name"]]
    for one in of_kind(overlay, "PodDisruptionBudget", "PodMonitor"):
        selector = one["spec"]["selector"]["matchLabels"].items()
        chosen = {name for name, own in labels.items() if selector <= own}
        workers = {name for name in labels if name in ("bestbefore-worker", "bestbefore-embed")}
        meant = {"bestbefore": workers, "bestbefore-bridge": {"bestbefore-bridge"}}
        name = one["metadata"]["name"]
        assert chosen == ({"bestbefore-worker"} if one["kind"] == "PodDisruptionBudget" else meant[name])


def test_workers_scale_with_what_waits_up_to_the_partitions() -> None:
    (scaled,) = of_kind("production", "ScaledObject")
    deployments = {one["metadata"]["name"] for one in of_kind("production", "Deployment")}
    assert scaled["spec"]["scaleTargetRef"]["name"] in deployments
    (shared,) = [one for one in of_kind("production", "ConfigMap") if "BESTBEFORE_PARTITIONS" in one["data"]]
    assert scaled["spec"]["maxReplicaCount"] == int(shared["data"]["BESTBEFORE_PARTITIONS"])
    (trigger,) = scaled["spec"]["triggers"]
    assert "bestbefore_lag_records" in trigger["metadata"]["query"]
    assert f'namespace="{scaled["metadata"]["namespace"]}"' in trigger["metadata"]["query"]


def test_embedding_has_a_gpu_and_a_group_of_its_own() -> None:
    found = {name: (pod, container) for name, pod, container in containers("production")}
    (pod, embed), (_, worker) = found["bestbefore-embed"], found["bestbefore-worker"]
    assert embed["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["spec"]["nodeSelector"]
    agents = {word for one in (embed, worker) for word in one["args"] if word.startswith("--agents=")}
    told = [name for word in agents for name in word.removeprefix("--agents=").split(",")]
    assert sorted(told) == sorted(AGENTS)
    own = {one["name"]: one["value"] for one in embed["env"]}
    assert own["BESTBEFORE_GROUP"] != Settings().group
    assert own["BESTBEFORE_PROVIDER_POLICY"] == "require"


def test_what_is_scraped_and_called_is_what_prometheus_has_elsewhere() -> None:
    """The rules of the operator are those of rules.yml, and the job has the name that they look for."""
    (rules,) = of_kind("production", "PrometheusRule")
    assert rules["spec"]["groups"] == yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text("utf-8"))["groups"]
    monitor = next(one for one in of_kind("production", "PodMonitor") if one["metadata"]["name"] == "bestbefore")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] in PAGES
    _, pod, container = next(one for one in containers("production") if one[0] == "bestbefore-worker")
    assert pod["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "bestbefore"
    assert endpoint["port"] in {port["name"] for port in container["ports"]}
    boards = [
        one for one in of_kind("production", "ConfigMap") if "grafana_dashboard" in one["metadata"].get("labels", {})
    ]
    assert {name for one in boards for name in one["data"]} == {"fleet.json", "model.json", "operations.json"}


# -- without any tool ----------------------------------------------------------------------------------------


def test_every_file_is_named_by_a_kustomization_and_every_name_is_a_file() -> None:
    named = set()
    files = [*KUBERNETES.rglob("kustomization.yaml"), DEPLOY / "grafana" / "boards" / "kustomization.yaml"]
    for path in files:
        content = yaml.safe_load(path.read_text("utf-8"))
        generated = content.get("configMapGenerator", ())
        inside = [*content.get("resources", ()), *content.get("components", ())]
        inside += [name for one in generated for name in (*one.get("envs", ()), *one.get("files", ()))]
        for name in inside:
            found = (path.parent / name).resolve()
            assert found.exists(), f"{path}: {name}"
            named.add(found / "kustomization.yaml" if found.is_dir() else found)
    roots = {KUBERNETES / "overlays" / name / "kustomization.yaml" for name in OVERLAYS}
    assert {path for path in KUBERNETES.rglob("*") if path.is_file()} <= named | roots
