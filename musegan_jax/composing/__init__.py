"""From a melody to a song.

`melody`: a score -> the network's condition. `models.model.answer`: the network's raw answer.
`decoding`: the answer -> notes, by a named rule. `arrangement`: notes -> a song. `song`: files.
`accompany`: network and decoding in one call.
"""
