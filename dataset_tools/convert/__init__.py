"""Converters: a set in another form to a dataset folder of ours, one module per form.

A format module lists its source (`source.SourceDataset`): images, how each mask is made, and classes. `output` writes
it, the same for all; `painting` and `regions` make masks of objects, `pairing` matches files by their names, and
`commands` gives each form its command.
"""
