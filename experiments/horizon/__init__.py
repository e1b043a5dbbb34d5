"""Question: what is learned in short chains worth in chains that are many times as long?"""
