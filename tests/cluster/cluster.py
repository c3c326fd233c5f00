"""A cluster for tests: mantads on this machine, each in a network namespace of its own where that is allowed."""
import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

BIN = pathlib.Path(os.environ["MANTA_BIN"])
DEADLINE_S = 60


def wait_until(check, timeout_s=DEADLINE_S):
    """What `check` says as soon as that is true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if (found := check()):
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {check()}")


class Node:
    """One mantad. `said` is the file with what it printed."""

    def __init__(self, arguments, folder, prefix=(), env=None):
        folder.mkdir(parents=True)
        self.arguments = list(arguments)
        self.folder = folder
        self.said = folder / "said.txt"
        self.prefix = list(prefix)
        with open(self.said, "w") as out:
            self.process = subprocess.Popen(
                self.prefix + [str(BIN / "mantad"), "--session-dir", str(folder / "session"), *map(str, arguments)],
                stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env={"MANTA_LOG_LEVEL": "debug", **os.environ, "MANTA_LOG_DIR": str(folder), **(env or {})})

    def wait_for(self, text, timeout_s=DEADLINE_S):
        """The rest of the line that begins with `text`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for line in self.said.read_text().splitlines():
                if line.startswith(text):
                    return line[len(text):].strip()
            if self.process.poll() is not None:
                raise AssertionError(f"mantad ended with {self.process.returncode}: {self.said.read_text()}")
            time.sleep(0.02)
        raise AssertionError(f"mantad did not say '{text}' within {timeout_s} s: {self.said.read_text()}")

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        return self.process.wait(timeout=DEADLINE_S)


