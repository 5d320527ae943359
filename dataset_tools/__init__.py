"""Data on disk to (image, label) pairs: descriptions, loaders, synthesis, converters and checks.

The lowest room next to `fasterseg.networks`: it imports nothing else of the toolkit. Import from the modules directly,
for example `from dataset_tools.description import load_description`; nothing is imported here so that the worker
processes of the synthesis start without PyTorch.
"""
