"""One cluster of many nodes on this machine: how fast it forms, what it takes at rest, how it stands a load.

    cluster_bench.py BUILD_DIR [NODES [DEMANDS]]

Every node is a mantad of one logical CPU with keys; the head's node is one of them. MANTA_BENCH_MARKDOWN=1 prints a table for a
document."""
import json
import os
import pathlib
import re
import statistics
import sys
import time

BUILD = pathlib.Path(sys.argv[1]).resolve()
os.environ["MANTA_BIN"] = str(BUILD / "bin")
os.environ.setdefault("MANTA_LOG_LEVEL", "warn")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "cluster"))
from cluster import Cluster  # noqa: E402

NODES = int(sys.argv[2]) if len(sys.argv) > 2 else 100
DEMANDS = int(sys.argv[3]) if len(sys.argv) > 3 else 100_000
TASKS = 10_000
REST_S = 10
ROUNDS = 21
TICKS = os.sysconf("SC_CLK_TCK")
MARKDOWN = os.environ.get("MANTA_BENCH_MARKDOWN") == "1"


def row(what, figures, unit, goal=None):
    """`figures` are one, or those of several rounds."""
    figures = sorted(figures) if isinstance(figures, list) else [figures]
    median = statistics.median(figures)
    digits = lambda value: f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    seen = digits(median) if len(figures) == 1 else " / ".join(map(digits, (figures[0], median, figures[-1])))
    wanted = "-" if goal is None else f"<= {goal:g}" + (" !" if median > goal else "")
    print(f"| {what} | {seen} {unit} | {wanted} |" if MARKDOWN else f"{what:<62}{seen + ' ' + unit:>30}   {wanted}", flush=True)


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def kib(pid, file, key):
    return int(re.search(rf"^{key}:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/{file}").read_text(), re.M).group(1))


def rss_mb(pid):
    return kib(pid, "status", "VmRSS") * 1024 / 1e6


def pss_mb(pid):
    return kib(pid, "smaps_rollup", "Pss") * 1024 / 1e6


class Measured:

    def __init__(self, cluster):
        self.cluster = cluster
        self.head = cluster.head.process.pid
        self.others = [node.process.pid for node in cluster.nodes if node is not cluster.head]
        self.viewer = cluster.visitor("viewer")

    def status(self):
        """What it says, and how many milliseconds the whole command took."""
        start = time.monotonic()
        said = self.viewer.ask("status", "-o", "json")
        return json.loads(said), (time.monotonic() - start) * 1e3

    def wait_for(self, what):
        """Until `what` holds of the status; how many milliseconds each took on the way there."""
        took = []
        while True:
            status, ms = self.status()
            took.append(ms)
            if what(status):
                return took
            time.sleep(0.1)

    def rest(self, what):
        head, others = cpu_s(self.head), sum(map(cpu_s, self.others))
        time.sleep(REST_S)
        row(f"head {what}, part of a core", (cpu_s(self.head) - head) / REST_S * 100, "%", 5)
        row("  its memory (RSS)", rss_mb(self.head), "MB", 200)
        return (sum(map(cpu_s, self.others)) - others) / REST_S * 100

    def tasks(self):
        done = self.cluster.run("cluster-many", TASKS, NODES, self.cluster.folder, timeout_s=300)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        for line in done.stdout.splitlines():
            what, seconds = re.fullmatch(r"(.*) in ([\d.]+) s", line).groups()
            row(what, float(seconds), "s")

    def demands(self, what, cpus, count):
        start = time.monotonic()
        program = self.cluster.start_program("cluster-demands", DEMANDS, cpus)
        on_the_way = self.wait_for(lambda status: count(status) >= DEMANDS - (NODES if cpus else 0))
        row(f"{DEMANDS} demands, {what}", time.monotonic() - start, "s")
        row("  `manta status` on the way there", on_the_way, "ms")
        row("  `manta status` with them", [self.status()[1] for _ in range(ROUNDS)], "ms", 100)
        self.rest("with them")
        start = time.monotonic()
        program.end()
        going = self.wait_for(lambda status: count(status) == 0 and status["counts"].get("actors.pending", 0) == 0)
        row("  their program killed: until they are gone", time.monotonic() - start, "s")
        row("  `manta status` meanwhile", going, "ms")


def main():
    start = time.monotonic()
    small = ["--store-bytes", str(16 << 20), "--store-warm-bytes", "0", "--memory", str(1 << 30)]
    with Cluster(nodes=NODES, cpus=1, flags=small, namespaces=False) as cluster:
        it = Measured(cluster)
        it.wait_for(lambda status: status["counts"].get("nodes.alive") == NODES)
        if MARKDOWN:
            print("| operation | least / median / most | goal |\n|---|---|---|")
        row(f"{NODES} nodes: keys, tokens, all started and joined", time.monotonic() - start, "s", 20)
        time.sleep(1)
        others = it.rest("at rest")
        row("  the other nodes together, parts of a core", others, "%")
        row("  memory of each (PSS)", [pss_mb(pid) for pid in it.others], "MB")
        row("`manta status` at rest", [it.status()[1] for _ in range(ROUNDS)], "ms")
        it.tasks()
        it.demands("kept by the head", 0, lambda status: status["counts"].get("actors.waiting_for_room", 0))
        it.demands("kept by the nodes", 1, lambda status: sum(int(node["waiting"]) for node in status["nodes"]))


main()
