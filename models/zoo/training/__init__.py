"""What the trainers of the bundled models share: model, prompt, packing, loop, checkpoint."""
