"""scenes-tiny: a LLaVA of under 2 M parameters for pictures of three to six things."""
