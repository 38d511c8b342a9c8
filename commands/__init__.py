"""The verbs of the command line, one file each; the only layer that sees all the others."""
