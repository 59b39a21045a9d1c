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
SEVERAL = {"enabled": True, "etcd": ["https://etcd-1.example:2379", "https://etcd-2.example:2379"], "secretName": "relay-cluster"}
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


def the_relay(made, name="ci-converge-relay"):
    """Its stateful set, its pod, the container in that, and the values of its variables; those of the pod's fields have none."""
    relay = made["StatefulSet", name]["spec"]
    pod = relay["template"]["spec"]
    (container,) = pod["containers"]
    return relay, pod, container, {variable["name"]: variable.get("value") for variable in container["env"]}


def refused(values, words):
    try:
        with helm.Chart.load(CHART) as chart:
            chart.render(values, name="ci")
    except helm.HelmError as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"{values} was rendered")


for values in (URL, URL | {"cluster": SEVERAL}):
    report = helm.lint(CHART, values, strict=True)
    assert not report["errors"] and all(message["severity"] <= 1 for message in report["messages"]), report

made = render(URL)
ports = made["Service", "ci-converge-relay"]["spec"]["ports"]
assert [(port["protocol"], port["port"]) for port in ports] == [("UDP", 4433), ("TCP", 4433)], ports
assert made["PodDisruptionBudget", "ci-converge-relay"]["spec"]["maxUnavailable"] == 1
relay, pod, container, environment = the_relay(made)
assert relay["replicas"] == 1 and pod["terminationGracePeriodSeconds"] == 30 and "affinity" not in pod
assert "lifecycle" not in container and not any("CLUSTER" in name or "ETCD" in name for name in environment)
assert "publishNotReadyAddresses" not in made["Service", "ci-converge-relay-internal"]["spec"]
for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
    assert container[probe]["httpGet"] == {"path": "/healthz", "port": "https", "scheme": "HTTPS"}
assert environment["CONVERGE_PUBLIC_URL"] == URL["publicUrl"] and "CONVERGE_CERT" not in environment
OUTPUT.write_text(made["ConfigMap", "ci-converge-relay"]["data"]["relay.toml"])

made = render(EVERYTHING)
for protocol in ("UDP", "TCP"):
    service = made["Service", f"ci-ssh-{protocol.lower()}"]["spec"]
    assert [port["protocol"] for port in service["ports"]] == [protocol], service
    assert service["loadBalancerIP"] == "192.0.2.7" and service["externalTrafficPolicy"] == "Local"
relay, pod, container, _ = the_relay(made, "ci-ssh")
mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
volumes = {volume["name"] for volume in pod["volumes"]} | {
    claim["metadata"]["name"] for claim in relay["volumeClaimTemplates"]}
assert set(mounts.values()) == volumes, (mounts, volumes)
assert {"/etc/converge/tls", "/etc/converge/secrets/tokens", "/etc/converge/secrets/client-ca"} <= mounts.keys()
assert {port["name"] for port in container["ports"]} == {"quic", "https", "http", "metrics"}
assert ("NetworkPolicy", "ci-ssh") in made
assert "http" in {port["name"] for port in made["Service", "ci-ssh-internal"]["spec"]["ports"]}

made = render(LEAST)
assert not any(kind == "PodDisruptionBudget" for kind, _ in made)
assert "externalTrafficPolicy" not in made["Service", "ci-converge-relay"]["spec"]

# Several relays as one.
made = render(URL | {"cluster": SEVERAL})
relay, pod, container, environment = the_relay(made)
assert relay["replicas"] == 3 and relay["podManagementPolicy"] == "Parallel" and relay["minReadySeconds"] > 0
# So long do agents that leave at a bounded rate take.
assert pod["terminationGracePeriodSeconds"] == 120
assert container["lifecycle"]["preStop"]["exec"]["command"] == ["/converge-relay", "drain"]
assert (Path(CHART) / "../../container/Containerfile").read_text().endswith('ENTRYPOINT ["/converge-relay"]\n')
assert {
    "CONVERGE_CLUSTER_DIR": "/etc/converge/cluster", "CONVERGE_CLUSTER_LISTEN": "[::]:4434",
    "CONVERGE_CLUSTER_ADDRESS": "$(POD_NAME).ci-converge-relay-internal.$(POD_NAMESPACE).svc:4434",
    "CONVERGE_CLUSTER_FORWARD_PACKETS": "true",
    "CONVERGE_ETCD": "https://etcd-1.example:2379,https://etcd-2.example:2379",
}.items() <= environment.items(), environment
assert not any(name.startswith("CONVERGE_ETCD_") for name in environment)
# Kubernetes puts in only what stands before.
names = list(environment)
assert max(names.index("POD_NAME"), names.index("POD_NAMESPACE")) < names.index("CONVERGE_CLUSTER_ADDRESS")
# A pod has its own files, under the names that the relay looks for, and no other relay's.
(mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "cluster"]
assert mount == {"name": "cluster", "mountPath": "/etc/converge/cluster", "subPathExpr": "$(POD_NAME)", "readOnly": True}
(secret,) = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "cluster"]
assert secret["secretName"] == "relay-cluster" and secret["defaultMode"] == 0o440
shared = ("ca.pem", "secret", "certificate.pem", "certificate.key")
wanted = [{"key": key, "path": f"ci-converge-relay-{ordinal}/{file}"} for ordinal in range(3) for key, file in (
    *zip(shared, shared), (f"relay-{ordinal + 1}.pem", "relay.pem"), (f"relay-{ordinal + 1}.key", "relay.key"))]
