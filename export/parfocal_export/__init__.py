"""The door from training to the daemon: a checkpoint becomes a verified ONNX bundle."""
