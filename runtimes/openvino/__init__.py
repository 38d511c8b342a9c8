"""OpenVINO on the host CPU."""
