"""Manta and Ray on this machine, in turn: python versus.py BUILD_DIR [ROW...].

PEERS names a folder whose v/bin/python has ray (2.60 is what the goals are about); with the wheel ray_cpp in it Ray's C++ API runs as
well. MANTA_BENCH_ROUNDS (5) sets the rounds, MANTA_BENCH_QUICK=1 takes one with short windows. In every round each side starts fresh
processes, the order turns with the rounds, and nothing of Ray is left when its turn ends (bounded.py). Losses are printed like wins."""
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import bounded
from table import number, print_lines, spread

HERE = pathlib.Path(__file__).resolve().parent
QUICK = "MANTA_BENCH_QUICK" in os.environ
ROUNDS = int(os.environ.get("MANTA_BENCH_ROUNDS", "1" if QUICK else "5"))
WINDOW_S = "0.3" if QUICK else "1"
WAIT_S = "3"  # before a cold put, on both sides
LIMIT_S = 600

# name of the row (as `bench core` has it), what it says, unit, how many times better than Ray it should be
ROWS = [
    ("tasks_batch", "tasks, submit 1,000 then get all", "/s", 50),
    ("task_sync", "task, one at a time", "/s", 50),
    ("task_1mb", "task returning 1 MB, one at a time", "/s", None),
    ("actor_async", "actor calls 1:1, 1,000 then get all", "/s", 50),
    ("actor_sync", "actor call, one at a time", "/s", 50),
    ("actor_ref", "actor calls 1:1 with a Ref argument", "/s", 50),
    ("actor_100kb", "actor calls with 100 KB by value", "/s", 50),
    ("nn", "calls 2:2, callers in workers", "/s", 50),
    ("nn_ref", "calls 2:2 with a Ref argument", "/s", 50),
    ("put_small", "put of a small object", "/s", 50),
    ("get_small", "get of a small object", "/s", 50),
    ("get_1mib", "get of a 1 MiB object", "us", None),
    ("wait_1000_all", "submit 1,000 and wait one by one", "ms", None),
    ("actors_100", "actors made and called (100; Ray: 10)", "/s", 50),
    ("put_100mb_cold", "put, 100 MB, the first, after 3 s", "GB/s", 3),
    ("put_100mb", "put, 100 MB, warm", "GB/s", 1),
    ("start_exit", "node: start, first task, clean exit", "ms", 20),
    ("idle_pss", "idle node, PSS of all processes", "MB", 20),
]
NAMES = {row[0] for row in ROWS}


class Side:
    """One contender: the figures of each row so far, and why it stopped, if it did."""

    def __init__(self, name):
        self.name, self.figures, self.trouble = name, {}, []

    def take(self, said):
        for line in said.splitlines():
            name, tab, rest = line.partition("\t")
            if tab and name in NAMES:  # Ray says other things, too
                self.figures.setdefault(name, []).append(float(rest.split("\t")[0]))

    def attempt(self, what, work):
        try:
            work()
        except bounded.Failed as error:
            self.take(error.said)
            self.trouble.append(f"{self.name}, {what}: {error}")

    def median(self, row):
        return statistics.median(self.figures[row]) if row in self.figures else None


class Manta(Side):
    def __init__(self, build):
        super().__init__("Manta")
        self.program = str(pathlib.Path(build).resolve() / "bin" / "bench_core")

    def round(self, rows):
        env = {"MANTA_BENCH_TSV": "1", "MANTA_BENCH_ROUNDS": "1" if QUICK else "3"}
        self.attempt("bench_core", lambda: self.take(bounded.run([self.program, *rows], LIMIT_S, env)[0]))


class RayPython(Side):
    def __init__(self, python):
        super().__init__("Ray, Python driver")
        self.python = python

    def run(self, mode):
        return bounded.run([self.python, str(HERE / "ray_rows.py"), mode, WAIT_S, WINDOW_S], LIMIT_S, {"PYTHONPATH": str(HERE)})

    def round(self, rows):
        others = {"put_100mb_cold": "first_put", "idle_pss": "idle"}
        modes = {others.get(row, "calls") for row in rows if row != "start_exit"}
        for mode in sorted(modes):
            self.attempt(mode, lambda: self.take(self.run(mode)[0]))
        if "start_exit" in rows:
            self.attempt("start", lambda: self.figures.setdefault("start_exit", []).append(self.run("start")[1] * 1e3))


