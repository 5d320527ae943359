"""The dataset doctor: finds what is wrong with a dataset before a network learns from it.

`examine` runs everything: `inspection` reads every pair once, in worker processes, and keeps counts and hashes alone;
`pair_checks` and `dataset_checks` find what is wrong; `findings` lists what can be found; `report` shows it.
"""
