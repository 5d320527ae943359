"""Looking at a dataset: contact sheets of images with their masks laid over, before and after augmentation."""
