"""The process that opens a file with a native parser: `python -m` this module, and a job.

Parsers of HDF5 and of protocol buffers are native code, which a file that was made to do harm can crash, or
keep busy without end. So it happens here, within limits of memory and time. Arrays go to a safetensors file,
which holds nothing but numbers, what else the file says to standard output as JSON. Needs no PyTorch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from densenets.errors import InputError
from densenets.process_limits import allow_more_addresses, limit_process
from densenets.schema import read
from densenets.weights.formats.native_content import NativeJob

_MEMORY = 2**30  # bytes of addresses that any file may take: the packages alone take a seventh of it
_MEMORY_PER_BYTE = 16  # of the file: its content, parsed, as arrays, and as the file that they are written to


def main() -> None:
    """Do the job of the command line."""
    job = read(NativeJob, json.loads(sys.argv[1]), "not a job")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # each thread takes memory, and there is nothing to compute
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # no filters but HDF5's own: others are libraries, looked for
    limit_process(_MEMORY + _MEMORY_PER_BYTE * Path(job.path).stat().st_size, job.seconds)
    try:
        sys.stdout.write(json.dumps(do_job(job)) + "\n")
    except InputError as error:
        sys.stderr.write(f"densenets: {error}\n")
        sys.exit(2)
    except MemoryError:
        sys.stderr.write("densenets: it takes more memory than a file of its size may\n")
        sys.exit(2)


def do_job(job: NativeJob) -> dict[str, Any]:
    """Write a file's arrays, each under its number, and return what else it says, as JSON can hold it."""
    from safetensors.numpy import save_file

    content, arrays = _content(job)
    save_file({str(number): array for number, array in enumerate(arrays)}, job.arrays)
    return dataclasses.asdict(content)


def _content(job: NativeJob) -> tuple[Any, list[Any]]:
    path = Path(job.path)
    if job.format == "hdf5":
        from densenets.weights.formats.hdf5_content import read_hdf5

        return read_hdf5(path)
    from densenets.weights.formats.onnx_content import read_onnx_content

    return read_onnx_content(path, _allow_more_memory)


def _allow_more_memory(size: int) -> None:
    """Allow as much more memory as further files of some bytes may take."""
    allow_more_addresses(_MEMORY_PER_BYTE * size)


if __name__ == "__main__":
    main()
