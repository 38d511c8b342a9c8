"""Qualcomm's tools (QAIRT): what they are called with, and what comes back.

sequence.py  the command lines of a profile, as data     run.py    them, over a connection
names.py     what QNN calls its events                   rows.py   events -> rows and layers
text.py      qnn-profile-viewer's text                   table.py  its CSV, and ONNX Runtime's
optrace.py   chrometrace of an op trace                  qhas.py   the HTP analysis summary
"""
