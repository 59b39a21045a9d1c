"""Renders the Helm chart with Helm's own engine and holds what comes out against Kubernetes' schemas.

usage: chart.py CHART OUTPUT; writes the configuration of the relay into OUTPUT
"""

import sys
from pathlib import Path

import helm_python as helm
import kubernetes_validate
import yaml

CHART, OUTPUT = sys.argv[1], Path(sys.argv[2])
CONFIG = (Path(CHART) / "../../relay.toml").read_text()
URL = {"publicUrl": "https://relay.example:4433", "config": CONFIG}
EVERYTHING = URL | {
    "nameOverride": "ssh",
    "image": {"repository": "registry.example/converge-relay", "tag": "1.2.3", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "config": "[log]\nlog = \"debug\"\n",
    "tls": {"secretName": "relay-tls"},
    "secretFiles": ["tokens", "client-ca"],
    "service": {"type": "LoadBalancer", "port": 443, "split": True, "loadBalancerIP": "192.0.2.7",
                "loadBalancerSourceRanges": ["192.0.2.0/24"], "annotations": {"cloud.example/ip": "shared"}},
    "http": {"enabled": True, "port": 8080},
    "metrics": {"enabled": True, "port": 9090},
    "persistence": {"enabled": True, "size": "1Gi", "storageClassName": "fast"},
    "networkPolicy": {"enabled": True},
    "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "ci", "operator": "Exists"}], "priorityClassName": "high",
    "affinity": {"nodeAffinity": {}},
}
LEAST = URL | {
    "service": {"type": "ClusterIP", "port": 4433}, "persistence": {"enabled": False},
    "podDisruptionBudget": {"enabled": False},
}


def render(values):
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name="ci", namespace="tools")
    assert "{{" not in "".join(files.values())
    objects = [made for name, text in files.items() if name.endswith(".yaml") for made in yaml.safe_load_all(text) if made]
    for made in objects:
        # Strict: a field that Kubernetes does not know is an error.
        for version in ("1.28", "1.33"):
            kubernetes_validate.validate(made, version, strict=True)
    return {(made["kind"], made["metadata"]["name"]): made for made in objects}


def refused(values, words):
    try:
        with helm.Chart.load(CHART) as chart:
            chart.render(values, name="ci")
    except helm.HelmError as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"{values} was rendered")


report = helm.lint(CHART, URL, strict=True)
assert not report["errors"] and all(message["severity"] <= 1 for message in report["messages"]), report

made = render(URL)
ports = made["Service", "ci-converge-relay"]["spec"]["ports"]
assert [(port["protocol"], port["port"]) for port in ports] == [("UDP", 4433), ("TCP", 4433)], ports
assert made["PodDisruptionBudget", "ci-converge-relay"]["spec"]["maxUnavailable"] == 1
(container,) = made["StatefulSet", "ci-converge-relay"]["spec"]["template"]["spec"]["containers"]
for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
    assert container[probe]["httpGet"] == {"path": "/healthz", "port": "https", "scheme": "HTTPS"}
environment = {variable["name"]: variable["value"] for variable in container["env"]}
assert environment["CONVERGE_PUBLIC_URL"] == URL["publicUrl"] and "CONVERGE_CERT" not in environment
OUTPUT.write_text(made["ConfigMap", "ci-converge-relay"]["data"]["relay.toml"])

made = render(EVERYTHING)
for protocol in ("UDP", "TCP"):
    service = made["Service", f"ci-ssh-{protocol.lower()}"]["spec"]
    assert [port["protocol"] for port in service["ports"]] == [protocol], service
    assert service["loadBalancerIP"] == "192.0.2.7" and service["externalTrafficPolicy"] == "Local"
relay = made["StatefulSet", "ci-ssh"]["spec"]
pod = relay["template"]["spec"]
(container,) = pod["containers"]
mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
volumes = {volume["name"] for volume in pod["volumes"]} | {
    claim["metadata"]["name"] for claim in relay["volumeClaimTemplates"]}
assert set(mounts.values()) == volumes, (mounts, volumes)
assert {"/etc/converge/tls", "/etc/converge/secrets/tokens", "/etc/converge/secrets/client-ca"} <= mounts.keys()
assert {port["name"] for port in container["ports"]} == {"quic", "https", "http", "metrics"}
assert ("NetworkPolicy", "ci-ssh") in made

made = render(LEAST)
assert not any(kind == "PodDisruptionBudget" for kind, _ in made)
assert "externalTrafficPolicy" not in made["Service", "ci-converge-relay"]["spec"]

refused(URL | {"publicUrl": ""}, "publicUrl")
# Nobody is to have an open relay by mistake.
refused({"publicUrl": URL["publicUrl"]}, "/config")
refused(URL | {"publicUrl": "relay.example"}, "publicUrl")
refused(URL | {"service": {"type": "LoadBalancer", "port": "4433"}}, "/service/port")
refused(URL | {"replicas": 2}, "replicas")
refused(URL | {"tls": {"secret": "x"}}, "secret")
print("all done")
