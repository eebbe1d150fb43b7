"""Input attribution: which pixels did the classifier use, and is the explanation right?

`classifiers` and `images` load networks and pixels, `copies` runs many altered copies of an image,
`attribution` and `evaluation` hold one paper or protocol per file, and `reports` turns a notebook
into a page. Dependencies run one way: notebooks -> evaluation -> attribution -> copies ->
classifiers.
"""
