"""Between the nodes of a cluster: Manta, iperf3 and Ray in turn, one table: python nodes_bench.py BUILD_DIR [ROW...].

As root each node has a network namespace of its own, and the cluster keys: calls inside CURVE, objects inside TLS 1.3, everybody come
by a join token. A second cluster without keys is on loopback, where alone Manta speaks in the clear. nodes_bench.cc is the driver.
PEERS names a folder whose v/bin/python has Ray (bench/README.md); what is missing is said and left out. MANTA_BENCH_ROUNDS (3),
MANTA_BENCH_QUICK=1 (one round, a sixteenth of the bytes), MANTA_BENCH_MARKDOWN=1."""
import contextlib
import json
import os
import pathlib
import re
import select
import shutil
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(sys.argv[1]).resolve()
os.environ["MANTA_BIN"] = str(BUILD / "bin")
os.environ.setdefault("MANTA_LOG_LEVEL", "warn")
sys.path[:0] = [str(HERE / "versus"), str(HERE.parent / "tests" / "cluster")]
import cluster  # noqa: E402
from table import number, print_lines, spread  # noqa: E402

QUICK = "MANTA_BENCH_QUICK" in os.environ
ROUNDS = int(os.environ.get("MANTA_BENCH_ROUNDS", "1" if QUICK else "3"))
GIB = (1 << 30) // (16 if QUICK else 1)
SIZE = "64 MiB" if QUICK else "1 GiB"
STREAM_S = 1 if QUICK else 2
LIMIT_S = 180  # for a row
RAY_LIMIT_S = 400  # for all of its rows
LINK = "rate 1gbit burst 512kb latency 50ms".split()
NODES = 5
HOME = 1  # nodes_bench.cc makes its objects there

# name, what it says, unit, goal, part of iperf3 that is the goal
ROWS = [
    ("async", "actor calls of 64 bytes, 1,000 then get all", "/s", 200_000, None),
    ("sync", "actor call, one at a time", "/s", 6_000, None),
    ("groups", "placement groups on 3 nodes, durable, made and removed", "/s", 1_000, None),
    ("object_100mb", "object of 100 MB, the second of two", "GB/s", None, None),
    ("object_1gib", f"object of {SIZE}, the second of two", "GB/s", None, 0.50),
    ("small", "10,000 objects of 10 KB", "s", 1.0, None),
    ("ahead", "64 calls of 10 ms, 8 MB of another node each", "s", None, None),
    ("clear_1gib", "  in the clear, loopback", "GB/s", None, 0.70),
    ("cast", f"{SIZE} to 4 nodes, links of 1 Gbit/s each", "x one", 1.6, None),
    ("cast_one", "  seconds, 1 node", "s", None, None),
    ("cast_four", "  seconds, 4 nodes", "s", None, None),
    ("cores", f"{SIZE} to 4 nodes, links without a limit: the cores are it", "x one", None, None),
    ("cores_rate", "  all four together", "GB/s", None, None),
]


class Driver:
    """nodes_bench.cc at the drivers' place of a cluster."""

    def __init__(self, where):
        env = where.environment() | {"MANTA_STORE_BYTES": str(3 << 30)}
        self.process = subprocess.Popen(where.words("bench_nodes", []), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def ask(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        row = " ".join(map(str, words))
        if not select.select([self.process.stdout], [], [], LIMIT_S)[0]:
            self.process.kill()
            raise SystemExit(f"nodes: `{row}` took more than {LIMIT_S} s")
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"nodes: the driver ended with {self.process.wait()} at `{row}`")
        return float(line.split("\t")[1])

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=LIMIT_S)


