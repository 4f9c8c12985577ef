"""words: 24 tasks without images, in language, numbers and knowledge; made from lists of words and from arithmetic."""