class RayCpp(Side):
    """Built here, against the wheel, with the flags it was built with."""

    def __init__(self, folder, build):
        super().__init__("Ray, C++ driver")
        self.folder, self.lib = build, f"{folder}/lib"
        source, flags = str(HERE / "ray_rows.cc"), ["-std=c++17", "-O2", "-D_GLIBCXX_USE_CXX11_ABI=0", f"-I{folder}/include", f"-L{self.lib}"]
        for name, more in (("ray_rows", ["-lpthread"]), ("ray_rows.so", ["-fPIC", "-shared"])):
            words = ["g++", *flags, "-o", f"{build}/{name}", source, *more, "-lray_api", f"-Wl,-rpath,{self.lib}"]
            result = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False)
            if result.returncode != 0:
                raise bounded.Failed(f"does not build: {result.stderr[-400:]}")

    def run(self, rows, path):
        env = {"ROWS": rows, "WINDOW_S": WINDOW_S, "CPUS": str(os.cpu_count()), "LD_LIBRARY_PATH": self.lib, "PATH": path}
        return bounded.run([f"{self.folder}/ray_rows", f"--ray_code_search_path={self.folder}/ray_rows.so"], LIMIT_S, env)

    def round(self, rows):
        path = f"{os.environ['PEERS']}/v/bin:{os.environ['PATH']}"  # it starts its head with the program `ray`
        if set(rows) - {"put_100mb_cold", "idle_pss", "start_exit"}:
            self.attempt("calls", lambda: self.take(self.run("calls", path)[0]))
        if "start_exit" in rows:
            self.attempt("start", lambda: self.figures.setdefault("start_exit", []).append(self.run("start", path)[1] * 1e3))


def ratio(row, unit, manta, rays):
    """How many times better Manta's median is than the better of Ray's, or nothing."""
    ours, theirs = manta.median(row), [ray.median(row) for ray in rays if ray.median(row)]
    if not ours or not theirs:
        return None
    return ours / max(theirs) if unit.endswith("/s") else min(theirs) / ours


def print_table(rows, manta, rays):
    sides = [manta, *rays]
    lines = [["least / median / most", "", *(side.name for side in sides), "ratio", "goal"]]
    for row, title, unit, goal in rows:
        times = ratio(row, unit, manta, rays)
        reached = "" if not goal else f">= {goal}" + (" !" if times and times < goal else "")
        lines.append([title, unit, *(spread(side.figures.get(row)) for side in sides), number(times) if times else "-", reached])
    print_lines(lines)
    print("ratio: how many times better Manta's median is than the better of Ray's; below 1 it is worse")
    for side in [manta, *rays]:
        for trouble in side.trouble:
            print("failed:", " ".join(trouble.split()))


def make_rays(build):
    peers = os.environ.get("PEERS")
    python = f"{peers}/v/bin/python"
    if not peers or not os.access(python, os.X_OK):
        return []
    said = subprocess.run([python, "-c", "import ray; print(ray.__version__, ray.__path__[0])"], capture_output=True, text=True,
                          timeout=60, check=False)
    if said.returncode != 0:
        return []
    version, folder = said.stdout.split()
    print(f"Ray {version}, {os.cpu_count()} cores, {ROUNDS} rounds in turn")
    rays = [RayPython(python)]
    if os.path.exists(f"{folder}/cpp/include/ray/api.h"):
        try:
            rays.append(RayCpp(f"{folder}/cpp", build))
        except bounded.Failed as error:
            print(f"Ray's C++ API is not measured: it {error}")
    else:
        print("Ray's C++ API is not measured: the wheel ray_cpp is not installed")
    return rays


def main(build, *names):
    rows = [row for row in ROWS if not names or row[0] in names]
    with tempfile.TemporaryDirectory(prefix="manta-versus-") as folder:
        manta, rays = Manta(build), make_rays(folder)
        if not rays:
            return print("versus: skipped, PEERS names no environment with ray (bench/README.md says how to make one)")
        sides = [manta, *rays]
        for index in range(ROUNDS):
            for side in sides if index % 2 == 0 else reversed(sides):
                print(f"round {index + 1} of {ROUNDS}: {side.name}", file=sys.stderr, flush=True)
                side.round([row[0] for row in rows])
        return print_table(rows, manta, rays)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
