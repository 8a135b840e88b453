"""Regressions of units sold: likelihoods, curves, regressors, missing zeros and prices that follow demand."""
