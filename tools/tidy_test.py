#!/usr/bin/python3
"""Shows that tools/tidy finds what it is there to find: a copy of part of the tree is clean but for what a test breaks in it."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = None  # a configured build folder, from the command line


class TidyTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.copy = pathlib.Path(tempfile.mkdtemp(prefix="manta-tidy-"))
        for name in ["common", "include"]:
            shutil.copytree(ROOT / name, cls.copy / name)
        for name in ["wire", "head", "raylet", "actors", "data", "torch"]:
            (cls.copy / name).mkdir()
            (cls.copy / name / "README.md").write_text("A folder to break rules in.\n")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.copy)

    def tidy(self, *arguments):
        result = subprocess.run([ROOT / "tools/tidy", "--root", self.copy, *arguments], capture_output=True, text=True)
        return result.returncode, result.stdout + result.stderr

    def expect_finding(self, name, text, rule, *arguments):
        """Adds a file to the copy and expects tidy to fail and to name the file and the rule."""
        path = self.copy / name
        self.assertFalse(path.exists())
        path.write_text(text)
        try:
            code, output = self.tidy(*arguments)
            self.assertEqual(code, 1, output)
            self.assertRegex(output, rf"(?m)^{name}:\d+: {rule}: ")
        finally:
            path.unlink()

    def expect_clean(self, name, text, *arguments):
        path = self.copy / name
        path.write_text(text)
        try:
            _, output = self.tidy(*arguments)
            self.assertNotIn(f"\n{name}:", "\n" + output)
        finally:
            path.unlink()

    def test_what_is_not_broken_is_clean(self):
        code, output = self.tidy()
        self.assertEqual(code, 0, output)

    def test_including_upwards(self):
        self.expect_finding("common/planted.h", '#pragma once\n#include "wire/frame.h"\n', "layer")
        self.expect_finding("wire/planted.cc", '#include "actors/codec.h"\n', "layer")
        self.expect_finding("wire/planted.cc", "#include <manta/data.h>\n", "layer")

    def test_including_a_peer(self):
        self.expect_finding("raylet/planted.cc", '#include "head/head_core.h"\n', "layer")
        self.expect_finding("data/planted.cc", '#include "torch/encoder.h"\n', "layer")

    def test_torch_reaches_less_than_its_row(self):
        self.expect_finding("torch/planted.cc", '#include "wire/frame.h"\n', "layer")
        self.expect_clean("torch/planted.cc", '#include "common/check.h"\n')

    def test_a_public_header_includes_nothing_private(self):
        self.expect_finding("include/manta/planted.h", '#pragma once\n#include "actors/codec.h"\n', "layer")

    def test_a_dependency_outside_its_folder(self):
        self.expect_finding("actors/planted.cc", "#include <torch/torch.h>\n", "dependency")
        self.expect_finding("wire/planted.cc", "#include <arrow/api.h>\n", "dependency")

    def test_downwards_is_allowed(self):
        self.expect_clean("wire/planted.cc", '#include "common/check.h"\n#include <manta/status.h>\n')

    def test_a_core_reads_no_clock(self):
        text = "auto f() { return std::chrono::steady_clock::now(); }\n"
        self.expect_finding("head/planted_core.cc", text, "core-clock")
        self.expect_clean("head/planted.cc", text)

    def test_a_core_has_no_threads_randomness_or_system_calls(self):
        self.expect_finding("head/planted_core.h", "#pragma once\nstd::mutex m;\n", "core-thread")
        self.expect_finding("head/planted_core.cc", "std::random_device seed;\n", "core-random")
        self.expect_finding("head/planted_core.cc", "int f() { return ::open(0, 0); }\n", "core-io")

    def test_banned_everywhere(self):
        self.expect_finding("common/planted.cc", "int f() { return std::rand(); }\n", "rand")
        self.expect_finding("common/planted.cc", "void f(int x) { assert(x); }\n", "assert")
        self.expect_finding("common/planted.cc", "using namespace std;\n", "using-std")
        self.expect_finding("common/planted.cc", 'void f() { printf("x"); }\n', "printf")
        self.expect_finding("common/planted.cc", "void f() { std::this_thread::sleep_for(1s); }\n", "sleep")
        self.expect_finding("common/planted.cc", "void f(char* p) { strcpy(p, p); }\n", "unsafe-c")

    def test_comments_strings_and_excuses_are_not_code(self):
        self.expect_clean("common/planted.cc", '// printf("x")\nconst char* s = "std::rand()";\nstatic_assert(true);\n')
        self.expect_clean("common/planted.cc", "void f() { usleep(1); }  // tidy: allow(sleep) because the kernel gives no event here\n")
        self.expect_finding("common/planted.cc", "void f() { usleep(1); }  // tidy: allow(sleep)\n", "sleep")

    def test_a_coroutine_lambda_with_captures(self):
        self.expect_finding("actors/planted.cc", "auto f(int x) { return [x]() -> Async<int> { co_return x; }(); }\n", "lambda-coroutine")
        self.expect_clean("actors/planted.cc", "auto f(int x) { return [](int y) -> Async<int> { co_return y; }(x); }\n")

    def test_sizes(self):
        self.expect_finding("common/planted.cc", "int x;\n" * 601, "file-length")
        self.expect_finding("common/planted.cc", "void f() {\n" + "  g();\n" * 70 + "}\n", "function-length")
        self.expect_finding("common/planted.cc", "// " + "x" * 130 + "\n", "line-width")

    def test_a_folder_without_a_readme(self):
        readme = self.copy / "common/README.md"
        text = readme.read_text()
        readme.unlink()
        try:
            code, output = self.tidy()
            self.assertEqual(code, 1)
            self.assertIn("common: readme:", output)
        finally:
            readme.write_text(text)

    def test_a_header_that_does_not_compile_alone(self):
        if BUILD is None:
            self.skipTest("no build folder given")
        flags = ["--build", BUILD, "--build-root", ROOT]
        self.expect_finding("common/planted.h", "#pragma once\ninline std::string f() { return {}; }\n", "self-contained", *flags)
        self.expect_clean("common/planted.h", "#pragma once\n#include <string>\ninline std::string f() { return {}; }\n", *flags)


if __name__ == "__main__":
    if "--build" in sys.argv:
        at = sys.argv.index("--build")
        BUILD = os.path.abspath(sys.argv[at + 1])
        del sys.argv[at:at + 2]
    unittest.main()
