"""The C++ backend of the fused dense block, for the CPU: its library and the Python side of its calls.

The library is built when the package is installed, if there is a compiler, and has code for several
instruction sets; the best that the machine runs is taken. It has no OpenMP runtime of its own: its teams of
threads are those of the runtime that PyTorch has already loaded.
"""
