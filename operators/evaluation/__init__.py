"""Gold columns of a labelled corpus as the arrays that losses and metrics take.

`gold` reads the columns; `gold_tags` and `gold_answers` compare entities and answers with them.
Import `Gold` from `gold`, `gold_tags` from `gold_tags`, and `count_answers` from `gold_answers`.
"""
