"""A server of exported policies, which imports no PyTorch."""
