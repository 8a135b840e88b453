"""Episodes in windows, videos and pictures."""
