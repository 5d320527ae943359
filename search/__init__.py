"""Architecture search: the supernet, its pretraining, the search itself and what is derived from it.

Read in this order: `parameters` (what is searched), `cells` and `supernet` (the network that holds every choice),
`expected_latency` (what a choice costs), `pretrain` and `trainer` (how it is trained), `budget` and `fitting` (how the
student comes to meet its budget).
"""
