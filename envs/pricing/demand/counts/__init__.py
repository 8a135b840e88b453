"""Regressions of units sold: likelihoods, curves, regressors, missing zeros, prices that follow demand, intervals."""
