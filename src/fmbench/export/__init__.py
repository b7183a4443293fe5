"""Export a trained model for use without fmbench: ONNX or torch.export, with its certificate."""
