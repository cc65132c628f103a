"""Figures of one chapter alone, and their numbers; what chapters share is in `chexlib.plots`.

The package stands beside the notebooks, whose working folder is ``book/``: there it is imported as
``figures``, such as ``from figures import training as draw``.
"""
