"""Seeded scenes with exact truth, and a noise model: worlds in which everything is known."""

from engine.synthetic.captions import Captions
from engine.synthetic.noise import DEFECTS, add_noise
from engine.synthetic.outlines import CLASSES
from engine.synthetic.plain import PLAIN_CLASSES, PLAIN_SIZE, PlainScene, plain_scene
from engine.synthetic.plain_captions import PlainCaptions, PlainShape
from engine.synthetic.things import WORDS, Backdrop, Shape, Word
from engine.synthetic.world import DEFAULT_SIZE, Scene, scene

__all__ = [
    "CLASSES",
    "DEFAULT_SIZE",
    "DEFECTS",
    "PLAIN_CLASSES",
    "PLAIN_SIZE",
    "WORDS",
    "Backdrop",
    "Captions",
    "PlainCaptions",
    "PlainScene",
    "PlainShape",
    "Scene",
    "Shape",
    "Word",
    "add_noise",
    "plain_scene",
    "scene",
]
