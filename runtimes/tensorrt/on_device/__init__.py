"""What builds and runs a bundle's engines on the device: Python 3.8, numpy, TensorRT, libcudart.

The files of this package travel in the bundle. No edgevlm is installed on a Jetson, so nothing here
imports more of it than `compiler/{generate,promise,errors}.py`, which travel with them.
"""
