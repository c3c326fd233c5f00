"""Runs a peer's program so that nothing of it is left: a time limit, and every process it started ended by its id.

Ray's daemons detach from the program that started them, so a program that hangs or is killed would leave a whole node behind. We are
therefore the subreaper of what we start: whatever is orphaned becomes our child, and can be found and ended. One run at a time."""
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PR_SET_CHILD_SUBREAPER = 36


class Failed(Exception):
    """The program failed or took too long; the text has the end of its complaints, `said` what it printed until then."""

    def __init__(self, why, said=""):
        super().__init__(why)
        self.said = said


def descendants():
    """The ids of all processes below this one that still run."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
            except OSError:  # gone meanwhile
                continue
            if state != "Z":
                children.setdefault(int(parent), []).append(int(name))
    found, frontier = [], [os.getpid()]
    while frontier:
        below = children.get(frontier.pop(), [])
        found += below
        frontier += below
    return found


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        pass


def end_all(patience_s=10.0):
    """Ends what we started: asked to at first, then made to. True when there was nothing left to end."""
    clean = True
    for sign in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + patience_s
        for pid in descendants():
            clean = False
            try:
                os.kill(pid, sign)
            except OSError:
                pass
        while descendants() and time.monotonic() < until:
            reap()
            time.sleep(0.05)
    reap()
    return clean


def run(words, limit_s, env=None):
    """Runs a program with a scratch folder in $PEER_SCRATCH; its standard output and how many seconds it took to its own end."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` below is reached
    scratch = tempfile.mkdtemp(prefix="mb-", dir="/tmp")  # short: a Unix socket's path has 107 bytes
    own = dict(os.environ, RAY_USAGE_STATS_ENABLED="0", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", RAY_DATA_DISABLE_PROGRESS_BARS="1")
    own.update(env or {}, PEER_SCRATCH=scratch)
    try:
        start = time.perf_counter()
        with open(os.path.join(scratch, "stderr"), "w+b") as errors:
            process = subprocess.Popen(words, env=own, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True)
            try:
                out, _ = process.communicate(timeout=limit_s)
            except subprocess.TimeoutExpired as late:
                raise Failed(f"took more than {limit_s:.0f} s", (late.stdout or b"").decode(errors="replace")) from None
            seconds = time.perf_counter() - start
            if process.returncode != 0:
                errors.seek(0)
                raise Failed(f"ended with {process.returncode}: {errors.read().decode(errors='replace')[-600:]}", out)
        return out, seconds
    finally:
        end_all()
        shutil.rmtree(scratch, ignore_errors=True)


def main(limit_s, *words):
    try:
        sys.stdout.write(run(words, float(limit_s))[0])
    except Failed as error:
        sys.stdout.write(error.said)
        raise SystemExit(f"{words[0]}: {error}") from None


if __name__ == "__main__":
    main(*sys.argv[1:])
