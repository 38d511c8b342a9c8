"""A .pte timed on a phone or board over adb or ssh, by ExecuTorch's own runner.

there.py    files there, one program, files back, everything removed again
runner.py   which runner: found there or brought, its flags as its --help says them
profile.py  one method of a .pte, run so many times -> its ETDump -> rows
"""
