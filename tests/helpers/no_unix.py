"""This process made to look to the package's own code as one on Windows does: what only Unix has is missing.

Other packages see the system as it is, and so does a path: it is none with drives and backslashes.
"""

from __future__ import annotations

import builtins
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Container, Mapping, Sequence
from types import ModuleType
from typing import Any

_MODULES = (
    "curses",
    "fcntl",
    "grp",
    "posix",
    "pty",
    "pwd",
    "readline",
    "resource",
    "syslog",
    "termios",
    "tty",
)
# Python's documentation of these says "Availability: Unix", or "not Windows".
_OS = """
    chown chroot confstr ctermid eventfd fchdir fchown fdatasync fork forkpty fpathconf fstatvfs getegid
    geteuid getgid getgroups getloadavg getpgid getpgrp getpriority getrandom getresgid getresuid getsid
    getuid initgroups killpg lchown lockf major makedev memfd_create minor mkfifo mknod nice openpty
    pathconf pidfd_open pipe2 posix_fadvise posix_fallocate posix_openpt posix_spawn posix_spawnp pread
    preadv pwrite pwritev readv register_at_fork sched_getaffinity sched_getparam sched_getscheduler
    sched_setaffinity sched_setscheduler sched_yield sendfile setegid seteuid setgid setgroups setpgid
    setpriority setregid setresgid setresuid setreuid setsid setuid splice statvfs sync sysconf
    tcgetpgrp tcsetpgrp ttyname uname wait wait3 wait4 waitid writev
""".split()  # noqa: SIM905 - as a list it would be a page
_SIGNAL = """
    alarm getitimer pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigtimedwait
    sigwait sigwaitinfo
""".split()  # noqa: SIM905 - as a list it would be a page
_FLAGS = ("O_", "RTLD_", "P_", "ST_", "SCHED_", "POSIX_", "EX_", "WN", "WU")
_WINDOWS_FLAGS = {
    *("O_APPEND", "O_CREAT", "O_EXCL", "O_RDONLY", "O_RDWR", "O_TRUNC", "O_WRONLY"),
    *("P_NOWAIT", "P_NOWAITO", "P_WAIT"),
}
_WINDOWS_SIGNALS = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM"}
_KERNEL_SOURCES = "densenets.ops.backends.cpp.sources"  # names the kernels' library
_BREAK = 21  # the number of Ctrl-Break; of a terminal's signal here, which nobody sends


class _Changed(ModuleType):
    """A module that lacks some names, and has some with other values."""

    def __init__(self, module: ModuleType, lacking: Container[str] = (), **values: Any) -> None:
        super().__init__(module.__name__)
        self._module, self._lacking = module, lacking
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        if name in self._lacking:
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}' on Windows")
        return getattr(self._module, name)


def pretend_windows() -> None:
    """Change what the package imports from now on; workers of data loaders are spawned, not forked."""
    multiprocessing.set_start_method("spawn")
    python_import = builtins.__import__

    def windows_import(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        importer = str((globals or {}).get("__name__", ""))
        if importer.partition(".")[0] == "densenets":
            if name in _MODULES:
                raise ModuleNotFoundError(f"no module named '{name}' on Windows", name=name)
            if name in windows:
                return windows[name]
        module = python_import(name, globals, locals, fromlist or (), level)
        return _Changed(module, LIBRARY="not built") if name == _KERNEL_SOURCES else module

    windows = {module.__name__: module for module in _windows_modules()}
    builtins.__import__ = windows_import  # type: ignore[assignment]


def _windows_modules() -> list[ModuleType]:
    flags = {name for name in dir(os) if name.startswith(_FLAGS)} - _WINDOWS_FLAGS
    signals = {one.name for one in signal.Signals} - _WINDOWS_SIGNALS
    return [
        _Changed(os, {*_OS, *flags}, name="nt"),
        _Changed(platform, libc_ver=lambda: ("", ""), system=lambda: "Windows"),
        _Changed(signal, {*_SIGNAL, *signals}, SIGBREAK=_BREAK, CTRL_BREAK_EVENT=_BREAK),
        _Changed(subprocess, CREATE_NEW_PROCESS_GROUP=0x200),
        _Changed(sys, platform="win32"),
    ]
