"""Views and adapters between our environments and Gymnasium's and Stable-Baselines3's interfaces."""
