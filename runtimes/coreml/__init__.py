"""Core ML: packages for the Neural Engine of iPhones and Macs, executed and judged without either.

    package.py         coremltools, found and imported quietly
    mlpackage.py       a .mlpackage folder, checked before anything is believed
    mil_types.py       types of MIL, and how their values are held here
    mil_functions.py   the program in it: functions, ops, what they take and give
    blob_file.py       weights/weight.bin, read by byte
    constants.py       constants of the program as tensors
    ops/               the table of what every op computes, a file for each family
    arguments.py       how the arguments of an op reach its handler
    mil_plan.py        a function as a list of calls
    stored.py          results checked and rounded to their types
    mil_state.py       states (the KV cache), shared by functions
    mil_evaluator.py   MilProgram: runs what was emitted, on any machine
    lint.py            ops that likely leave the Neural Engine, predicted; ane_rules.py macs.py
    convert.py         parts -> a package; lowerings.py: what coremltools is told of ours
    preflight.py       the same as the table that a compile shows
    ports.py parts.py  a package as parts of a model, by the evaluator; on_mac.py: by Core ML
    mac.py             a Mac that runs programs for us: this one, or over ssh
    compute_plan.py    where a Mac says that ops run      } asked for there with scripts/, and
    benchmark.py       how long it takes there            } parsers of what it says
    xctrace.py         tables of Instruments              } plain_xml.py ane_intervals.py

Nothing of Core ML runs outside macOS and iOS: `predict` of coremltools is not there on Linux.
"""
