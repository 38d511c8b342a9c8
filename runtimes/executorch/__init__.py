"""ExecuTorch: one .pte for phones and micro-NPUs."""
