"""Networks, data and training for AQuaSurF, on Lightning."""

import warnings

# Lightning 2.6 asks torch 2.11 and newer for a class that torch renamed, at every fit. Nothing here
# or in a user's code can change that; https://github.com/Lightning-AI/pytorch-lightning/issues/21326
warnings.filterwarnings(
    "ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated", category=FutureWarning
)
