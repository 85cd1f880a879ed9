"""`python -I -S -X utf8 …/par_session/__main__.py`, with the worker's channel as standard input."""

import sys

if __name__ == "__main__":
    folder = __file__.rpartition("/")[0]
    parent = folder.rpartition("/")[0]
    # Started as a folder, Python puts that folder first; its modules are ours alone, by their full names.
    sys.path[:] = [entry for entry in sys.path if entry != folder]
    sys.path.append(parent)

    from par_session.own_builtins import load_with_own_builtins

    load_with_own_builtins((parent, folder, f"{parent}/par_harness"))

    from par_session.start import run

    run()
