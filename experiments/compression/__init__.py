"""Question: in how many bytes can what a session taught be carried, and by what?"""
