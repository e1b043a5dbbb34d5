"""Question: when a student errs, is a teacher's repair of its trajectory worth more than the trajectory as it is?"""
