"""Converters: a set in another form to a dataset folder of ours, one module per form.

To add a form:

1. Write `convert/NAME.py` with a function `read_NAME`. It lists the source as a `source.SourceDataset`: images, how
   each mask is made, and classes. `painting` makes masks of objects, `pairing` matches files by their names.
2. Give it a command in `commands`: a function under `@_format("NAME")`.

`output` writes the masks, the same for all forms.
"""
