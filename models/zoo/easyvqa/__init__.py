"""easyvqa-tiny: a real LLaVA of under 2.4 M parameters, its trainer, scenes and evaluation."""
