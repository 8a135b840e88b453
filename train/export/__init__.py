"""Trained agents as files for use elsewhere: writing, confirming and reading them.

``contract`` and ``policy_file`` import no PyTorch, so that a program that only uses a policy needs none.
"""
