"""World 2 as something to pretrain on."""

from pathlib import Path

from holdfast.provingground.languages.tokenizer import build_tokenizer
from holdfast.provingground.languages.world import draw_conversation
from holdfast.provingground.pretrain import PretrainingSettings, World

HERE = Path(__file__).parent
TEXTS = ("lexicon.py", "frames.py", "grammar.py", "world.py", "tokenizer.py")
WORLD = World("languages", build_tokenizer, draw_conversation, tuple(HERE / name for name in TEXTS))
# Two wide layers: with as much time, three layers learn which things are refused more by heart, and what is learnt of
# harmful requests then spreads to benign ones.
PRETRAINING = PretrainingSettings(steps=1500, tokens_per_step=900, hidden_size=96, layers=2)
