"""Question: how much of what many copies with a right to restore are worth do dreams give back to one copy?"""
