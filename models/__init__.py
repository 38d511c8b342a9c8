"""Sources into exported models, and tensors back into words. Nothing else knows model families."""
