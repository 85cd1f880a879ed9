"""NumPy, pandas and matplotlib in a session.

Where they are not installed, these stories are left out with a word on standard error. They are not skipped: the
worker's test of this folder refuses skipped tests. How figures are taken is also told with a stand-in, everywhere.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
import unittest

from session_worker import SessionTest, SessionWorker

PACKAGES = ("numpy", "pandas", "matplotlib")
STAND_IN = """
open_figures = {}
closed = []
class Figure:
    def __init__(self, number, broken): self.number, self.broken = number, broken
    def savefig(self, file, format):
        if self.broken: raise ValueError("no ink")
        file.write(b"\\x89PNG %d" % self.number)
def get_fignums(): return sorted(open_figures)
def figure(number, broken=False): return open_figures.setdefault(number, Figure(number, broken))
def close(which):
    closed.append("all" if which == "all" else which.number)
    open_figures.clear() if which == "all" else open_figures.pop(which.number)
"""


class StandIn(SessionTest):
    def start_with_pyplot(self) -> SessionWorker:
        folder = tempfile.mkdtemp(prefix="par-session-test-")
        self.addCleanup(shutil.rmtree, folder)
        os.mkdir(f"{folder}/matplotlib")
        open(f"{folder}/matplotlib/__init__.py", "w").close()
        with open(f"{folder}/matplotlib/pyplot.py", "w", encoding="utf-8") as file:
            file.write(STAND_IN)
        worker = self.start(site=[folder], bytecode=f"{folder}/bytecode")
        worker.run("import matplotlib.pyplot as plt")
        return worker

    def test_open_figures_are_returned_and_closed(self) -> None:
        worker = self.start_with_pyplot()
        result = worker.run("plt.figure(1); plt.figure(7)\n'value'")
        self.assertEqual(result.extras, {"_": "value", "figure_1": b"\x89PNG 1", "figure_2": b"\x89PNG 7"})
        self.assertEqual(worker.run("plt.closed").extras, {"_": [1, 7]})

    def test_figures_of_a_failed_run_are_dropped(self) -> None:
        worker = self.start_with_pyplot()
        self.assertEqual(worker.run("plt.figure(1)\n1/0").extras, {})
        self.assertEqual(worker.run("x = 1").extras, {})

    def test_a_figure_that_cannot_be_drawn_is_said_to(self) -> None:
        worker = self.start_with_pyplot()
        result = worker.run("plt.figure(1, True); plt.figure(2)")
        self.assertTrue(result.ok)
        self.assertEqual(result.extras.pop("figure_1"), b"\x89PNG 2")
        worker.wait_for_output("stderr", b"figure_1 cannot be drawn: ValueError: no ink\n")

    def test_a_figure_that_does_not_fit_is_named(self) -> None:
        worker = self.start_with_pyplot()
        result = worker.run("f = plt.figure(1)\nf.savefig = lambda file, format: file.write(b'x' * (2 << 20))\nNone")
        self.assertTrue(result.extras["figure_1"].endswith(" … (too large to return)"))

    def test_figures_are_drawn_without_a_screen_unless_told_otherwise(self) -> None:
        code = "import os\nos.environ['MPLBACKEND']"
        self.assertEqual(self.start().value(code), "Agg")
        self.assertEqual(self.start(env={"MPLBACKEND": "svg"}).value(code), "svg")


class Real(SessionTest):
    def start_with_packages(self) -> SessionWorker:
        return self.start(site=[sysconfig.get_path("purelib")], bytecode=os.path.join(tempfile.gettempdir(), "unused"))

    def test_numpy_and_pandas(self) -> None:
        worker = self.start_with_packages()
        result = worker.run(
            "import numpy as np, pandas as pd\n"
            "i, f, b, s, t = np.int64(3), np.float32(1.5), np.bool_(True), np.str_('s'), np.datetime64('2024-01-02')\n"
            "mixed = [np.int8(1), {'k': np.float64(2.5)}]\nkeyed = {np.int64(4): 1}\n"
            "long = np.longdouble(1)\narray = np.arange(3)\nframe = pd.DataFrame({'a': [1, 2]})\nframe['a'].mean()"
        )
        self.assertTrue(result.ok, result)
        self.assertEqual(result.extras, {"_": 1.5})
        for name, value in (("i", 3), ("f", 1.5), ("b", True), ("s", "s"), ("mixed", [1, {"k": 2.5}]), ("keyed", {4: 1})):
            self.assertEqual(result.variables[name], value)
            self.assertIn(name, result.opaque)
        self.assertEqual(result.variables["array"], "array([0, 1, 2])")
        self.assertIn("a\n0", result.variables["frame"])
        self.assertEqual(sorted(result.opaque), sorted(["_", *result.variables]))
        self.assertEqual(worker.run("frame.loc[0, 'a'] = 9; array[0] = 9\n1/0").changed, ["array", "frame"])

    def test_matplotlib(self) -> None:
        worker = self.start_with_packages()
        result = worker.run(
            "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nplt.figure()\nplt.plot([1])\nNone"
        )
        self.assertTrue(result.ok, result)
        self.assertEqual(sorted(result.extras), ["figure_1", "figure_2"])
        for picture in result.extras.values():
            self.assertTrue(picture.startswith(b"\x89PNG"))
        self.assertEqual(worker.value("plt.get_fignums()"), [])


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        return tests
    print(f"test_session_libraries: without {', '.join(missing)}, only the stand-in's stories", file=sys.stderr)
    return loader.loadTestsFromTestCase(StandIn)


if __name__ == "__main__":
    unittest.main()
