"""Ray's figures for the rows of versus.py, out of one fresh node: python ray_rows.py calls|first_put|idle|start [WAIT_S WINDOW_S].

Prints "name<TAB>value<TAB>unit". The node is Ray's own local one with as many CPUs as the machine has and no dashboard; actors claim no CPU,
so that callers and callees have room. Each rate is taken over a window after a warm-up of a third of it."""
import os
import sys
import time

import numpy as np
import ray

CORES = os.cpu_count() or 1


@ray.remote
def add(a, b):
    return a + b


@ray.remote
def megabyte():
    return np.ones(131_072)


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self):
        self.n = 0

    def add(self, by):
        self.n += by
        return self.n

    def take(self, text):
        return len(text)


@ray.remote(num_cpus=0)
class Caller:
    def __init__(self, targets):
        self.targets = targets

    def drive(self, calls, by_ref):
        argument = ray.put(1) if by_ref else 1
        ray.get([self.targets[i % len(self.targets)].add.remote(argument) for i in range(calls)])


def say(name, value, unit):
    print(f"{name}\t{value:.9g}\t{unit}", flush=True)


def per_second(work, count, window_s):
    """`count` things a call of `work`; how many a second."""
    warm_until = time.perf_counter() + window_s / 3
    work()
    while time.perf_counter() < warm_until:
        work()
    calls, start = 0, time.perf_counter()
    while True:
        work()
        calls += 1
        seconds = time.perf_counter() - start
        if seconds >= window_s:
            return calls * count / seconds


def wait_one_by_one():
    pending = [add.remote(i, 1) for i in range(1000)]
    while pending:
        _, pending = ray.wait(pending, num_returns=1)


def calls(window_s):
    counter, one, small, text = Counter.remote(), ray.put(1), ray.put(1), b"x" * 100_000
    mebi = ray.put(np.ones(131_072))
    rate = lambda name, work, count=1: say(name, per_second(work, count, window_s), "/s")  # noqa: E731
    rate("tasks_batch", lambda: ray.get([add.remote(i, 1) for i in range(1000)]), 1000)
    rate("task_sync", lambda: ray.get(add.remote(1, 1)))
    rate("task_1mb", lambda: ray.get(megabyte.remote()))
    rate("actor_async", lambda: ray.get([counter.add.remote(1) for _ in range(1000)]), 1000)
    rate("actor_sync", lambda: ray.get(counter.add.remote(1)))
    rate("actor_ref", lambda: ray.get([counter.add.remote(one) for _ in range(1000)]), 1000)
    rate("actor_100kb", lambda: ray.get([counter.take.remote(text) for _ in range(200)]), 200)
    targets = [Counter.remote() for _ in range(2)]
    callers = [Caller.remote(targets) for _ in range(2)]
    rate("nn", lambda: ray.get([caller.drive.remote(1000, False) for caller in callers]), 2000)
    rate("nn_ref", lambda: ray.get([caller.drive.remote(1000, True) for caller in callers]), 2000)
    rate("put_small", lambda: ray.put(1))
    rate("get_small", lambda: ray.get(small))
    say("get_1mib", 1e6 / per_second(lambda: ray.get(mebi), 1, window_s), "us")
    say("wait_1000_all", 1e3 / per_second(wait_one_by_one, 1, window_s), "ms")
    values = np.ones(12_500_000)
    for _ in range(60):  # every page of the store's arena that these puts will use has been touched afterwards
        ray.put(values)
    say("put_100mb", per_second(lambda: ray.put(values), 0.1, window_s), "GB/s")
    start = time.perf_counter()
    actors = [Counter.remote() for _ in range(10)]
    ray.get([actor.add.remote(1) for actor in actors])
    say("actors_100", 10 / (time.perf_counter() - start), "/s")


def first_put(wait_s):
    values = np.ones(12_500_000)
    time.sleep(wait_s)
    start = time.perf_counter()
    ray.put(values)
    say("put_100mb_cold", 0.1 / (time.perf_counter() - start), "GB/s")


def idle():
    import bounded

    ray.get(add.remote(1, 2))
    time.sleep(6)
    kilobytes = 0
    for pid in [os.getpid(), *bounded.descendants()]:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                kilobytes += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except OSError:  # gone meanwhile
            pass
    say("idle_pss", kilobytes * 1024 / 1e6, "MB")


def main(mode, wait_s="3", window_s="1"):
    ray.init(num_cpus=CORES, _temp_dir=os.environ["PEER_SCRATCH"] + "/ray", include_dashboard=False, log_to_driver=False)
    if mode == "calls":
        calls(float(window_s))
    elif mode == "first_put":
        first_put(float(wait_s))
    elif mode == "idle":
        idle()
    elif mode == "start":
        ray.get(add.remote(1, 2))
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
