"""What all rooms share: files, experiment files, errors, console, images, normalisation. Imports no other room."""
