"""ExecuTorch: a .pte for phones and boards, and what its profilers say of it."""