class Table:
    def __init__(self):
        self.manta, self.streams, self.ray = {}, {}, {}

    @staticmethod
    def add(side, name, figure):
        side.setdefault(name, []).append(figure)

    def line(self, name, title, unit, goal, part_goal):
        seen = statistics.median(self.manta[name])
        part = statistics.median(own / stream for own, stream in zip(self.manta[name], self.streams.get(name, []))) \
            if name in self.streams else None
        ratio = statistics.median(self.ray[name]) / seen if name in self.ray else None
        more = unit in ("/s", "GB/s")
        wanted = "-"
        if goal is not None:
            wanted = f"{'>=' if more else '<='} {number(goal)}" + (" !" if (seen < goal if more else seen > goal) else "")
        if part_goal is not None:
            wanted = f">= {part_goal:.2f} of it" + (" !" if part is not None and part < part_goal else "")
        return [title, unit, spread(self.manta.get(name)), wanted, spread(self.streams.get(name)),
                "-" if part is None else f"{part:.2f}", spread(self.ray.get(name)),
                "-" if ratio is None else number(1 / ratio if more else ratio)]

    def show(self):
        lines = [["least / median / most", "", "Manta", "goal", "iperf3", "part of it", "Ray", "times Ray"]]
        lines += [self.line(*row) for row in ROWS if row[0] in self.manta]
        print_lines(lines)


def leave_out(what):
    print("left out:", what, flush=True)


def stream_rate(client_prefix, servers):
    """GB/s that all TCP streams from the client's place have together, one to each server: (its place, address)."""
    with contextlib.ExitStack() as running:
        def start(prefix, *words):
            process = subprocess.Popen([*prefix, "iperf3", *words], stdout=subprocess.PIPE, text=True)
            running.callback(process.communicate)
            running.callback(process.kill)
            return process

        for prefix, address in servers:
            server = start(prefix, "-s", "-1", "-B", address, "--forceflush")
            next(line for line in server.stdout if "listening" in line)
        clients = [start(client_prefix, "-c", address, "-t", str(STREAM_S), "-J") for _, address in servers]
        said = [json.loads(client.communicate(timeout=60)[0]) for client in clients]
        return sum(each["end"]["sum_received"]["bits_per_second"] for each in said) / 8e9


def address_of(host):
    said = subprocess.run(["ip", "-n", host, "-4", "-o", "addr", "show", "eth0"], capture_output=True, text=True, check=True).stdout
    return re.search(r"inet ([\d.]+)/", said).group(1)


@contextlib.contextmanager
def limited(network):
    """Each node's link is of 1 Gbit/s, both ways."""
    links = [(host, "eth0") for host in network.hosts] + [(f"{network.name}-sw", f"p{i + 1}") for i in range(len(network.hosts))]
    change = lambda what, more: [  # noqa: E731
        subprocess.run(["ip", "netns", "exec", place, "tc", "qdisc", what, "dev", link, "root", *more], check=True) for place, link in links]
    change("add", ["tbf", *LINK])
    try:
        yield
    finally:
        change("del", [])


