"""A smaller model for what it will be asked: narrower heads and MLPs, fewer classes (NuWa)."""
