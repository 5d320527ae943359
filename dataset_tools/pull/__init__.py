"""Getting data that somebody else keeps: a folder, an archive, a download or a git repository, into a folder of ours.

`fetch` decides what an address is; `archive`, `download` and `repository` each do one kind.
"""
