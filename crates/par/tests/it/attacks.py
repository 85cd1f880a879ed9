"""Attempts to reach what is not the attacker's. Each says what it reached; nothing that it reaches is changed."""

import ctypes
import os
import socket

libc = ctypes.CDLL(None, use_errno=True)

# System calls by number, x86_64 and aarch64.
CALLS = {
    "unshare": (272, 97),
    "ptrace": (101, 117),
    "bpf": (321, 280),
    "keyctl": (250, 219),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
}
NEW_USER = 0x10000000


def tried(attempt):
    try:
        return attempt() is not False
    except (OSError, ValueError):
        return False


def call(name, *arguments):
    number = CALLS[name][0 if os.uname().machine == "x86_64" else 1]
    ctypes.set_errno(0)
    libc.syscall.restype = ctypes.c_long
    return libc.syscall(number, *arguments), ctypes.get_errno()


def is_refused(name, *arguments):
    # Refused by a filter, before anybody looks at the arguments.
    answer, error = call(name, *arguments)
    return answer == -1 and error in (1, 38)


def read(path):
    with open(path, "rb") as file:
        return bool(file.read(16))


def write(path):
    with open(path, "w") as file:
        file.write("")


def connected(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        attempt.settimeout(1)
        attempt.connect(address)


def opened(family, kind, protocol):
    socket.socket(family, kind, protocol).close()


def in_child(attempt):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"1" if tried(attempt) else b"0")
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 1)
    os.close(reader)
    os.waitpid(child, 0)
    return answer == b"1"


def status(field):
    with open("/proc/self/status") as file:
        lines = [line.split(":", 1) for line in file]
    return dict((name, value.strip()) for name, value in lines)[field]


def attack(bait):
    attempts = {
        "read a file": lambda: read(bait["file"]),
        "list its folder": lambda: os.listdir(os.path.dirname(bait["file"])),
        "write a file": lambda: write(bait["new_file"]),
        "see a process": lambda: os.stat("/proc/%d" % bait["victim"]),
        "signal a process": lambda: os.kill(bait["victim"], 0),
        "read a process' environment": lambda: read("/proc/%d/environ" % bait["victim"]),
        "connect to a port": lambda: connected(socket.AF_INET, ("127.0.0.1", bait["port"])),
        "connect to an abstract socket": lambda: connected(socket.AF_UNIX, "\0" + bait["name"]),
        "connect to a socket": lambda: connected(socket.AF_UNIX, bait["socket"]),
        "open a raw socket": lambda: opened(socket.AF_INET, socket.SOCK_RAW, 1),
        "open a packet socket": lambda: opened(socket.AF_PACKET, socket.SOCK_RAW, 0x300),
        "see who else is in /tmp": lambda: os.path.exists(bait["in_tmp"]),
        "see the machine's settings": lambda: read("/etc/machine-id") or read("/etc/shadow"),
        "have capabilities": lambda: int(status("CapEff"), 16) != 0,
        "have no filter": lambda: status("Seccomp") == "0",
        "raise its priority": lambda: in_child(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
        "become root": lambda: in_child(lambda: os.setresuid(0, 0, 0)),
        "make namespaces": lambda: in_child(lambda: call("unshare", NEW_USER)[0] == 0),
        "use devices": lambda: any(os.path.exists("/dev/" + name) for name in ("kmsg", "mem", "loop0", "kvm", "vda")),
        "see control groups": lambda: os.listdir("/sys/fs/cgroup"),
    }
    attempts.update(
        ("call " + name, lambda name=name: not is_refused(name, 0, 0, 0, 0, 0))
        for name in CALLS
        if name not in ("unshare", "ptrace")
    )
    return sorted(name for name, attempt in attempts.items() if tried(attempt))


def handler(body):
    return attack(body)
