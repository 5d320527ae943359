"""Procedural street scenes with exact masks: the default dataset, so that nothing has to be downloaded.

`scene` lays out a street in metres, of the things in `objects` and the `weather`; `surfaces` says what the camera sees
of them; `render` turns a scene into an image, and `writer` writes a dataset folder. A scene is made to need context:
the colours of the classes overlap, and shape, texture and place tell them apart.
"""
