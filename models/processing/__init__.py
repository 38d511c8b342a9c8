"""What happens to a picture and to a question before the compiled graphs see them, and back again.

No torch and no transformers: a bundle runs on a board where neither is installed, and the same
code answers on the host, so that "it worked here" says something about there.
"""
