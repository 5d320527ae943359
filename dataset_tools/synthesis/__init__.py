"""Procedural street scenes with exact masks: the default dataset, so that nothing has to be downloaded.

`scene` lays out a street in metres, `camera` projects it, `objects` shape its movable things, `texture` colours
surfaces, `weather` is the light and the air, `render` turns a scene into an image, and `writer` writes a dataset
folder. A scene is made to need context: the colours of the classes overlap, and shape, texture and place tell them
apart.
"""
