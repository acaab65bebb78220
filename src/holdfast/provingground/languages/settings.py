"""World 2 as something to pretrain on."""

from pathlib import Path

from holdfast.provingground.languages.tokenizer import build_tokenizer
from holdfast.provingground.languages.world import draw_conversation
from holdfast.provingground.pretrain import PretrainingSettings, World

HERE = Path(__file__).parent
TEXTS = ("lexicon.py", "frames.py", "grammar.py", "world.py", "tokenizer.py")
WORLD = World("languages", build_tokenizer, draw_conversation, tuple(HERE / name for name in TEXTS))
# Two layers rather than three: in the same time they tell harmful requests from benign ones more firmly. More steps do
# so too: with 1,100 what is learnt of harmful requests spreads to benign ones, with 1,500 hardly.
PRETRAINING = PretrainingSettings(steps=1300, tokens_per_step=900, hidden_size=96, layers=2)
