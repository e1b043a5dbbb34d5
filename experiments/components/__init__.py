"""Question: which components of EfficientZero does the student owe its return to, at equal real transitions?"""