class Measured:
    """The clusters and their drivers; a round measures each side once, after one that only warms up."""

    def __init__(self, names, table):
        self.wants = lambda name: not names or name in names
        self.table = table
        self.stack = contextlib.ExitStack()
        self.ray = self.find_ray()
        self.has_streams = shutil.which("iperf3") is not None
        if not self.has_streams:
            leave_out("what iperf3 gives: it is not installed")

    def __enter__(self):
        flags = ["--store-bytes", str(3 << 30)]
        places = [f"place={i}" for i in range(NODES)]
        if any(map(self.wants, (row[0] for row in ROWS if row[0] != "clear_1gib"))):
            self.locked = self.stack.enter_context(cluster.Cluster(nodes=NODES, cpus=1, flags=flags, labels=places))
            self.driver = Driver(self.locked)
            self.stack.callback(self.driver.end)
            self.network = self.locked.network
        if self.wants("clear_1gib"):
            clear = self.stack.enter_context(cluster.Cluster(nodes=2, cpus=1, flags=flags, labels=places[:2], keys=False))
            self.clear = Driver(clear)
            self.stack.callback(self.clear.end)
        return self

    def __exit__(self, *error):
        self.stack.__exit__(*error)

    def find_ray(self):
        python = f"{os.environ.get('PEERS')}/v/bin/python"
        if not os.access(python, os.X_OK):
            return leave_out("Ray: PEERS names no environment with it (bench/README.md says how to make one)")
        if not cluster.may_make_networks():
            return leave_out("Ray: its two nodes need network namespaces, and those root")
        return python

    def round(self, counts):
        for side in (self.calls, self.objects, self.in_the_clear, self.cast, self.beside):
            for name, figures in side(counts):
                if counts:
                    for table, figure in figures.items():
                        Table.add(getattr(self.table, table), name, figure)

    def calls(self, _):
        for name in filter(self.wants, ("async", "sync", "groups")):
            yield name, {"manta": self.driver.ask(name)}

    def stream(self, prefix_from, *servers):
        return {"streams": stream_rate(prefix_from, servers)} if self.has_streams else {}

    def place(self, index):
        """How to run something at that node, or at the drivers' place, which is the last; and the address there."""
        host = self.network.hosts[index]
        return ["ip", "netns", "exec", host], address_of(host)

    def objects(self, _):
        for name, size in (("object_100mb", 100_000_000), ("object_1gib", GIB)):
            if self.wants(name):
                beside = self.stream(self.place(HOME)[0], self.place(-1)) if self.network else {}
                yield name, {"manta": size / 1e9 / self.driver.ask("object", size)} | beside
        for name in filter(self.wants, ("small", "ahead")):
            yield name, {"manta": self.driver.ask(name)}

    def in_the_clear(self, _):
        if self.wants("clear_1gib"):
            yield "clear_1gib", self.stream([], ([], "127.0.0.1")) | {"manta": GIB / 1e9 / self.clear.ask("object", GIB)}

    def one_and_four(self):
        return self.driver.ask("cast", GIB, 1), self.driver.ask("cast", GIB, 4)

    def on_the_cores(self):
        """Manta, and plain streams without a store or keys: what two cores do for five nodes at best."""
        one, four = self.one_and_four()
        yield "cores", {"manta": four / one}
        yield "cores_rate", {"manta": 4 * GIB / 1e9 / four}
        if self.has_streams and self.network:
            places = [self.place(index) for index in range(NODES)]
            home, *others = places[HOME], *places[:HOME], *places[HOME + 1:]
            alone, together = stream_rate(home[0], others[:1]), stream_rate(home[0], others)
            yield from (("cores", {"streams": 4 * alone / together}), ("cores_rate", {"streams": together}))

    def cast(self, counts):
        if self.wants("cores"):
            self.driver.ask("cast", GIB, 4)  # a store gives memory back when it was idle for 10 s: only for that which follows
            yield from self.on_the_cores()
        if self.wants("cast") and counts and self.network:
            with limited(self.network):
                one, four = self.one_and_four()
            yield from (("cast", {"manta": four / one}), ("cast_one", {"manta": one}), ("cast_four", {"manta": four}))

    def beside(self, counts):
        if not self.ray or not counts:
            return
        network = cluster.Network()
        try:
            hosts = [network.add_host() for _ in range(2)]
            words = [self.ray, str(HERE / "versus" / "ray_nodes.py"), *(word for host in hosts for word in host), str(GIB)]
            bounded = subprocess.Popen([sys.executable, str(HERE / "versus" / "bounded.py"), str(RAY_LIMIT_S), *words],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            try:
                said, complaints = bounded.communicate()
            finally:
                bounded.terminate()  # on Ctrl-C it still ends what it has started
                bounded.wait()
            for line in said.splitlines():
                name, tab, figure = line.partition("\t")
                if tab and self.wants(name):  # Ray says other things, too
                    yield name, {"ray": float(figure)}
            if bounded.returncode != 0:
                print("failed: Ray", " ".join(complaints.split()), flush=True)
        finally:
            network.close()


def main(*names):
    unknown = set(names) - {row[0] for row in ROWS}
    if unknown:
        raise SystemExit(f"nodes: there is no row {', '.join(sorted(unknown))}; there are: {' '.join(row[0] for row in ROWS)}")
    table = Table()
    if not cluster.may_make_networks():
        leave_out("namespaces, and with them links of a set rate: they need root. All nodes are on loopback, with keys")
    try:
        with Measured(names, table) as measured:
            for index in range(ROUNDS + 1):
                print("warming up" if index == 0 else f"round {index} of {ROUNDS}", file=sys.stderr, flush=True)
                measured.round(counts=index > 0)
    finally:  # what was measured before something failed is worth its minutes
        table.show()


main(*sys.argv[2:])
