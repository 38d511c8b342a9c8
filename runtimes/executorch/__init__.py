"""ExecuTorch: one program (.pte) for phones and small NPUs, run on this host where it can be."""
