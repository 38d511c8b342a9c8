"""A .pte timed on a phone or board over adb or ssh, by ExecuTorch's own runner.

there.py    files there, one program, files back, everything removed again
runner.py   which runner: found there or brought, its flags as its --help says them
opened.py   a .pte with its runner there, whose methods are timed: ETDump -> rows, outputs
profile.py  one method of a .pte, and away again
bench.py    all methods of a bundle, on the numbers of one request
"""
