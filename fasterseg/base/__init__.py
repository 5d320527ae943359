"""What every room shares: files, experiment files, errors, console, images, normalisation. It knows no other room."""
