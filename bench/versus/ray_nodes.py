"""Ray's figures for the rows of nodes_bench.py, out of two fresh nodes: python ray_nodes.py HOST ADDRESS HOST ADDRESS BYTES.

Each HOST is a network namespace, where a node of Ray's is started with `ray start`; the driver is beside the first, what it calls and
reads on the second. Prints "name<TAB>value". Run it with bounded.py, which gives it a scratch folder and ends what it leaves."""
import os
import secrets
import subprocess
import sys
import time

from ray_rows import per_second

PORT = 6379
WINDOW_S = 0.3 if "MANTA_BENCH_QUICK" in os.environ else 1.0
SMALL, SMALL_BYTES = 10_000, 10_000


def start(host, address, *more):
    ray = os.path.join(os.path.dirname(sys.executable), "ray")
    words = ["ip", "netns", "exec", host, ray, "start", f"--node-ip-address={address}", "--num-cpus=2",
             f"--object-store-memory={3 << 30}", *more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise SystemExit(f"`ray start` ended with {done.returncode}: {done.stdout[-400:]}{done.stderr[-1200:]}")


def drive(address, home, large_bytes):
    import numpy as np
    import ray

    @ray.remote(num_cpus=0, resources={f"node:{home}": 0.001})
    class Resident:
        def take(self, data):
            return len(data)

        def make(self, count, size):
            return [ray.put(np.full(size, 7, np.uint8)) for _ in range(count)]

    ray.init(address=address, log_to_driver=False)
    there, argument = Resident.remote(), b"x" * 64
    ray.get(there.take.remote(argument))

    def say(name, value):
        print(f"{name}\t{value:.9g}", flush=True)

    def read(count, size):
        made = ray.get(there.make.remote(count, size))
        begin = time.perf_counter()
        got = ray.get(made)
        taken = time.perf_counter() - begin
        if any(len(one) != size or one[-1] != 7 for one in got):
            raise SystemExit("an object is not what was put")
        del got, made
        time.sleep(1)  # it frees them meanwhile
        return taken

    say("async", per_second(lambda: ray.get([there.take.remote(argument) for _ in range(1000)]), 1000, WINDOW_S))
    say("sync", per_second(lambda: ray.get(there.take.remote(argument)), 1, WINDOW_S))
    for name, size in (("object_100mb", 100_000_000), ("object_1gib", large_bytes)):
        read(1, size)  # warms up its store
        say(name, size / 1e9 / read(1, size))
    say("small", read(SMALL, SMALL_BYTES))


def main(head, address, other, home, large_bytes):
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # encrypted it is not
    start(head, address, "--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={os.environ['PEER_SCRATCH']}/ray")
    start(other, home, f"--address={address}:{PORT}")
    words = ["ip", "netns", "exec", head, sys.executable, __file__, "drive", f"{address}:{PORT}", home, large_bytes]
    raise SystemExit(subprocess.run(words, check=False).returncode)


if __name__ == "__main__":
    if sys.argv[1] == "drive":
        drive(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main(*sys.argv[1:])
