"""The road from a melody to a song.

`melody`: a score -> what the network hears. `models.model.answer`: the network's raw answer.
`decoding`: the answer -> notes, by a named rule. `arrangement`: notes -> a song. `song`: files.
`accompany` walks the middle of it in one call.
"""
