"""Question: what of a dream matters, at equal real transitions and an equal dream ratio?"""
