"""A .pte run from the file, in torch, where this host lacks the backend of its delegates.

    file.py      the program: plans, values, constants, the payload of each delegate
    method.py    a plan: its instructions, one after the other, in memory as it was planned
    kernels.py   ops that no delegate has, which are the CPU's
    vulkan.py    the payload of a Vulkan delegate, and vulkan_ops.py, what its ops compute
    coreml.py    that of a Core ML delegate: a package, which the evaluator of runtimes/coreml runs
    parts.py     a bundle's program as parts

What comes out proves graphs, constants, placement and memory plans that were written. It proves
nothing of kernels: none of the GPU or NPU runs here.
"""
