"""Settings, presets and what they must fit."""
