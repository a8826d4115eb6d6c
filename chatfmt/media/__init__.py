"""Images, videos and audio of conversations: content parts stand for media, and columns hold them.

`attach` brings the ways in which datasets spell media into one form, that of TRL: in the conversation a part
`{"type": "image"}`, and in the column `images` (`videos`, `audios`) the list of the row's media in the order of their
parts. `mentioned` tells from a sample which columns that makes. `follow` keeps the columns in step with conversations
that were changed afterwards. `to_tags` goes the way back, for trainers that look for `<image>` in the text.
"""

from .attach import attach
from .columns import by_value, mentioned
from .follow import follow
from .parts import MEDIUM_KEYS
from .tags import to_tags
