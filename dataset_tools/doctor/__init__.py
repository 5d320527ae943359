"""The dataset doctor: finds what is wrong with a dataset before a network learns from it.

`examine` reads every pair once (`inspection`, in worker processes), hands each one to small checks that keep only
counts and hashes, and returns a `Report` of findings; `fast` holds the part that the training stages run first.
"""
