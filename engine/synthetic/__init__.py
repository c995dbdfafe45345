"""Seeded scenes with exact truth, and a noise model: a world in which everything is known."""

from engine.synthetic.captions import Captions
from engine.synthetic.noise import DEFECTS, add_noise
from engine.synthetic.outlines import CLASSES
from engine.synthetic.things import WORDS, Backdrop, Shape, Word
from engine.synthetic.world import DEFAULT_SIZE, Scene, scene

__all__ = [
    "CLASSES",
    "DEFAULT_SIZE",
    "DEFECTS",
    "WORDS",
    "Backdrop",
    "Captions",
    "Scene",
    "Shape",
    "Word",
    "add_noise",
    "scene",
]
