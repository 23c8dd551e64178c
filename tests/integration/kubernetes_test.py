#!/usr/bin/python3
"""deploy/kubernetes without a cluster: the overlays rendered by Debian's kubectl (and by this machine's, where it has one), each object held against the schemas of npm's
kubernetes-models, and what no schema knows: whom a selector meets, what a name refers to, whether goad takes the configuration. Then each of these is broken once and must be seen.

  kubernetes_test.py BUILD_DIR      Exit status 77 (with a loud line) where kubectl, npm or its registry cannot be had.
"""
import copy
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))
import npm
from device_rig import skip
from programs import check

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEPLOY = f"{ROOT}/deploy/kubernetes"
DOMAINS = sorted(os.listdir(f"{DEPLOY}/overlays"))


def debians_kubectl(folder):
    """kubectl 1.20, unpacked and not installed."""
    kubectl = f"{folder}/debian/usr/bin/kubectl"
    if not os.path.exists(kubectl):
        done = subprocess.run(["apt-get", "download", "kubernetes-client"], cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            skip("Debian's kubernetes-client cannot be had: deploy/kubernetes was not tested", done.stderr.strip()[-500:])
        deb, = glob.glob(f"{folder}/kubernetes-client_*.deb")
        subprocess.run(["dpkg-deb", "-x", deb, f"{folder}/debian"], check=True)
        os.remove(deb)
    return kubectl


class Reader:
    """YAML text to objects, and what the schemas say of them."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, text):
        done = subprocess.run(["node", "schemas.mjs"], cwd=self.folder, input=text, capture_output=True, text=True, check=True)
        result = json.loads(done.stdout)
        return result["objects"], result["problems"]


def render(kubectl, domain):
    return subprocess.run([kubectl, "kustomize", f"{DEPLOY}/overlays/{domain}"], capture_output=True, text=True, check=True).stdout


def rules(*runbook):
    return subprocess.run([f"{DEPLOY}/monitoring/prometheusrule.sh", *runbook], capture_output=True, text=True, check=True).stdout


def selector_of(o):
    """The pods that it means, or None where it means none."""
    spec = o.get("spec", {})
    if o["kind"] == "Service":
        return spec["selector"]
    if o["kind"] in ("StatefulSet", "PodDisruptionBudget", "PodMonitor"):
        return spec["selector"].get("matchLabels", {})
    if o["kind"] == "NetworkPolicy":
        return spec["podSelector"].get("matchLabels", {})
    return None


def named(objects, kind):
    return {o["metadata"]["name"]: o for o in objects if o["kind"] == kind}


def of_kind(objects, kind):
    return next(o for o in objects if o["kind"] == kind)


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text).group(1))


def overlay_problems(domain, objects, config, pods):
    """What is wrong with one overlay; `config` is its goad.yaml, `pods` the labels of the pods of every domain."""
    found = []

    def want(good, words):
        if not good:
            found.append(f"{domain}: {words}")

    def what(o):
        return f"{o['kind']} {o['metadata']['name']}"

    for o in objects:
        want(o["metadata"]["namespace"] == "goad", f"{what(o)} is in another namespace")
        selector = selector_of(o)
        for other, labels in pods.items():
            if selector is not None and matches(selector, labels) != (other == domain):
                want(False, f"{what(o)} {'misses its own pod' if other == domain else 'selects the pod of ' + other}")
    services, sets = named(objects, "Service"), named(objects, "StatefulSet")
    want(len(sets) == 1, "not one StatefulSet")
    (stateful,) = sets.values()
    pod = stateful["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listen, metrics = (int(config[part]["address"].rsplit(":", 1)[1]) for part in ("listen", "metrics"))
    want(stateful["spec"]["replicas"] == 1, "two goads would share its sites")
    want(stateful["spec"]["serviceName"] in services, "serviceName is no service")
    want(ports == {"grpc": listen, "metrics": metrics}, f"ports {ports}, but goad.yaml says {listen} and {metrics}")
    want(config["admin"]["address"].startswith("unix:"), "admin is on a port")
    for service in services.values():
        want([port["targetPort"] for port in service["spec"]["ports"]] == ["grpc"], f"{what(service)} leads elsewhere than to grpc")
        want(service["spec"].get("type") != "LoadBalancer" or service["spec"]["externalTrafficPolicy"] == "Local", f"{what(service)} hides devices' addresses")
    for policy in named(objects, "NetworkPolicy").values():
        into = [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
        want(sorted(into) == sorted((listen, metrics)), f"{what(policy)} lets in {into}")
        outside = [to["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for rule in policy["spec"]["egress"] for to in rule.get("to", [])]
        hosts = [re.match(r"http://[^.]+\.([^.]+)\.svc:", backend["url"]) for site in config["sites"] for backend in site["backends"]]
        want(all(host and host.group(1) in outside for host in hosts), f"{what(policy)} does not let goad out to its LLM servers")
    for budget in named(objects, "PodDisruptionBudget").values():
        want(budget["spec"].get("maxUnavailable") == 1, "a node with this pod can never be drained")
    want(pod["terminationGracePeriodSeconds"] > seconds(config["drain_timeout"]) + 5, "it is killed before its drain is over")
    probes = [container[probe] for probe in ("livenessProbe", "readinessProbe")]
    want(all("exec" in probe for probe in probes), "a probe that speaks no TLS")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes.get(mount["name"], {}) for mount in container["volumeMounts"]}
    want(mounts["/etc/goad"].get("configMap", {}).get("name") in named(objects, "ConfigMap"), "its ConfigMap is not there")
    want(mounts["/etc/goad-tls"].get("secret", {}).get("secretName") == f"{domain}-tls", "its certificate is another's")
    want(all(path.startswith("/etc/goad-tls/") for path in config["listen"]["tls"].values()), "a certificate that is not mounted")
    for route in named(objects, "TLSRoute").values():
        for parent in route["spec"]["parentRefs"]:
            gateway = named(objects, "Gateway").get(parent["name"], {"spec": {"listeners": []}})
            want(parent["sectionName"] in [listener["name"] for listener in gateway["spec"]["listeners"]], f"{what(route)} has no such gateway")
        for backend in (backend for rule in route["spec"]["rules"] for backend in rule["backendRefs"]):
            service = services.get(backend["name"], {"spec": {"ports": []}})
            want(backend["port"] in [port["port"] for port in service["spec"]["ports"]], f"{what(route)} leads to no service")
    return found


def problems(world):
    """What is wrong with all of it. `world`: overlays, configs (their goad.yaml) by domain, monitoring, and rules, what Prometheus reads of deploy/prometheus."""
    pods = {domain: of_kind(objects, "StatefulSet")["spec"]["template"]["metadata"]["labels"] for domain, objects in world["overlays"].items()}
    found = []
    for domain, objects in world["overlays"].items():
        found += overlay_problems(domain, objects, world["configs"][domain], pods)
    names = [(o["kind"], o["metadata"]["name"]) for objects in world["overlays"].values() for o in objects]
    found += [f"two domains have a {kind} {name}" for kind, name in set(names) if names.count((kind, name)) > 1]
    sites = [site["name"] for config in world["configs"].values() for site in config["sites"]]
    urls = [backend["url"] for config in world["configs"].values() for site in config["sites"] for backend in site["backends"]]
    found += [f"two goads schedule {what}" for what in set(sites + urls) if (sites + urls).count(what) > 1]
    (monitor,) = [o for o in world["monitoring"] if o["kind"] == "PodMonitor"]
    jobs = set(re.findall(r'job="([^"]*)"', json.dumps(world["rules"]).replace("\\", "")))
    for domain, labels in pods.items():
        if not matches(selector_of(monitor), labels):
            found.append(f"the PodMonitor misses the pod of {domain}")
        if {labels.get(monitor["spec"]["jobLabel"])} != jobs:
            found.append(f"the job of {domain} is not the alerts' {jobs}")
    if monitor["spec"]["podMetricsEndpoints"][0]["port"] != "metrics":
        found.append("the PodMonitor reads another port")
    made = [o["spec"]["groups"] for o in world["monitoring"] if o["kind"] == "PrometheusRule"]
    if made != [file["groups"] for file in world["rules"]]:
        found.append("the PrometheusRules are not those of deploy/prometheus")
    for groups in made:
        if len({group["name"] for group in groups}) != len(groups):
            found.append("two groups of one PrometheusRule have one name, which no API server takes")
    return found


def breaks():
    """(what to break in a world, words that must be said of it)."""
    first, second = DOMAINS[:2]

    def thing(world, kind, domain=first):
        return of_kind(world["overlays"][domain], kind)["spec"]

    def monitor(world):
        return of_kind(world["monitoring"], "PodMonitor")["spec"]

    def pod(world):
        return thing(world, "StatefulSet")["template"]["spec"]

    def volume(world, name):
        return next(one for one in pod(world)["volumes"] if one["name"] == name)

    instance = "app.kubernetes.io/instance"
    return [
        (lambda w: thing(w, "Service")["selector"].pop(instance), f"selects the pod of {second}"),
        (lambda w: thing(w, "StatefulSet")["selector"]["matchLabels"].pop(instance), f"selects the pod of {second}"),
        (lambda w: thing(w, "PodDisruptionBudget").update(selector={}), f"selects the pod of {second}"),
        (lambda w: thing(w, "NetworkPolicy").update(podSelector={}), f"selects the pod of {second}"),
        (lambda w: thing(w, "Service")["selector"].update({instance: second}), "misses its own pod"),
        (lambda w: thing(w, "Service", "north").update(type="LoadBalancer", externalTrafficPolicy="Cluster"), "hides devices' addresses"),
        (lambda w: thing(w, "StatefulSet").update(replicas=2), "two goads would share its sites"),
        (lambda w: pod(w)["containers"][0]["ports"][0].update(containerPort=7444), "but goad.yaml says"),
        (lambda w: w["configs"][first]["metrics"].update(address="0.0.0.0:9465"), "but goad.yaml says"),
        (lambda w: w["configs"][first]["admin"].update(address="0.0.0.0:7444"), "admin is on a port"),
        (lambda w: thing(w, "NetworkPolicy")["ingress"].append({"ports": [{"port": 22}]}), "lets in"),
        (lambda w: w["configs"][first]["sites"][0]["backends"][0].update(url="http://vllm.other.svc:8000"), "does not let goad out"),
        (lambda w: thing(w, "PodDisruptionBudget").update(maxUnavailable=0), "never be drained"),
        (lambda w: w["configs"][first].update(drain_timeout="60s"), "killed before its drain"),
        (lambda w: pod(w)["containers"][0].update(livenessProbe={"grpc": {"port": 7443}}), "speaks no TLS"),
        (lambda w: volume(w, "config")["configMap"].update(name="goad-config"), "ConfigMap is not there"),
        (lambda w: volume(w, "tls")["secret"].update(secretName="goad-tls"), "certificate is another's"),
        (lambda w: thing(w, "TLSRoute", "south")["parentRefs"][0].update(name="devices"), "no such gateway"),
        (lambda w: thing(w, "TLSRoute", "south")["rules"][0]["backendRefs"][0].update(name="goad-devices"), "leads to no service"),
        (lambda w: w["overlays"].update({second: copy.deepcopy(w["overlays"][first])}), "two domains have"),
        (lambda w: w["configs"].update({second: copy.deepcopy(w["configs"][first])}), "two goads schedule"),
        (lambda w: monitor(w).update(selector={"matchLabels": {instance: first}}), f"misses the pod of {second}"),
        (lambda w: monitor(w).update(jobLabel=instance), "is not the alerts'"),
        (lambda w: w["monitoring"][-1]["spec"]["groups"][0]["rules"].pop(), "not those of deploy/prometheus"),
        (lambda w: [file["groups"].append(file["groups"][0]) for file in w["rules"]] and
            [o["spec"]["groups"].append(o["spec"]["groups"][0]) for o in w["monitoring"] if o["kind"] == "PrometheusRule"], "one name"),
    ]


def schema_breaks(read, text):
    """Text that the schemas must refuse, and what they must name."""
    for old, new, words in (("replicas: 1", 'replicas: "1"', "replicas"), ("  replicas: 1", "  replica: 1", "replica is no field"),
                            ("volumeClaimTemplates: []", "volumeClaimTemplates: {metadata: {}}", "volumeClaimTemplates"),
                            ("readOnlyRootFilesystem", "readonlyRootFilesystem", "readonlyRootFilesystem is no field")):
        _, said = read(text.replace(old, new))
        check(old in text and words in " ".join(said), f"{new.strip()} is seen: {said}")


def goad_takes(build, text):
    """`goad --check` of the ConfigMap's own text, certificates from tests/data, sockets' folder from here."""
    with tempfile.TemporaryDirectory() as folder:
        for name, source in (("tls.crt", "server.pem"), ("tls.key", "server.key"), ("ca.crt", "ca.pem")):
            shutil.copy(f"{ROOT}/tests/data/tls/{source}", f"{folder}/{name}")
        with open(f"{folder}/goad.yaml", "w") as out:
            out.write(text.replace("/etc/goad-tls/", f"{folder}/").replace("unix:/run/goad/", f"unix:{folder}/"))
        done = subprocess.run([f"{build}/goad", "--config", f"{folder}/goad.yaml", "--check"], capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr


def main():
    build = os.path.abspath(sys.argv[1])
    folder = npm.install(f"{ROOT}/tests/integration/kubernetes", f"{build}/kubernetes", "deploy/kubernetes was not tested")
    read = Reader(folder)
    kubectls = [debians_kubectl(folder)] + ([shutil.which("kubectl")] if shutil.which("kubectl") else [])
    with open(f"{ROOT}/deploy/prometheus/rules.yml") as one, open(f"{ROOT}/deploy/prometheus/alerts.yml") as other:
        prometheus = [read(one.read())[0][0], read(other.read())[0][0]]
    with open(f"{DEPLOY}/monitoring/podmonitor.yaml") as monitor, open(f"{DEPLOY}/namespace.yaml") as namespace:
        monitoring, said = read(f"{monitor.read()}---\n{namespace.read()}{rules()}")
    check(not said, f"the monitoring is as the schemas want it {said}")
    with open(f"{DEPLOY}/autoscaling.md") as page:
        examples, said = read("---\n".join(re.findall(r"```yaml\n(apiVersion.*?)```", page.read(), re.S)))
    check(len(examples) == 1 and not said, f"autoscaling.md's example is as the schemas want it {said}")
    moved = read(rules("https://runbooks.example/goad"))[0]
    check("file:///" not in json.dumps(moved) and json.dumps(moved).count("https://runbooks.example/goad#") > 20, "the runbook's address is where one says")

    for kubectl in kubectls:
        texts = {domain: render(kubectl, domain) for domain in DOMAINS}
        world = {"overlays": {}, "configs": {}, "monitoring": monitoring, "rules": prometheus}
        for domain, text in texts.items():
            world["overlays"][domain], said = read(text)
            check(not said, f"{kubectl}: {domain}, {len(world['overlays'][domain])} objects as the schemas want them {said}")
            (config,) = of_kind(world["overlays"][domain], "ConfigMap")["data"].values()
            world["configs"][domain] = read(config)[0][0]
            good, words = goad_takes(build, config)
            check(good, f"goad takes the goad.yaml of {domain}" if good else words)
            check(not goad_takes(build, config.replace("drain_timeout", "drain_time"))[0], "and no other")
        found = problems(world)
        check(not found, f"{kubectl}: selectors, names, ports and rules fit {found}")
    schema_breaks(read, texts[DOMAINS[0]])
    for change, words in breaks():
        broken = copy.deepcopy(world)
        change(broken)
        found = problems(broken)
        check(any(words in one for one in found), f"broken, it is seen: {words}")


if __name__ == "__main__":
    main()