assert secret["items"] == wanted, secret["items"]
assert {"name": "cluster", "containerPort": 4434, "protocol": "UDP"} in container["ports"]
internal = made["Service", "ci-converge-relay-internal"]["spec"]
assert relay["serviceName"] == "ci-converge-relay-internal" and internal["clusterIP"] == "None"
assert internal["publishNotReadyAddresses"]
assert {"name": "cluster", "port": 4434, "targetPort": "cluster", "protocol": "UDP"} in internal["ports"]
assert "cluster" not in {port["name"] for port in made["Service", "ci-converge-relay"]["spec"]["ports"]}
(apart,) = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
assert apart["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
assert apart["podAffinityTerm"]["labelSelector"] == relay["selector"]

made = render(EVERYTHING | {"terminationGracePeriodSeconds": 300, "cluster": SEVERAL | {
    "replicas": 12, "port": 7000, "forwardPackets": False, "etcdTlsSecretName": "etcd-tls", "etcdTlsFiles": ["ca.crt"],
    "etcdUser": "relays", "etcdPasswordSecretName": "etcd-relays"}})
relay, pod, container, environment = the_relay(made, "ci-ssh")
assert relay["replicas"] == 12 and pod["terminationGracePeriodSeconds"] == 300
assert pod["affinity"] == EVERYTHING["affinity"]
assert environment["CONVERGE_CLUSTER_LISTEN"] == "[::]:7000" and environment["CONVERGE_CLUSTER_FORWARD_PACKETS"] == "false"
assert environment["CONVERGE_CLUSTER_ADDRESS"].endswith(".svc:7000")
# Only the files that are there, each where it is mounted.
assert {name: value for name, value in environment.items() if name.startswith("CONVERGE_ETCD_")} == {
    "CONVERGE_ETCD_CA": "/etc/converge/etcd-tls/ca.crt", "CONVERGE_ETCD_USER": "relays",
    "CONVERGE_ETCD_PASSWORD_FILE": "/etc/converge/etcd-password/password"}
items = {volume["name"]: volume["secret"].get("items") for volume in pod["volumes"] if "secret" in volume}
assert items["etcd-tls"] == [{"key": "ca.crt", "path": "ca.crt"}]
assert items["etcd-password"] == [{"key": "password", "path": "password"}]
assert len(items["cluster"]) == 72 and items["cluster"][-1] == {"key": "relay-12.key", "path": "ci-ssh-11/relay.key"}
mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
assert mounts["etcd-tls"] == "/etc/converge/etcd-tls" and mounts["etcd-password"] == "/etc/converge/etcd-password"
# Only relays come to the port for relays, and an ingress brings nobody to a relay that ends.
rules = made["NetworkPolicy", "ci-ssh"]["spec"]["ingress"]
(rule,) = [rule for rule in rules if {"port": "cluster", "protocol": "UDP"} in rule["ports"]]
assert rule == {"from": [{"podSelector": relay["selector"]}], "ports": [{"port": "cluster", "protocol": "UDP"}]}, rule
assert "http" not in {port["name"] for port in made["Service", "ci-ssh-internal"]["spec"]["ports"]}
assert "publishNotReadyAddresses" not in made["Service", "ci-ssh-http"]["spec"]

made = render(URL | {"cluster": SEVERAL | {"etcdTlsSecretName": "etcd-tls"}})
assert the_relay(made)[3]["CONVERGE_ETCD_CERT"] == "/etc/converge/etcd-tls/tls.crt"
assert the_relay(made)[3]["CONVERGE_ETCD_KEY"] == "/etc/converge/etcd-tls/tls.key"

for values, words in [
    ({"etcd": []}, "cluster.etcd says"),
    ({"etcd": ["etcd.example:2379"]}, "/cluster/etcd/0"),
    ({"etcd": ["https://root:secret@etcd.example"]}, "/cluster/etcd/0"),
    ({"secretName": ""}, "cluster.secretName is the secret"),
    ({"etcdUser": "relays"}, "cluster.etcdPasswordSecretName is the secret"),
    ({"replicas": 0}, "/cluster/replicas"),
    ({"replicas": 1001}, "/cluster/replicas"),
    ({"port": 4433}, "/cluster/port"),
    ({"etcdTlsFiles": ["ca.pem"]}, "/cluster/etcdTlsFiles/0"),
]:
    refused(URL | {"cluster": SEVERAL | values}, words)

refused(URL | {"publicUrl": ""}, "publicUrl")
# Nobody is to have an open relay by mistake.
refused({"publicUrl": URL["publicUrl"]}, "/config")
refused(URL | {"publicUrl": "relay.example"}, "publicUrl")
refused(URL | {"service": {"type": "LoadBalancer", "port": "4433"}}, "/service/port")
refused(URL | {"replicas": 2}, "replicas")
refused(URL | {"tls": {"secret": "x"}}, "secret")
print("all done")
