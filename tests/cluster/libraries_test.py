"""Programs whose shared libraries go along: submitted jobs and drivers that join, on a cluster where nobody else has them."""
import hashlib
import json
import os
import shutil
import subprocess
import time
import unittest

from cluster import BIN, DEADLINE_S, Cluster, wait_until

LIBRARY = BIN.parent / "linked" / "libcluster_linked_library.so"


class PackageTest(unittest.TestCase):

    def setUp(self):
        self.cluster = Cluster(nodes=3)
        self.visitor = self.cluster.visitor("driver")
        # What the client has and the nodes have not.
        self.libraries = self.cluster.folder / "client" / "lib"
        self.libraries.mkdir(parents=True)
        shutil.copy(LIBRARY, self.libraries)
        self.program = self.cluster.folder / "client" / "cluster-linked"
        shutil.copy(BIN / "cluster-linked", self.program)

    def tearDown(self):
        if any(error for _, error in getattr(self._outcome, "errors", [])) or getattr(self._outcome, "result", None) is None:
            print(self.cluster.logs())
        self.cluster.close()

    def submit(self, *words, code=0, libraries=True):
        env = dict(self.visitor.environment)
        if libraries:
            env["LD_LIBRARY_PATH"] = str(self.libraries)
        done = subprocess.run([*self.visitor.prefix, str(BIN / "manta"), "submit", *map(str, words)], capture_output=True,
                              text=True, stdin=subprocess.DEVNULL, env=env, timeout=DEADLINE_S)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def start_submit(self, *words):
        return subprocess.Popen([*self.visitor.prefix, str(BIN / "manta"), "submit", *map(str, words)], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
                                env={**self.visitor.environment, "LD_LIBRARY_PATH": str(self.libraries)})

    def state(self):
        return json.loads(self.visitor.ask("jobs", "-o", "json"))["rows"][0]["state"]

    def part(self):
        """The library as the head keeps it."""
        return self.cluster.folder / "state" / "programs" / hashlib.sha256(LIBRARY.read_bytes()).hexdigest()

    def check_found(self, said, tasks):
        places = [line.split(" from ")[1] for line in said.splitlines() if " 42 from " in line]
        self.assertEqual(len(places), tasks + 1, said)
        for place in places:
            self.assertIn("/lib/" + LIBRARY.name, place)
            self.assertFalse(place.startswith(str(self.libraries)), place)

    def test_a_submitted_program_brings_its_libraries(self):
        job = self.submit("--package", self.program, 20).stdout.strip()
        self.libraries.rename(self.libraries.with_name("elsewhere"))
        self.check_found(self.visitor.ask("logs", "-f", job), 20)

    def test_what_another_program_brought_is_not_uploaded_again(self):
        self.submit("--package", "--wait", self.program, "exit")
        before = self.part().stat()
        with open(self.program, "ab") as file:
            file.write(b"another program")
        self.check_found(self.submit("--package", "--wait", self.program, 8).stdout, 8)
        after = self.part().stat()
        self.assertEqual((before.st_ino, before.st_mtime_ns), (after.st_ino, after.st_mtime_ns))

    def test_without_it_the_error_says_what_is_missing_and_what_to_try(self):
        done = self.submit("--wait", self.program, "exit", code=127)
        self.assertIn(f"{self.program.name}: error while loading shared libraries: {LIBRARY.name}", done.stderr)
        self.assertIn("--package", done.stderr)
        done = self.submit("--package", self.program, code=1, libraries=False)
        self.assertRegex(done.stderr, f"finds no {LIBRARY.name}, needed by .*{self.program.name}")

    def test_a_killed_client_loses_nothing_of_what_it_has_uploaded(self):
        with open(self.libraries / LIBRARY.name, "ab") as file:
            file.write(os.urandom(192 << 20))
        name = hashlib.sha256((self.libraries / LIBRARY.name).read_bytes()).hexdigest()
        part = self.cluster.folder / "state" / "programs" / (name + ".part")
        words = ["--package", "--key", "k", "--wait", self.program, 4]
        first = self.start_submit(*words)
        wait_until(lambda: part.exists() and part.stat().st_size > 8 << 20)
        first.kill()
        first.communicate()
        self.assertFalse(part.with_suffix("").exists())
        came = part.stat().st_size
        self.assertEqual(self.state(), "submitted")
        second = self.start_submit(*words)
        wait_until(lambda: part.stat().st_size > came if part.exists() else part.with_suffix("").exists())
        said, errors = second.communicate(timeout=DEADLINE_S)
        self.assertEqual(second.returncode, 0, errors)
        self.check_found(said, 4)

    def test_a_part_that_is_not_what_it_says_is_refused(self):
        self.submit("--package", "--wait", self.program, "exit")
        with open(self.program, "ab") as file:
            file.write(b"another program, which has another folder")
        damaged = bytearray(self.part().read_bytes())
        damaged[1000] ^= 1
        self.part().write_bytes(damaged)
        for node in self.cluster.nodes[1:]:  # those that have it from before
            node.kill()
        self.cluster.add().wait_for("mantad: joined ")
        done = self.submit("--package", "--wait", self.program, "exit", code=125)
        self.assertIn("is not the part of the program that was promised", done.stderr)

    def test_a_driver_that_joins_brings_its_libraries(self):
        env = {**self.cluster.environment(), "LD_LIBRARY_PATH": str(self.libraries)}
        words = [*self.cluster.driver_prefix, str(self.program), "20"]
        done = subprocess.run([*words, "--manta-package"], capture_output=True, text=True, env=env, timeout=DEADLINE_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.splitlines()
        self.assertIn(str(self.libraries), lines[0])
        self.check_found("\n".join([lines[0].replace(str(self.libraries), "/lib"), *lines[1:]]), 20)
        env = {**self.cluster.environment(), "LD_LIBRARY_PATH": str(self.libraries)}
        done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=DEADLINE_S)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(LIBRARY.name, done.stderr)
        self.assertIn("MANTA_PACKAGE=1", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
