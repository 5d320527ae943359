"""Data on disk to (image, label) pairs: descriptions, loaders, synthesis, converters and checks.

It imports nothing of the toolkit but `fasterseg.base`. Import from the modules directly, for example
`from dataset_tools.description import load_description`. Nothing is imported here, so that the worker processes of the
synthesis start without PyTorch.
"""
