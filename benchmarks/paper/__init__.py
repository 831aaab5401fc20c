"""The figures of the AQuaSurF paper (Bingham and Miikkulainen, 2023), drawn from Act-Bench tables.

A script a figure: `python -m benchmarks.paper.figure1`, and so on.
"""
