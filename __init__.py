"""edgevlm compiles a vision-language model for one named edge device, proves it and measures it."""

import os

__version__ = "0.1.0"

# ONNX Runtime from 1.29 on tells its maker of every session, and keeps a device id for that. What
# is compiled here is nobody else's business, and a measurement wants a quiet machine. Set it to 0
# to allow it. https://github.com/microsoft/onnxruntime/pull/27379
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
