"""Converters: a public dataset as it is distributed to a dataset folder of ours, one module per source.

A converter lists its pairs and classes and leaves the writing to `output`.
"""
