"""Random bits: how they are mixed, and how those of coming resets and steps are made ahead."""
