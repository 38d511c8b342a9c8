"""TensorRT on Jetson and other NVIDIA GPUs."""