class Program:
    """A driver that runs; what it prints on either stream goes to a file."""

    def __init__(self, words, said, env):
        self.said = said
        with open(said, "w") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env)

    def wait_for(self, text, timeout_s=DEADLINE_S):
        """The first line with `text` in it."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for line in self.said.read_text(errors="replace").splitlines():
                if text in line:
                    return line
            if self.process.poll() is not None and text not in self.said.read_text(errors="replace"):
                raise AssertionError(f"the program ended with {self.process.returncode}: {self.said.read_text()}")
            time.sleep(0.02)
        raise AssertionError(f"the program did not say '{text}' within {timeout_s} s: {self.said.read_text()}")

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(timeout=DEADLINE_S)


class Visitor:
    """Somebody at the drivers' place who runs `manta`."""

    def __init__(self, cluster, keys=None, token=None):
        self.prefix = cluster.driver_prefix
        self.keys = keys
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("MANTA_")}
        self.environment["MANTA_ADDRESS"] = cluster.address
        if keys is not None:
            self.environment |= {"MANTA_KEYS": str(keys), "MANTA_JOIN_TOKEN": str(token)}

    def run(self, *words, timeout_s=DEADLINE_S):
        return subprocess.run([*self.prefix, str(BIN / "manta"), *map(str, words)], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, env=self.environment, timeout=timeout_s)

    def ask(self, *words, **settings):
        done = self.run(*words, **settings)
        if done.returncode != 0:
            raise AssertionError(f"manta {' '.join(map(str, words))} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def rows(self, *words):
        return json.loads(self.ask("list", *words, "-o", "json"))["rows"]


class Network:
    """Namespaces joined by a bridge in one of their own: a machine each, as far as sockets go."""

    count = 0

    def __init__(self):
        Network.count += 1
        self.name = f"mt{os.getpid() % 100000}-{Network.count}"
        self.hosts = []
        try:
            self.ip("netns", "add", f"{self.name}-sw")
            self.ip("-n", f"{self.name}-sw", "link", "add", "br0", "type", "bridge")
            self.ip("-n", f"{self.name}-sw", "link", "set", "br0", "up")
        except subprocess.CalledProcessError:
            self.close()
            raise

    @staticmethod
    def ip(*words):
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def add_host(self):
        """Its namespace and address."""
        number = len(self.hosts) + 1
        host, switch = f"{self.name}-{number}", f"{self.name}-sw"
        self.ip("netns", "add", host)
        self.hosts.append(host)
        self.ip("link", "add", "eth0", "netns", host, "type", "veth", "peer", "name", f"p{number}", "netns", switch)
        self.ip("-n", switch, "link", "set", f"p{number}", "master", "br0", "up")
        self.ip("-n", host, "addr", "add", f"10.99.0.{number}/24", "dev", "eth0")
        self.ip("-n", host, "link", "set", "eth0", "up")
        self.ip("-n", host, "link", "set", "lo", "up")
        return host, f"10.99.0.{number}"

    def close(self):
        for host in [*self.hosts, f"{self.name}-sw"]:
            subprocess.run(["ip", "netns", "del", host], capture_output=True)


@functools.cache
def may_make_networks():
    """Whether namespaces with a bridge between them can be made here: root, the tools, and a kernel that allows it."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    network = None
    try:
        network = Network()
        network.add_host()
        return True
    except subprocess.CalledProcessError:
        return False
    finally:
        if network is not None:
            network.close()


class Cluster:
    """A head and `nodes - 1` more nodes, and a place for drivers. Each in a network namespace of its own, with keys, where that
    is allowed and `namespaces` asks for it; else (or with `keys=False`) on loopback. `labels` are those of the first nodes,
    one text each."""

    def __init__(self, nodes=3, cpus=1, flags=(), keys=True, labels=(), head_cpus=None, namespaces=True):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="manta-cluster-"))
        self.flags = ["--cpus", str(cpus), "--store-bytes", str(1 << 30), *flags]
        self.labels = list(labels)
        self.head_flags = [] if head_cpus is None else ["--cpus", str(head_cpus)]
        self.nodes = []
        self.programs = []
        self.count = 0
        self.network = None
        self.keys = self.folder / "keys" if keys else None
        try:
            if keys:
                self.manta("keys", "create", "--keys", self.keys)
                if namespaces and may_make_networks():
                    self.network = Network()
            self.head = self.start_head()
            for _ in range(nodes - 1):
                self.add()
            for node in self.nodes[1:]:
                node.wait_for("mantad: joined ")
            self.driver_prefix, self.driver_env = self.make_place("driver", "driver")
        except BaseException:
            self.close()
            raise

    def manta(self, *words):
        return subprocess.run([str(BIN / "manta"), *map(str, words)], check=True, capture_output=True, text=True).stdout

    def make_place(self, role, number):
        """Where a node or driver lives: the words before its program, and the environment that brings it in."""
        prefix, address = [], "127.0.0.1"
        if self.network is not None:
            host, address = self.network.add_host()
            prefix = ["ip", "netns", "exec", host]
        env = {"MANTA_LISTEN": f"tcp://{address}:*", "MANTA_ADDRESS": getattr(self, "address", "")}
        if self.keys is not None and role != "head":
            token = self.folder / f"token-{number}"
            self.manta("token", "create", "--keys", self.keys, "--head", self.address, "--role", role, "--out", token)
            env |= {"MANTA_KEYS": str(self.folder / f"keys-{number}"), "MANTA_JOIN_TOKEN": str(token)}
        return prefix, env

    def start(self, prefix, *arguments, last=()):
        own = ["--labels", self.labels[self.count]] if self.count < len(self.labels) else []
        node = Node([*arguments, *self.flags, *own, *last], self.folder / f"node-{self.count}", prefix,
                    env={"MANTA_TEST_NODE": str(self.count)})
        self.count += 1
        self.nodes.append(node)
        return node

    def start_head(self):
        self.head_prefix, env = self.make_place("head", 0)
        head = self.start_head_at(env["MANTA_LISTEN"])
        self.address = head.wait_for("mantad: the head listens on ")
        return head

    def start_head_at(self, listen):
        keys = ["--keys", self.keys] if self.keys is not None else []
        return self.start(self.head_prefix, "--head", "--listen", listen, "--state-dir", self.folder / "state", *keys,
                          last=self.head_flags)

    def restart_head(self, pause_s=1.5):
        """Kills the head and starts it again with what it has written."""
        self.head.kill(signal.SIGKILL)
        time.sleep(pause_s)
        self.head = self.start_head_at(self.address)
        self.head.wait_for("mantad: the head listens on ")

    def add(self):
        prefix, env = self.make_place("node", self.count)
        keys = ["--keys", env["MANTA_KEYS"], "--join-token", env["MANTA_JOIN_TOKEN"]] if self.keys is not None else []
        return self.start(prefix, "--address", self.address, "--listen", env["MANTA_LISTEN"], *keys)

    def restart(self):
        """Ends every mantad and starts it again, at the same places and with what its keys folder holds."""
        for node in reversed(self.nodes):
            node.kill(signal.SIGTERM)
        old, self.nodes = self.nodes, []
        for node in old:
            words = [word for word in node.arguments if word != "--join-token"]
            words = [word for word in words if not str(word).startswith(str(self.folder / "token-"))]
            if "--head" in words:
                words[words.index("--listen") + 1] = self.address
            again = Node(words, self.folder / f"node-{self.count}", node.prefix)
            self.count += 1
            self.nodes.append(again)
            again.wait_for("mantad: the head listens on " if "--head" in words else "mantad: joined ")

    def environment(self):
        env = {**os.environ, **self.driver_env, "MANTA_MANTAD": str(BIN / "mantad")}
        self.driver_env.pop("MANTA_JOIN_TOKEN", None)  # good for once; afterwards its key is known
        return env

    def words(self, program, arguments):
        return [*self.driver_prefix, str(BIN / program), *map(str, arguments)]

    def run(self, program, *arguments, timeout_s=DEADLINE_S):
        """Runs a driver against the cluster; its finished process, with what it printed."""
        return subprocess.run(self.words(program, arguments), capture_output=True, text=True, timeout=timeout_s,
                              env=self.environment())

    def start_program(self, program, *arguments):
        self.count += 1
        self.programs.append(
            Program(self.words(program, arguments), self.folder / f"program-{self.count}.txt", self.environment()))
        return self.programs[-1]

    def start_graph(self, tasks, *sizes, retries=3):
        """A graph of at least so many tasks that goes on until its `end_file` is touched."""
        end_file = self.folder / f"program-{self.count}.end"
        program = self.start_program("cluster-graph", tasks, 3, *sizes, retries, end_file)
        program.end_file = end_file
        return program

    def visitor(self, role):
        """Somebody with a token of this role, at the drivers' place: what runs `manta` as him."""
        self.count += 1
        token = self.folder / f"visitor-{self.count}.token"
        keys = self.folder / f"visitor-{self.count}"
        self.manta("token", "create", "--keys", self.keys, "--head", self.address, "--role", role, "--out", token)
        return Visitor(self, keys, token)

    def log_of(self, node):
        return "".join(path.read_text(errors="replace") for path in node.folder.glob("mantad-*.log"))

    def logs(self):
        text = ""
        for path in sorted(self.folder.glob("node-*/*")):
            if path.is_file():
                text += f"--- {path}\n" + path.read_text(errors="replace")[-4000:]
        return text

    def close(self):
        for program in self.programs:  # those of a test that failed
            if program.process.poll() is None:
                program.end(signal.SIGKILL)
        for node in reversed(self.nodes):
            if node.process.poll() is None:
                node.process.terminate()
        for node in self.nodes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.process.wait(timeout=10)
            if node.process.poll() is None:
                node.process.kill()
                node.process.wait()
        if self.network is not None:
            self.network.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
