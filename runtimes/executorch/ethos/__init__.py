"""Arm Ethos-U: a part lowered by ExecuTorch and Vela, its TOSA graph run on this host.

    part as .pt2 -> lower.py (a job in the environment `ethos`)
                      quantise.py   int8 by calibration, unless the part is quantised already
                      delegates.py  what went to the NPU and what did not; Vela for each delegate
                 -> NAME.pte, and for each delegate NAME.N.tosa, .summary.csv, .layers.csv
    vela.py         reads those CSVs (the main environment): labelled estimated-vela
    tosa.py         runs the TOSA graphs in Arm's reference model: the numbers, not the times

What runs here is the graph that Vela was given. The command stream that Vela makes of it runs on
the device, or on Arm's FVP, alone.

    graph.py        how the nodes of a lowered program are told apart
"""
