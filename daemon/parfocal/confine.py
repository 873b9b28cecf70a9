"""Limits that a child sets on itself before it touches anything untrusted."""

import ctypes
import resource
import sys


def limit_memory(max_bytes: int) -> None:
    """Bound the address space of this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, hard))


def limit_cpu(seconds: int) -> None:
    """Let this process use this many more seconds of processor time, then be killed."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, KEEP_BYTES = -1, -3, 1 << 29


def keep_memory() -> None:
    """Have the allocator keep freed pages: fresh ones for each frame cost 3 ms of page faults."""
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
        libc.mallopt(M_MMAP_THRESHOLD, KEEP_BYTES)


MEMORY_LIMIT = 2 * 1024**3
"""Address space of a reader beyond the shared crops; a 64-megapixel colour frame fits."""
