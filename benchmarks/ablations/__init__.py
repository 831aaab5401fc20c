"""The settings that are the defaults, each beside others, on Act-Bench tables.

`python -m benchmarks.ablations.features` asks how functions are measured,
`python -m benchmarks.ablations.searching` how they are searched; a table a question, and the answer
in a sentence.
"""
