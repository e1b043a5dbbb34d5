"""Question: at equal real transitions, how far do more dreams carry the student, and when do they stop to?"""
