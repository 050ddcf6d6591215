"""What torch writes: ``torch.save`` files old and new, TorchScript, ``torch.export`` archives."""
