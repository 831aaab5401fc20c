"""Features of an activation function that cost no training: its outputs and its Fisher spectrum.

Nothing is re-exported here, so that `features.outputs`, which needs NumPy alone, does not load what
`features.fisher` needs.
"""
