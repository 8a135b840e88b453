"""The conformance checker: each rule that agents rely on, kept or broken."""
