"""`python -I -S …/par_harness/__main__.py`, with the worker's channel as standard input."""

import sys

if __name__ == "__main__":
    folder = __file__.rpartition("/")[0]
    # Started as a folder, Python puts that folder first; its modules are ours alone, by their full names.
    sys.path[:] = [entry for entry in sys.path if entry != folder]
    sys.path.append(folder.rpartition("/")[0])

    from par_harness.start import run

    run()
