"""Nonlinear least squares: the front door, what is evaluated, the linear model and its step, what accepts steps."""
