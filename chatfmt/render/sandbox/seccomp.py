"""Lock this process: irrevocably give up files, network, new processes and unlimited memory.

Linux: resource limits, then Landlock (landlock(7)) if the kernel has it, which by itself forbids access to files,
addresses and signals, then `no_new_privs` and a seccomp filter (seccomp(2), Documentation/userspace-api/seccomp_filter)
that allows some thirty system calls and answers EPERM to the rest. Elsewhere: whatever resource limits there are.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

ALLOWED = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
        "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25, "madvise": 28,
        "nanosleep": 35, "getpid": 39, "exit": 60, "gettimeofday": 96, "getrusage": 98, "times": 100,
        "sigaltstack": 131, "gettid": 186, "futex": 202, "restart_syscall": 219, "clock_gettime": 228,
        "clock_nanosleep": 230, "exit_group": 231, "getrandom": 318,
    },
    "aarch64": {
        "close": 57, "lseek": 62, "read": 63, "write": 64, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98,
        "nanosleep": 101, "clock_gettime": 113, "clock_nanosleep": 115, "sched_yield": 124, "restart_syscall": 128,
        "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153,
        "getrusage": 165, "gettimeofday": 169, "getpid": 172, "gettid": 178, "brk": 214, "munmap": 215, "mremap": 216,
        "mmap": 222, "mprotect": 226, "madvise": 233, "getrandom": 278,
    },
}  # fmt: skip
"""The system calls that an interpreter without files needs, with their numbers, by machine."""
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
SECCOMP_MODE_FILTER = 2
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER, ARCHITECTURE, THIRD_ARGUMENT = 0, 4, 32  # offsets in struct seccomp_data
PROT_EXEC = 4

CREATE_RULESET, RESTRICT_SELF = 444, 446
"""Landlock's system call numbers, the same on every machine."""
LANDLOCK_FILES = (13, 14, 15, 15, 16)
"""The number of file access rights (LANDLOCK_ACCESS_FS_*) in ABI versions 1 to 5; later ones have no fewer."""
LANDLOCK_NET_SINCE, LANDLOCK_SCOPE_SINCE = 4, 6

LEVELS = ("process", "rlimits", "seccomp", "seccomp+landlock")
"""Isolation levels, weakest first."""


def lock_process(memory: int) -> str:
    """Lock this process for good and return the level in force. `memory` is in bytes of address space."""
    limited = _set_resource_limits(memory)
    if sys.platform == "linux":
        landlocked = _enforce_landlock()
        if _install_filter():
            return "seccomp+landlock" if landlocked else "seccomp"
    return "rlimits" if limited else "process"


def _set_resource_limits(memory: int) -> bool:
    try:
        import resource
    except ImportError:  # Windows
        return False
    limits = {"RLIMIT_AS": memory, "RLIMIT_FSIZE": 0, "RLIMIT_NOFILE": 16, "RLIMIT_CORE": 0, "RLIMIT_NPROC": 0}
    done = True
    for name, value in limits.items():
        try:
            resource.setrlimit(getattr(resource, name), (value, value))
        except (AttributeError, ValueError, OSError):  # macOS has no RLIMIT_AS
            done = False
    return done


def _enforce_landlock() -> bool:
    """Give up every right that Landlock handles, with an empty ruleset; return whether the kernel did so."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1 or libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    files = (1 << LANDLOCK_FILES[min(version, len(LANDLOCK_FILES)) - 1]) - 1
    network, scope = (3 if version >= since else 0 for since in (LANDLOCK_NET_SINCE, LANDLOCK_SCOPE_SINCE))
    # struct landlock_ruleset_attr { __u64 handled_access_fs, handled_access_net, scoped; }, shorter in old kernels
    size = 24 if scope else 16 if network else 8
    rules = libc.syscall(CREATE_RULESET, struct.pack("QQQ", files, network, scope), size, 0)
    return rules >= 0 and not libc.syscall(RESTRICT_SELF, rules, 0)


def _install_filter() -> bool:
    machine = os.uname().machine
    if machine not in ALLOWED or struct.calcsize("P") != 8:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    program = build_filter(machine)
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog { unsigned short len; struct sock_filter *filter; }
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    return not libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)


def build_filter(machine: str) -> bytes:
    """Return the BPF program: kill on another architecture, refuse executable memory, then apply the list of calls."""
    calls = ALLOWED[machine]
    code = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, ARCHITECTURES[machine]), (RETURN, 0, 0, KILL)]
    code += [(LOAD, 0, 0, NUMBER)]
    code += [(EQUAL, 1, 0, calls["mmap"]), (EQUAL, 0, 3, calls["mprotect"])]
    code += [(LOAD, 0, 0, THIRD_ARGUMENT), (ANY_BIT, len(calls) + 1, 0, PROT_EXEC), (LOAD, 0, 0, NUMBER)]
    ordered = sorted(calls.values())
    code += [(EQUAL, len(ordered) - index, 0, number) for index, number in enumerate(ordered)]
    code += [(RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)
